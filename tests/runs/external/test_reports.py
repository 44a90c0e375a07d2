"""An outside program reports its run: what is accepted, who may do it, and what people did meanwhile."""

import pytest
from django.contrib.auth.models import Permission
from rest_framework.test import APIClient

from graphs.auth.callers import SYSTEM
from graphs.definition import errors, uuids
from graphs.models import NamespaceMembership
from runs.actions import annotate
from runs.engine import control, lease_recovery
from runs.external import documents, updates
from runs.external.run_state import RunStatus
from runs.health import verify
from runs.models import OUTSIDE, AuditEntry, Checkpoint
from tests.support.runs import outside


@pytest.mark.django_db
def test_an_outside_program_reports_its_run(api_client):
    run = outside(run_id="theirs")
    url = "/runs/theirs/mark"
    for node, event, more in (
        ("plan", "started", {}),
        ("plan", "completed", {"output": {"steps": 2}}),
        ("act", "started", {}),
    ):
        answer = api_client.post(url, {"node": node, "event": event, **more}, format="json")
        assert answer.status_code == 200, answer.json()
    run.refresh_from_db()
    assert (run.status, run.current_node, run.pending_count, run.success_count, run.progress) == (
        "running",
        "act",
        1,
        1,
        5,
    )
    assert {(row.identifier, row.status, row.node) for row in run.states.all()} == {
        ("plan", "SUCCESS", OUTSIDE),
        ("act", "QUEUED", OUTSIDE),
    }
    assert lease_recovery.rescue_expired() == 0, "nobody but its program gives up what it does"
    document = api_client.get("/runs/theirs/checkpoint").json()
    document |= {
        "status": "completed",
        "completed_nodes": ["plan", "act"],
        "tool_results_cache": {"theirs:1:search:x": {"found": 3}},
    }
    document["node_states"]["act"] |= {"status": "completed", "output_data": {"done": True}}
    assert api_client.put("/runs/theirs/checkpoint", document, format="json").json() == document
    run.refresh_from_db()
    assert (run.status, run.progress, run.pending_count, run.error_message) == (
        "completed",
        100,
        0,
        "",
    )
    assert run.tool_results.get().result == {"found": 3}
    late = api_client.put(
        "/runs/theirs/checkpoint", document | {"status": "running"}, format="json"
    )
    assert (late.status_code, late.json()["allowed"]) == (409, [])
    assert not list(verify.verify())


@pytest.mark.django_db
def test_what_a_person_did_meanwhile_stands_in_the_document():
    run = outside()
    updates.mark(run, "a", "started", SYSTEM)
    control.cancel_run(run, SYSTEM)
    state = documents.run_state(run)
    assert (state.status, state.node_states["a"].status) == ("cancelled", "cancelled")
    with pytest.raises(errors.Conflict, match="The run is cancelled"):
        updates.mark(run, "a", "completed", SYSTEM)
    other = outside()
    updates.mark(other, "a", "started", SYSTEM)
    annotate.set_status(other, SYSTEM, "failed", "It hangs.")
    assert documents.run_state(other).status == "failed"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"run_id": "another"}, 422), ({"node_states": {"n" * 201: {"node_id": "n"}}}, 422), ({"current_step": -1}, 422), ({"max_steps": 2**31}, 422),
        ({"version": 9}, 422), ({"session_id": "s" * 201}, 422), ({"surprise": 1}, 422), ({"data": {"deep": "\x00"}}, 422),
    ],
)  # fmt: skip
def test_bad_reports_change_nothing(api_client, change, status):
    run = outside(run_id="r")
    answer = api_client.put(
        "/runs/r/checkpoint", {"run_id": "r", "status": "running"} | change, format="json"
    )
    assert answer.status_code == status, answer.json()
    run.refresh_from_db()
    assert (run.status, run.revision, Checkpoint.objects.count()) == ("queued", 0, 0)


@pytest.mark.django_db
def test_who_may_not_see_payloads_gets_no_document(api_client, django_user_model):
    run = outside(run_id="r")
    viewer = django_user_model.objects.create_user("viewer", is_staff=True)
    NamespaceMembership.objects.create(user=viewer, namespace=run.namespace, role="viewer")
    viewer_client = APIClient()
    viewer_client.force_login(viewer)
    assert api_client.get("/runs/r/checkpoint").status_code == 200
    assert viewer_client.get("/runs/r/checkpoint").status_code == 403
    assert (
        viewer_client.post(
            "/runs/r/mark", {"node": "a", "event": "started"}, format="json"
        ).status_code
        == 403
    )


@pytest.mark.django_db
def test_pausing_ends_nothing(api_client):
    """Between two nodes nothing of the program's run is unfinished; that is no end."""
    run = outside(run_id="r")
    assert control.pause_run(run, SYSTEM).status == "paused"
    assert (
        api_client.put(
            "/runs/r/checkpoint", {"run_id": "r", "status": "running"}, format="json"
        ).json()["status"]
        == "paused"
    ), "the program learns of it"
    updates.mark(run, "a", "started", SYSTEM)
    updates.mark(run, "a", "failed", SYSTEM, error="once more")
    run.refresh_from_db()
    assert (run.status, run.paused) == ("paused", True)
    assert control.resume_run(run, SYSTEM).status == "running"
    assert documents.run_state(run).status == "running"
    state = documents.run_state(run)
    state.status = RunStatus.PAUSED
    updates.put_run_state(run, state, SYSTEM)
    with pytest.raises(errors.Conflict, match="program paused the run"):
        control.resume_run(run, SYSTEM)


@pytest.mark.django_db
def test_a_clock_that_goes_back_loses_no_report(monkeypatch):
    run = outside()
    updates.mark(run, "a", "started", SYSTEM)
    real = uuids.time_ns
    monkeypatch.setattr(uuids, "time_ns", lambda: real() - 3_000_000_000)
    updates.mark(run, "a", "completed", SYSTEM, {"x": 1})
    state = updates.mark(run, "b", "started", SYSTEM)
    assert {name: node.status for name, node in state.node_states.items()} == {
        "a": "completed",
        "b": "running",
    }
    assert run.states.get(identifier="a").outputs == {"x": 1}


@pytest.mark.django_db
def test_many_results_do_not_choke_the_run(api_client):
    run = outside(run_id="r")
    for number in range(4):
        document = {
            "run_id": "r",
            "status": "running",
            "tool_results_cache": {f"k{number}": "x" * 700_000},
        }
        assert api_client.put("/runs/r/checkpoint", document, format="json").status_code == 200
    for _ in range(30):
        updates.mark(run, "a", "failed", SYSTEM, error="e" * 100_000)
    assert len(api_client.get("/runs/r/checkpoint").json()["tool_results_cache"]) == 4
    assert (
        api_client.put(
            "/runs/r/checkpoint",
            {"run_id": "r", "tool_results_cache": {"k" * 1501: 1}},
            format="json",
        ).status_code
        == 422
    )


@pytest.mark.django_db
def test_reporting_needs_the_rights_to_see_and_to_cancel(django_user_model):
    run = outside(run_id="r")
    user = django_user_model.objects.create_user("starter", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_run", "add_run"]))
    client = APIClient()
    client.force_login(user)
    assert (
        client.post("/runs/r/mark", {"node": "a", "event": "started"}, format="json").status_code
        == 403
    )
    user.user_permissions.add(Permission.objects.get(codename="view_payload"))
    client.force_login(django_user_model.objects.get(pk=user.pk))
    assert (
        client.post("/runs/r/mark", {"node": "a", "event": "started"}, format="json").status_code
        == 200
    )
    assert (
        client.put(
            "/runs/r/checkpoint", {"run_id": "r", "status": "cancelled"}, format="json"
        ).status_code
        == 403
    )
    assert AuditEntry.objects.filter(run=run.pk, action="report").count() == 1
