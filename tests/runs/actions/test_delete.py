"""One rule decides who may delete a run, whichever way the request comes in."""

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import timezone

from graphs.auth.callers import PERMISSIONS, SYSTEM, caller_of_user
from runs.actions import bulk, bulk_runner, delete
from runs.engine import control
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.manager.run_tools import tools_of
from runs.models import AuditEntry, Run, State, Tombstone

pytestmark = pytest.mark.django_db
ENDED = {"status": "completed", "finished_at": "2026-01-01T00:00Z"}
API = "/admin/run-manager/runs"


@pytest.fixture
def run(namespace):
    run = start_outside(namespace, RunOptions(run_id="r1"))
    Run.objects.filter(pk=run.pk).update(**ENDED)
    run.refresh_from_db()
    return run


@pytest.fixture
def alice(client):
    """A staff user without rights, who is logged in."""
    user = User.objects.create_user("alice", is_staff=True)
    client.force_login(user)
    return user


def grant(user, rights):
    codenames = [PERMISSIONS[right].partition(".")[2] for right in rights]
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return User.objects.get(pk=user.pk)


def call_function(client, user, run):
    delete.delete_run(run, caller_of_user(user))


def call_batch(client, user, run):
    delete.delete_runs([run.pk], caller_of_user(user))


def call_bulk(client, user, run):
    bulk_runner.run_inline(bulk.ask("delete", {"pk": [run.pk]}, caller_of_user(user, "page")))


def call_api(client, user, run):
    client.delete(f"/runs/{run.run_id}")


def call_manager_api(client, user, run):
    body = {"thread_ids": [run.run_id]}
    client.delete(API, body, content_type="application/json")


def call_manager_api_with_post(client, user, run):
    body = {"thread_ids": [run.run_id]}
    client.post(f"{API}/bulk-delete", body, content_type="application/json")


def call_bulk_api(client, user, run):
    body = {"action": "delete", "ids": [run.run_id]}
    client.post("/admin/run-manager/bulk-operations", body, content_type="application/json")
    bulk_runner.run_waiting(10)


def call_page(client, user, run):
    url = reverse("run_manager_bulk", args=["delete"])
    client.post(url, {"run": [run.pk], "confirmed": "1"})


WAYS_TO_DELETE = [
    call_function,
    call_batch,
    call_bulk,
    call_api,
    call_manager_api,
    call_manager_api_with_post,
    call_bulk_api,
    call_page,
]


@pytest.mark.parametrize("delete_run", WAYS_TO_DELETE)
def test_the_right_to_delete_is_enough(client, alice, run, delete_run):
    delete_run(client, grant(alice, ["view", delete.DELETE_RIGHT]), run)
    assert not Run.objects.exists()
    assert Tombstone.objects.filter(run_id="r1").exists()


@pytest.mark.parametrize("delete_run", WAYS_TO_DELETE)
def test_nothing_is_deleted_without_the_right_to_delete(client, alice, run, delete_run):
    user = grant(alice, PERMISSIONS.keys() - {delete.DELETE_RIGHT})
    try:
        delete_run(client, user, run)
    except Exception as error:
        assert type(error).__name__ == "Forbidden"
    assert Run.objects.exists()


@pytest.mark.parametrize("delete_run", WAYS_TO_DELETE)
def test_every_way_to_delete_obeys_may_delete(client, alice, run, delete_run, monkeypatch):
    user = grant(alice, PERMISSIONS)
    monkeypatch.setattr(delete, "may_delete", lambda caller, namespace_id: False)
    try:
        delete_run(client, user, run)
    except Exception as error:
        assert type(error).__name__ == "Forbidden"
    assert Run.objects.exists()


@pytest.mark.parametrize("delete_run", WAYS_TO_DELETE)
def test_an_active_run_is_not_deleted(client, alice, run, delete_run):
    Run.objects.update(status="running", finished_at=None)
    try:
        delete_run(client, grant(alice, PERMISSIONS), run)
    except Exception as error:
        assert type(error).__name__ == "Conflict"
    assert Run.objects.exists()


@pytest.mark.parametrize("allowed", [True, False])
def test_the_run_page_offers_to_delete_only_with_the_right_to_delete(alice, run, allowed):
    all_others = PERMISSIONS.keys() - {delete.DELETE_RIGHT}
    rights = ["view", delete.DELETE_RIGHT] if allowed else all_others
    caller = caller_of_user(grant(alice, rights))
    tool = next(tool for tool in tools_of(run, caller).menu if tool.label == "Delete")
    assert (tool.reason == "") == allowed == delete.may_delete(caller, run.namespace_id)


def test_a_tombstone_is_renewed_when_its_id_is_deleted_again(namespace, run):
    Tombstone.objects.create(
        namespace=namespace, run_id="r1", run=1, actor="before", at="2025-01-01T00:00Z", files=False
    )
    delete.delete_run(run)
    tombstone = Tombstone.objects.get(run_id="r1")
    assert (tombstone.run, tombstone.actor) == (run.pk, "system")
    assert abs((timezone.now() - tombstone.at).total_seconds()) < 60


def delete_by_id(client, query):
    return client.delete(f"/runs/r1?{query}").status_code


def delete_by_list(client, query):
    body = {"thread_ids": ["r1"], **dict(pair.split("=") for pair in query.split("&") if pair)}
    answer = client.delete(API, body, content_type="application/json")
    if answer.status_code != 200:
        return answer.status_code
    return 204 if answer.json()["deleted_count"] else 409


@pytest.mark.parametrize("remove", [delete_by_id, delete_by_list])
@pytest.mark.parametrize("status", ["queued", "running", "paused", "waiting"])
def test_an_active_run_is_deleted_only_where_the_request_says_so(
    admin_client, publish, drain, status, remove
):
    kind = "test.ask" if status == "waiting" else "noop"
    run = start_run(publish("a", kinds={"a": kind}), RunOptions(run_id="r1"))
    if status == "waiting":
        drain()
    elif status == "paused":
        control.pause_run(run, SYSTEM)
    elif status == "running":
        Run.objects.update(status="running", started_at=timezone.now())
    for query in ("", "active=keep"):
        assert remove(admin_client, query) == 409
    assert remove(admin_client, "active=yes") == 422
    assert Run.objects.exists()
    assert remove(admin_client, "active=delete") == 204
    assert not Run.objects.exists()
    assert not State.objects.exists()
    actions = AuditEntry.objects.filter(run=run.pk, actor="admin").order_by("pk")
    assert list(actions.values_list("action", flat=True)) == ["cancel", "delete"]
    assert drain() == 0


def test_deleting_an_active_run_needs_the_right_to_cancel_it(client, alice, publish):
    start_run(publish("a"), RunOptions(run_id="r1"))
    grant(alice, ("view", "start", "delete"))
    assert client.delete("/runs/r1?active=delete").status_code == 403
    assert Run.objects.exists()
    grant(alice, ("view", "start", "delete", "cancel"))
    assert client.delete("/runs/r1?active=delete").status_code == 204
