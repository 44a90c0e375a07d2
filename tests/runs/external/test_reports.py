"""Outside programs report on their runs.

What they may report, which rights they need, and what happens if people change the run meanwhile.
"""

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
def test_an_outside_program_reports_its_run(api_client, own_storage):
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
    assert (run.status, run.current_node, run.progress) == ("running", "act", 5)
    assert (run.pending_count, run.success_count) == (1, 1)
    assert {(state.identifier, state.status, state.node) for state in run.states.all()} == {
        ("plan", "SUCCESS", OUTSIDE),
        ("act", "QUEUED", OUTSIDE),
    }
    assert lease_recovery.rescue_expired() == 0, (
        "the sweeper leaves the states of outside programs alone"
    )
    document = api_client.get("/runs/theirs/checkpoint").json()
    document |= {
        "status": "completed",
        "completed_nodes": ["plan", "act"],
        "tool_results_cache": {"theirs:1:search:x": {"found": 3}},
    }
    document["node_states"]["act"] |= {"status": "completed", "output_data": {"done": True}}
    assert api_client.put("/runs/theirs/checkpoint", document, format="json").json() == document
    run.refresh_from_db()
    assert (run.status, run.progress) == ("completed", 100)
    assert (run.pending_count, run.error_message) == (0, "")
    assert run.tool_results.get().result == {"found": 3}
    late = api_client.put(
        "/runs/theirs/checkpoint", document | {"status": "running"}, format="json"
    )
    assert (late.status_code, late.json()["allowed"]) == (409, [])
    assert not list(verify.verify())


@pytest.mark.django_db
def test_the_document_shows_that_a_person_cancelled_the_run():
    run = outside()
    updates.mark(run, "a", "started", SYSTEM)
    control.cancel_run(run, SYSTEM)
    state = documents.run_state(run)
    assert (state.status, state.node_states["a"].status) == ("cancelled", "cancelled")
    with pytest.raises(errors.Conflict, match="The run is cancelled"):
        updates.mark(run, "a", "completed", SYSTEM)


@pytest.mark.django_db
def test_the_document_shows_the_status_that_a_person_set():
    run = outside()
    updates.mark(run, "a", "started", SYSTEM)
    annotate.set_status(run, SYSTEM, "failed", "It hangs.")
    assert documents.run_state(run).status == "failed"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"run_id": "another"}, 422),
        ({"node_states": {"n" * 201: {"node_id": "n"}}}, 422),
        ({"current_step": -1}, 422),
        ({"max_steps": 2**31}, 422),
        ({"version": 9}, 422),
        ({"session_id": "s" * 201}, 422),
        ({"surprise": 1}, 422),
        ({"data": {"deep": "\x00"}}, 422),
    ],
)
def test_bad_reports_change_nothing(api_client, change, status):
    run = outside(run_id="r")
    answer = api_client.put(
        "/runs/r/checkpoint", {"run_id": "r", "status": "running"} | change, format="json"
    )
    assert answer.status_code == status, answer.json()
    run.refresh_from_db()
    assert (run.status, run.revision, Checkpoint.objects.count()) == ("queued", 0, 0)


@pytest.mark.django_db
def test_a_run_that_counts_as_partial_goes_on_like_a_failed_one(api_client):
    run = outside(run_id="theirs")
    updates.mark(run, "plan", "started", SYSTEM)
    run = annotate.set_status(run, SYSTEM, "partial", "Half of it is done.")
    document = documents.run_state(run)
    assert document.status == RunStatus.FAILED
    updates.put_run_state(run, document, SYSTEM)  # the program says what it was told
    run.refresh_from_db()
    assert run.status == "partial"
    updates.mark(run, "plan", "completed", SYSTEM)
    run.refresh_from_db()
    assert run.status == "running"


@pytest.mark.django_db
def test_the_document_needs_the_right_to_see_payloads(api_client, django_user_model):
    run = outside(run_id="r")
    viewer = django_user_model.objects.create_user("viewer", is_staff=True)
    NamespaceMembership.objects.create(user=viewer, namespace=run.namespace, role="viewer")
    viewer_client = APIClient()
    viewer_client.force_login(viewer)
    assert api_client.get("/runs/r/checkpoint").status_code == 200
    assert viewer_client.get("/runs/r/checkpoint").status_code == 403
    mark = viewer_client.post("/runs/r/mark", {"node": "a", "event": "started"}, format="json")
    assert mark.status_code == 403


@pytest.mark.django_db
def test_pausing_between_two_nodes_does_not_end_the_run(api_client):
    """At that moment the run has no unfinished states."""
    run = outside(run_id="r")
    assert control.pause_run(run, SYSTEM).status == "paused"
    document = {"run_id": "r", "status": "running"}
    answer = api_client.put("/runs/r/checkpoint", document, format="json")
    assert answer.json()["status"] == "paused", "the answer tells the program about the pause"
    updates.mark(run, "a", "started", SYSTEM)
    updates.mark(run, "a", "failed", SYSTEM, error="once more")
    run.refresh_from_db()
    assert (run.status, run.paused) == ("paused", True)
    assert control.resume_run(run, SYSTEM).status == "running"
    assert documents.run_state(run).status == "running"


@pytest.mark.django_db
def test_a_run_that_its_program_paused_is_not_resumed_by_people():
    run = outside()
    updates.mark(run, "a", "started", SYSTEM)
    state = documents.run_state(run)
    state.status = RunStatus.PAUSED
    updates.put_run_state(run, state, SYSTEM)
    with pytest.raises(errors.Conflict, match="program paused the run"):
        control.resume_run(run, SYSTEM)


@pytest.mark.django_db
def test_a_clock_that_goes_back_loses_no_report(monkeypatch):
    run = outside()
    updates.mark(run, "a", "started", SYSTEM)
    time_ns = uuids.time_ns
    monkeypatch.setattr(uuids, "time_ns", lambda: time_ns() - 3_000_000_000)
    updates.mark(run, "a", "completed", SYSTEM, {"x": 1})
    state = updates.mark(run, "b", "started", SYSTEM)
    assert {name: node.status for name, node in state.node_states.items()} == {
        "a": "completed",
        "b": "running",
    }
    assert run.states.get(identifier="a").outputs == {"x": 1}


@pytest.mark.django_db
def test_a_run_may_have_many_results_and_long_errors(api_client):
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


@pytest.mark.django_db
def test_the_key_of_a_result_has_a_maximum_length(api_client):
    outside(run_id="r")
    document = {"run_id": "r", "tool_results_cache": {"k" * 1501: 1}}
    answer = api_client.put("/runs/r/checkpoint", document, format="json")
    assert answer.status_code == 422


@pytest.mark.django_db
def test_reporting_needs_the_rights_to_see_and_to_cancel(django_user_model):
    run = outside(run_id="r")
    user = django_user_model.objects.create_user("starter", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_run", "add_run"]))
    client = APIClient()
    client.force_login(user)
    report = {"node": "a", "event": "started"}
    assert client.post("/runs/r/mark", report, format="json").status_code == 403

    user.user_permissions.add(Permission.objects.get(codename="view_payload"))
    client.force_login(django_user_model.objects.get(pk=user.pk))
    assert client.post("/runs/r/mark", report, format="json").status_code == 200
    cancelled = {"run_id": "r", "status": "cancelled"}
    assert client.put("/runs/r/checkpoint", cancelled, format="json").status_code == 403
    assert AuditEntry.objects.filter(run=run.pk, action="report").count() == 1
