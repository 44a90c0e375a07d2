"""What a right somewhere does not open elsewhere, and what is shown to whom."""

import json

import pytest
from django.contrib.auth.models import Permission, User

from graphs.auth import api_keys
from graphs.auth.callers import SYSTEM, caller_of_user
from graphs.models import Dataset, Graph, Namespace, NamespaceMembership
from graphs.services.publish import publish_graph
from runs.actions import annotate
from runs.actions.rerun import rerun_failures
from runs.engine.start import RunOptions, start_outside, start_run
from runs.models import BulkOperation, Checkpoint, Run, SavedView
from runs.queries import compare
from tests.support.api_client import ApiClient
from tests.support.definitions import definition

pytestmark = pytest.mark.django_db
LIST = "/admin/run-manager/"


@pytest.fixture
def member(namespace, client):
    """member("operator"): a staff user with this role in alpha, who sees all other namespaces."""

    def make(role, permission="view_run"):
        user = User.objects.create_user("member", password="pw", is_staff=True)
        if permission:
            user.user_permissions.add(Permission.objects.get(codename=permission))
        NamespaceMembership.objects.create(namespace=namespace, user=user, role=role)
        client.force_login(user)
        return user

    return make


def test_an_operator_of_one_namespace_changes_nothing_in_another(member, client, publish):
    member("operator")
    beta = Namespace.objects.create(name="beta")
    theirs = publish_graph(beta, "theirs", definition("a"))
    dataset = Dataset.objects.create(namespace=beta, name="data")
    body = {"name": "theirs", **definition("a>b")}
    assert (
        client.put(f"/graphs/{theirs.pk}", body, content_type="application/json").status_code == 403
    )
    assert (
        client.post(
            "/graphs", {**body, "name": "new", "namespace": "beta"}, content_type="application/json"
        ).status_code
        == 403
    )
    assert client.delete(f"/datasets/{dataset.pk}").status_code == 403
    assert client.post(
        "/start",
        {"sop": "", "initial_data": {}, "namespace": "brandnew"},
        content_type="application/json",
    ).status_code in (403, 404)
    theirs.refresh_from_db()
    assert theirs.current.number == 1
    assert not Graph.objects.filter(name="new").exists()
    assert not Namespace.objects.filter(name="brandnew").exists()
    mine = client.post(
        "/graphs", {**body, "name": "new", "namespace": "alpha"}, content_type="application/json"
    )
    assert mine.status_code == 201


def test_a_viewer_sees_no_payload_by_any_way(member, client, run_graph, namespace):
    run = run_graph(
        "a>b",
        RunOptions(inputs={"x": "INPUT-SECRET"}, metadata={"m": "META-SECRET"}),
        kinds={"b": "test.emit"},
        inputs={"a": {"value": "VALUE-SECRET"}},
    )
    other = start_run(run.graph, RunOptions(inputs={"x": "OTHER"}))
    Checkpoint.objects.create(
        run=run, checkpoint_id="c", type="json", body=b"{}", metadata={"writes": "WRITE-SECRET"}
    )
    user = member("viewer", permission="export_run")
    user.user_permissions.add(Permission.objects.get(codename="view_run"))
    artifact = run.artifacts.get()
    thread = run.run_id
    for path in (
        f"/admin/run-states/?run={run.pk}", f"{LIST}run/{run.pk}/", *(f"{LIST}run/{run.pk}/{tab}/" for tab in ("states", "logs", "data", "checkpoints")),
        f"{LIST}compare/?a={run.pk}&b={other.pk}", f"/runs/{thread}", f"/runs/{thread}/states", f"/runs/{thread}/logs", f"/runs/{thread}/checkpoints",
        f"/admin/runs/{thread}/metadata", f"/admin/runs/{thread}/logs", f"/runs/{thread}/compare?with={other.run_id}",
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert b"SECRET" not in answer.content, path
    assert client.get(f"/runs/{thread}/artifacts/{artifact.pk}").status_code == 403
    assert b"SECRET" not in client.get(f"{LIST}run/{run.pk}/bundle.json").getvalue()
    found = compare.compare(run, other, payloads=False)
    assert "You may not see the inputs." in found.summary
    assert all(pair.same_outputs for pair in found.nodes), (
        "whether outputs are equal is not told either"
    )


def test_values_named_like_secrets_stay_dots_and_survive_a_rerun(admin_client, run_graph):
    run = run_graph(
        "a",
        RunOptions(inputs={"password": "hunter2", "n": 1}),
        inputs={"a": {"value": {"api_key": "hunter3"}}},
    )
    url = f"{LIST}rerun/{run.pk}/"
    page = admin_client.get(url).content.decode()
    assert "hunter2" not in page
    assert "•••" in page
    admin_client.post(url, {"from": "start", "inputs": json.dumps({"password": "•••", "n": 2})})
    assert Run.objects.latest("pk").initial_data == {"password": "hunter2", "n": 2}
    assert "hunter3" not in admin_client.get(f"{LIST}run/{run.pk}/bundle.json").getvalue().decode()


def test_an_untouched_form_changes_no_inputs(admin_client, namespace):
    schema = {
        "type": "object",
        "properties": {
            "color": {"enum": ["red", "blue"]},
            "ok": {"type": "boolean"},
            "size": {"type": "integer", "default": 3},
        },
    }
    graph = publish_graph(namespace, "typed", {**definition("a"), "inputs": schema})
    run = start_run(graph, RunOptions(inputs={"color": "red", "ok": True}))
    url = f"{LIST}rerun/{run.pk}/"
    page = admin_client.get(url).content.decode()
    assert '<option value="&quot;red&quot;" selected>' in page
    assert '<option value="true" selected>' in page
    admin_client.post(
        url, {"from": "start", "input-color": '"red"', "input-ok": "true", "input-size": "3"}
    )
    assert (
        Run.objects.latest("pk").initial_data
        == run.initial_data
        == {"color": "red", "ok": True, "size": 3}
    )
    admin_client.post(
        url, {"from": "start", "input-color": '"blue"', "input-ok": "true", "input-size": "3"}
    )
    assert Run.objects.latest("pk").initial_data == {"color": "blue", "ok": True, "size": 3}


@pytest.mark.parametrize(
    "filters",
    [
        {"statsu": "failed"},
        {"pk": "12"},
        {"failed_of": "1"},
        {"pk": "abc"},
        {"since": "abc"},
        {"status": "WHAT"},
        {"created_after": "yesterday"},
    ],
)
def test_an_operation_never_takes_more_than_its_filter_says(namespace, filters):
    start_outside(namespace, RunOptions(run_id="one"))
    api = ApiClient(api_keys.create_key((), "admin")[1])
    assert api("POST", f"{LIST}bulk-operations", {"action": "delete", "filter": filters})[0] == 422
    assert not BulkOperation.objects.exists()


def test_relative_and_absolute_times_go_together(namespace):
    api = ApiClient(api_keys.create_key((), "admin")[1])
    asked = {"since": "1h", "created_after": "2026-01-01T00:00:00Z"}
    status, made = api("POST", f"{LIST}bulk-operations", {"action": "archive", "filter": asked})
    assert status == 202
    assert "since" not in BulkOperation.objects.get(pk=made["id"]).query


def test_what_matches_by_now_is_shown_before_it_is_deleted(admin_client, namespace):
    first = start_outside(namespace, RunOptions(run_id="one"))
    Run.objects.update(status="completed", finished_at="2026-01-01T00:00Z")
    asked = {"all": "1", "back": f"{LIST}?status=completed"}
    page = admin_client.post(f"{LIST}bulk/delete/", asked).content.decode()
    shown = page.split('name="shown" value="', 1)[1].split('"', 1)[0]
    second = start_outside(namespace, RunOptions(run_id="two"))
    Run.objects.update(status="completed", finished_at="2026-01-01T00:00Z")
    again = admin_client.post(f"{LIST}bulk/delete/", {**asked, "confirmed": "1", "shown": shown})
    assert again.status_code == 422
    assert "The runs that match have changed" in again.content.decode()
    assert set(Run.objects.values_list("pk", flat=True)) == {first.pk, second.pk}


def test_a_key_of_one_namespace_forgets_nobodys_views(namespace):
    view = SavedView.objects.create(
        owner=User.objects.create_superuser("ann"), name="x", shared=True
    )
    assert (
        ApiClient(api_keys.create_key(("alpha",), "admin")[1])(
            "DELETE", f"{LIST}saved-views/{view.pk}"
        )[0]
        == 404
    )


def test_who_saw_to_a_failure_by_hand_is_not_overtaken_by_an_automatic_rerun(publish, drain):
    run = start_run(
        publish("a>b", kinds={"b": "test.fail"}, settings={"rerun_on_failure": {"times": 2}})
    )
    annotate.set_status(run, SYSTEM, "failed", "the input was wrong")
    assert rerun_failures() == 0


@pytest.mark.parametrize(
    "query",
    [
        "search=duration:>999999999d", "search=duration:<90000000d", "search=created:>9999-12-31", "search=created:0001-01-01", "search=label:=x",
        "since=9e999d", "created_after=9999-99-99", "page=99999999999999999999", "ordering=%27", "cols=%2C%2C", "graph=%2F%2F", "label=a%2Fb=%22",
        "archived=maybe", "search=%22%22%22",         "search=" + "status:failed " * 30, "search=id:" + "*" * 50, "recovered=perhaps", "namespace=%F0%9F%92%A9",
    ],
)  # fmt: skip
def test_absurd_queries_are_answered(admin_client, namespace, query):
    start_outside(namespace, RunOptions(run_id="one"))
    assert admin_client.get(f"{LIST}?{query}").status_code == 200
    assert ApiClient(api_keys.create_key((), "admin")[1])("GET", f"{LIST}runs?{query}")[0] in (
        200,
        422,
    )


@pytest.mark.parametrize(
    "path",
    ["?search=%00", "run/{}/states/?node=%00", "run/{}/logs/?q=%00", "run/{}/timeline/?after=%00"],
)
def test_nul_is_refused(admin_client, namespace, path):
    run = start_outside(namespace, RunOptions(run_id="one"))
    assert admin_client.get(LIST + path.format(run.pk)).status_code == 400


def test_a_label_is_seen_by_who_polls(namespace, make_key, client):
    run = start_outside(namespace, RunOptions(run_id="one"))
    key = {"X-API-Key": make_key("read")}
    tag = client.get("/runs/one", headers=key)["ETag"]
    assert client.get("/runs/one", headers={**key, "If-None-Match": tag}).status_code == 304
    annotate.label_run(run, SYSTEM, {"team": "x"})
    assert client.get("/runs/one", headers={**key, "If-None-Match": tag}).status_code == 200


def test_rights_of_groups_and_roles_add_up(member, namespace):
    user = member("viewer", permission="delete_run")
    caller = caller_of_user(user)
    assert caller.namespaces == frozenset({namespace.pk})
    assert caller.can("view", namespace.pk)
    assert not caller.can("delete", namespace.pk), (
        "a permission without the one to view opens nothing"
    )
