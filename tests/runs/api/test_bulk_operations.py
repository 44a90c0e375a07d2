"""Bulk operations, saved views and the details of runs over REST, and commands that do the same."""

import json
from io import StringIO

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from graphs.auth import api_keys
from graphs.auth.callers import SYSTEM
from runs.actions import bulk, bulk_runner, delete
from runs.actions.rerun import rerun
from runs.engine.new_run import RunOptions
from runs.engine.node_context import run_folder
from runs.engine.start import start_outside
from runs.models import BulkOperation, Checkpoint, Run, Tombstone
from runs.queries.search import parse
from tests.support.api_client import ApiClient

pytestmark = pytest.mark.django_db
BULK = "/admin/run-manager/bulk-operations"


@pytest.fixture
def admin(namespace):
    return ApiClient(api_keys.create_key((), "admin")[1])


@pytest.fixture
def ended(namespace):
    runs = [start_outside(namespace, RunOptions(run_id=f"thread_{at}")) for at in range(5)]
    Run.objects.update(status="completed", finished_at=timezone.now())
    return runs


def test_an_operation_is_previewed(admin, ended):
    status, preview = admin(
        "POST", BULK, {"action": "delete", "ids": ["thread_1", "nowhere"], "dry_run": True}
    )
    assert (status, preview["total"]) == (200, 1)
    assert (preview["by_status"], preview["missing"]) == ({"completed": 1}, ["nowhere"])
    assert preview["traces"]["log lines"] == 1


def test_an_operation_is_requested_and_followed(admin, ended):
    body = {
        "action": "delete",
        "filter": {"status": "completed"},
        "asked": "6f1f1c9e-0c1f-4a57-8a53-0d7d8f0c9a11",
    }
    status, operation = admin("POST", BULK, body)
    assert (status, operation["total"], operation["status"]) == (202, 5, "queued")
    url = f"{BULK}/{operation['id']}"
    assert admin.response["Location"] == url
    repeated = admin("POST", BULK, body)[1]
    assert repeated["id"] == operation["id"]

    bulk_runner.run_waiting(60)
    assert admin("GET", url)[1]["done"] == 5
    first_page = admin("GET", f"{url}/results?limit=3")[1]
    run_ids = [result["id"] for result in first_page["results"]]
    assert run_ids == ["thread_4", "thread_3", "thread_2"]
    second_page = admin("GET", f"{url}/results?limit=3&after={first_page['next']}")[1]
    assert len(second_page["results"]) == 2

    assert admin("POST", f"{url}/stop")[0] == 409
    assert admin("POST", f"{url}/retry")[0] == 409
    listed = admin("GET", BULK)[1]["operations"]
    assert [each["id"] for each in listed] == [operation["id"]]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"action": "explode", "filter": {}}, 422),
        ({"action": "delete"}, 422),
        ({"action": "delete", "ids": ["a"], "filter": {}}, 422),
        ({"action": "delete", "filter": {"status": "WHAT"}}, 422),
        ({"action": "set_status", "filter": {}, "params": {"status": "completed"}}, 422),
        ({"action": "label", "filter": {}}, 422),
    ],
)
def test_bad_requests_are_refused(admin, ended, body, status):
    assert admin("POST", BULK, body)[0] == status
    assert not BulkOperation.objects.exists()


def test_admins_see_only_the_operations_of_their_namespaces(ended, client, make_key):
    assert ApiClient()("GET", BULK)[0] == 401
    assert ApiClient(make_key("run"))("GET", BULK)[0] == 403
    limited = ApiClient(make_key("admin"))
    operation = bulk.ask("archive", {}, SYSTEM.with_door("command"))
    assert limited("GET", f"{BULK}/{operation.pk}")[0] == 404
    assert limited("GET", BULK)[1] == {"operations": []}
    viewer = User.objects.create_user("viewer", password="pw", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_run"))
    client.force_login(viewer)
    body = {"action": "delete", "filter": {}}
    assert client.post(BULK, body, content_type="application/json").status_code == 403


def test_views_are_saved_over_rest(admin, client, ended):
    assert admin("POST", "/admin/run-manager/saved-views", {"name": "x", "query": ""})[0] == 403
    ann = User.objects.create_superuser("ann", password="pw")
    client.force_login(ann)
    view = client.post(
        "/admin/run-manager/saved-views",
        {"name": "x", "query": "?status=failed", "shared": True},
        content_type="application/json",
    ).json()
    assert (view["query"], view["shared"]) == ("status=failed", True)
    for query in ("statsu=failed", "status=nope", "status=failed&status=running"):
        body = {"name": "y", "query": query}
        refused = client.post(
            "/admin/run-manager/saved-views", body, content_type="application/json"
        )
        assert refused.status_code == 422, query
    assert admin("GET", "/admin/run-manager/saved-views")[1]["views"][0]["name"] == "x"
    assert client.delete(f"/admin/run-manager/saved-views/{view['id']}").status_code == 204
    assert client.delete(f"/admin/run-manager/saved-views/{view['id']}").status_code == 404


def test_unknown_filters_are_refused_and_unknown_search_fields_noticed(admin, ended):
    status, answer = admin("GET", "/admin/run-manager/runs?colour=red")
    assert status == 422
    assert answer["detail"][0]["loc"] == ["query", "colour"]
    assert admin("GET", "/admin/run-manager/runs?count=none")[1]["total"] is None
    answer = admin("GET", "/admin/run-manager/runs?search=what:ever")[1]
    assert answer["runs"] == []
    assert "was searched as text" in answer["notices"][0]


def test_a_run_and_its_rerun_are_compared(admin, run_graph, drain):
    run = run_graph("a>b", RunOptions(run_id="one"), kinds={"b": "test.fail"})
    new_run = rerun(run, SYSTEM)
    assert "1 state" not in str(admin("GET", f"/runs/{new_run.run_id}/why")[1])
    drain()
    comparison = admin("GET", f"/runs/one/compare?with={new_run.run_id}")[1]
    assert comparison["summary"][0] == "Same graph, version 1."
    assert comparison["divergence"] is None
    assert admin("GET", "/runs/one/compare")[0] == 422
    lineage = admin("GET", f"/runs/{new_run.run_id}/lineage")[1]
    depths = [(run["run_id"], run["depth"]) for run in lineage["runs"]]
    assert depths == [("one", 0), (new_run.run_id, 1)]


def test_an_external_run_has_checkpoints_but_no_drawing(admin, namespace):
    outside = start_outside(namespace, RunOptions(run_id="t"))
    Checkpoint.objects.create(run=outside, checkpoint_id="c1", type="msgpack", body=b"abc")
    assert admin("GET", "/runs/t/checkpoints")[1]["checkpoints"][0]["size"] == 3
    assert admin("GET", "/runs/t/graph.svg")[0] == 404


def test_a_run_has_a_drawing_and_a_bundle(admin, run_graph):
    run_graph("a>b", RunOptions(run_id="one"), kinds={"b": "test.fail"})
    assert b"<svg" in admin.client.get("/runs/one/graph.svg").content
    bundle = admin.client.get("/runs/one/bundle")
    assert json.loads(bundle.getvalue())["run"]["run_id"] == "one"


def test_a_partial_rerun_over_rest(admin, run_graph):
    run_graph("a>b", RunOptions(run_id="one"), kinds={"b": "test.fail"})
    status, started = admin("POST", "/rerun/one", {"from": "failed"})
    assert (status, started["thread_id"]) == (200, "one_rerun_1")
    assert Run.objects.get(run_id="one_rerun_1").origin["how"] == "from b; 1 states are taken over"
    assert admin("POST", "/rerun/one", {"from": "node", "node": "a"})[0] == 200
    for body in (
        {"from": "node"},
        {"node": "a"},
        {"from": "failed", "version": "newest"},
        {"from": "what"},
    ):
        assert admin("POST", "/rerun/one", body)[0] == 422, body
    assert admin("POST", "/rerun/one", {"from": "node", "node": "zzz"})[0] == 404


def output_of(*command, **options):
    out = StringIO()
    call_command(*command, stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def test_runs_are_changed_with_the_bulk_command(ended):
    assert "delete: 5 runs (5 completed)" in output_of("bulk", "delete", "--dry-run")
    assert Run.objects.count() == 5
    assert "5 labelled, 0 failed" in output_of("bulk", "label", "--param", "add=team=x", "--yes")
    assert "5 deleted, 0 failed" in output_of(
        "bulk", "delete", "--filter", "?search=label:team=x", "--yes"
    )
    assert not Run.objects.exists()
    assert "0 runs" in output_of("bulk", "delete")
    for wrong, message in (
        ("statsu=failed", "no such filter"),
        ("pk=1", "no such filter"),
        ("status:failed", "must be a query string"),
    ):
        with pytest.raises(CommandError, match=message):
            output_of("bulk", "delete", "--filter", wrong, "--yes")
    with pytest.raises(CommandError, match="is none of"):
        output_of("bulk", "delete", "--filter", "status=WHAT", "--yes")


def test_verify_finds_and_removes_leftovers(
    run_graph, namespace, django_capture_on_commit_callbacks, own_storage
):
    run = run_graph("a", kinds={"a": "test.emit"})
    assert "Nothing is wrong" in output_of("verify")
    with django_capture_on_commit_callbacks(execute=True):
        delete.delete_run(run)
    assert "Nothing is wrong" in output_of("verify"), "deleting leaves nothing over"
    default_storage.save(f"{run_folder(run.pk)}/left.txt", ContentFile(b"x"))
    start_outside(namespace, RunOptions(run_id="alive"))
    Tombstone.objects.create(namespace=namespace, run_id="alive", run=1)
    with pytest.raises(CommandError, match="Something is wrong"):
        output_of("verify")
    assert "Everything was fixed" in output_of("verify", "--fix")
    assert "Nothing is wrong" in output_of("verify")


@pytest.mark.django_db(transaction=True)
def test_search_indexes_are_created_where_the_database_has_them(namespace):
    if connection.vendor == "sqlite":
        with pytest.raises(CommandError, match="SQLite has no such indexes"):
            output_of("create_search_indexes")
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")
        available = cursor.fetchone()[0]
    if available:
        assert "The index sm_run_search_text exists" in output_of("create_search_indexes")
        with connection.cursor() as cursor:
            cursor.execute("SET enable_seqscan = off")
        try:
            for text in ("part", "part*whole"):
                assert "sm_run_search_text" in Run.objects.filter(parse(text).condition).explain()
        finally:
            with connection.cursor() as cursor:
                cursor.execute("RESET enable_seqscan")
                cursor.execute("DROP INDEX sm_run_search_text, sm_run_labels")
    else:
        with pytest.raises(CommandError, match="pg_trgm is not installed"):
            output_of("create_search_indexes")
