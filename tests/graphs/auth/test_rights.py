"""Rights: what they do not open, and what is shown without them."""

import json

import pytest
from django.contrib.auth.models import Permission, User

from graphs.auth import api_keys
from graphs.auth.callers import SYSTEM, caller_of_user
from graphs.models import Dataset, Graph, Namespace, NamespaceMembership
from graphs.services.publish import publish_graph
from runs.actions import annotate
from runs.actions.rerun import rerun_failures
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.models import BulkOperation, Checkpoint, Run, SavedView
from runs.queries import compare
from tests.support.api_client import ApiClient
from tests.support.definitions import definition

pytestmark = pytest.mark.django_db
LIST = "/admin/run-manager/"


@pytest.fixture
def member(namespace, client):
    """member("operator"): logs in a staff user with this role in the namespace alpha.

    With the permission `view_run` the user sees all other namespaces, too.
    """

    def login(role, permission="view_run"):
        user = User.objects.create_user("member", password="pw", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename=permission))
        NamespaceMembership.objects.create(namespace=namespace, user=user, role=role)
        client.force_login(user)
        return user

    return login


@pytest.fixture
def admin_api(db):
    """The API with a key for everything."""
    return ApiClient(api_keys.create_key((), "admin")[1])


@pytest.fixture
def external_run(namespace):
    return start_outside(namespace, RunOptions(run_id="one"))


def send(method, path, body):
    """The status of a request with a JSON body; `method` is one of the client's."""
    return method(path, body, content_type="application/json").status_code


def test_an_operator_of_one_namespace_changes_nothing_in_another(member, client, publish):
    member("operator")
    beta = Namespace.objects.create(name="beta")
    theirs = publish_graph(beta, "theirs", definition("a"))
    dataset = Dataset.objects.create(namespace=beta, name="data")
    graph = {"name": "theirs", **definition("a>b")}
    new_graph = {**graph, "name": "new", "namespace": "beta"}
    start = {"sop": "", "initial_data": {}, "namespace": "brandnew"}
    assert send(client.put, f"/graphs/{theirs.pk}", graph) == 403
    assert send(client.post, "/graphs", new_graph) == 403
    assert client.delete(f"/datasets/{dataset.pk}").status_code == 403
    assert send(client.post, "/start", start) in (403, 404)
    theirs.refresh_from_db()
    assert theirs.current.number == 1
    assert not Graph.objects.filter(name="new").exists()
    assert not Namespace.objects.filter(name="brandnew").exists()
    assert send(client.post, "/graphs", {**new_graph, "namespace": "alpha"}) == 201


@pytest.fixture
def run_with_secrets(run_graph):
    """A run with secrets in its inputs, metadata, outputs and checkpoints, and with a file."""
    run = run_graph(
        "a>b",
        RunOptions(inputs={"x": "INPUT-SECRET"}, metadata={"m": "META-SECRET"}),
        kinds={"b": "test.emit"},
        inputs={"a": {"value": "VALUE-SECRET"}},
    )
    Checkpoint.objects.create(
        run=run, checkpoint_id="c", type="json", body=b"{}", metadata={"writes": "WRITE-SECRET"}
    )
    return run


@pytest.fixture
def other_run(run_with_secrets):
    """A run of the same graph with other inputs."""
    return start_run(run_with_secrets.graph, RunOptions(inputs={"x": "OTHER"}))


def test_a_viewer_sees_payloads_nowhere(member, client, run_with_secrets, other_run):
    user = member("viewer", permission="export_run")
    user.user_permissions.add(Permission.objects.get(codename="view_run"))
    run, run_id = run_with_secrets, run_with_secrets.run_id
    for path in (
        f"/admin/run-states/?run={run.pk}",
        f"{LIST}run/{run.pk}/",
        f"{LIST}run/{run.pk}/states/",
        f"{LIST}run/{run.pk}/logs/",
        f"{LIST}run/{run.pk}/data/",
        f"{LIST}run/{run.pk}/checkpoints/",
        f"{LIST}compare/?a={run.pk}&b={other_run.pk}",
        f"/runs/{run_id}",
        f"/runs/{run_id}/states",
        f"/runs/{run_id}/logs",
        f"/runs/{run_id}/checkpoints",
        f"/admin/runs/{run_id}/metadata",
        f"/admin/runs/{run_id}/logs",
        f"/runs/{run_id}/compare?with={other_run.run_id}",
    ):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert b"SECRET" not in answer.content, path
    artifact = run.artifacts.get()
    assert client.get(f"/runs/{run_id}/artifacts/{artifact.pk}").status_code == 403
    assert b"SECRET" not in client.get(f"{LIST}run/{run.pk}/bundle.json").getvalue()


def test_a_comparison_without_payloads_does_not_tell_whether_they_are_equal(
    run_with_secrets, other_run
):
    comparison = compare.compare(run_with_secrets, other_run, payloads=False)
    assert "You may not see the inputs." in comparison.summary
    assert all(pair.same_outputs for pair in comparison.nodes)


def test_values_with_the_name_of_a_secret_are_masked_and_survive_a_rerun(admin_client, run_graph):
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


def test_a_rerun_from_an_untouched_form_has_the_same_inputs(admin_client, namespace):
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
    form = {"from": "start", "input-color": '"red"', "input-ok": "true", "input-size": "3"}
    admin_client.post(url, form)
    assert run.initial_data == {"color": "red", "ok": True, "size": 3}
    assert Run.objects.latest("pk").initial_data == run.initial_data
    admin_client.post(url, {**form, "input-color": '"blue"'})
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
def test_a_bulk_operation_with_a_filter_that_makes_no_sense_is_refused(
    admin_api, external_run, filters
):
    """A filter that is ignored would select more runs than its author meant."""
    operation = {"action": "delete", "filter": filters}
    assert admin_api("POST", f"{LIST}bulk-operations", operation)[0] == 422
    assert not BulkOperation.objects.exists()


def test_a_relative_time_in_a_filter_is_stored_as_an_absolute_one(admin_api, namespace):
    filters = {"since": "1h", "created_after": "2026-01-01T00:00:00Z"}
    operation = {"action": "archive", "filter": filters}
    status, body = admin_api("POST", f"{LIST}bulk-operations", operation)
    assert status == 202
    assert "since" not in BulkOperation.objects.get(pk=body["id"]).query


def test_deleting_is_confirmed_again_if_other_runs_match_meanwhile(
    admin_client, namespace, external_run
):
    Run.objects.update(status="completed", finished_at="2026-01-01T00:00Z")
    form = {"all": "1", "back": f"{LIST}?status=completed"}
    page = admin_client.post(f"{LIST}bulk/delete/", form).content.decode()
    shown = page.split('name="shown" value="', 1)[1].split('"', 1)[0]
    second = start_outside(namespace, RunOptions(run_id="two"))
    Run.objects.update(status="completed", finished_at="2026-01-01T00:00Z")
    answer = admin_client.post(f"{LIST}bulk/delete/", {**form, "confirmed": "1", "shown": shown})
    assert answer.status_code == 422
    assert "The runs that match have changed" in answer.content.decode()
    assert set(Run.objects.values_list("pk", flat=True)) == {external_run.pk, second.pk}


def test_a_key_of_one_namespace_deletes_no_saved_views(namespace):
    ann = User.objects.create_superuser("ann")
    view = SavedView.objects.create(owner=ann, name="x", shared=True)
    api = ApiClient(api_keys.create_key(("alpha",), "admin")[1])
    assert api("DELETE", f"{LIST}saved-views/{view.pk}")[0] == 404


def test_a_failure_that_was_set_by_hand_is_not_rerun_automatically(publish, drain):
    run = start_run(
        publish("a>b", kinds={"b": "test.fail"}, settings={"rerun_on_failure": {"times": 2}})
    )
    annotate.set_status(run, SYSTEM, "failed", "the input was wrong")
    assert rerun_failures() == 0


@pytest.mark.parametrize(
    "query",
    [
        "search=duration:>999999999d",
        "search=duration:<90000000d",
        "search=created:>9999-12-31",
        "search=created:0001-01-01",
        "search=label:=x",
        "since=9e999d",
        "created_after=9999-99-99",
        "page=99999999999999999999",
        "ordering=%27",
        "cols=%2C%2C",
        "graph=%2F%2F",
        "label=a%2Fb=%22",
        "archived=maybe",
        "search=%22%22%22",
        "search=" + "status:failed " * 30,
        "search=id:" + "*" * 50,
        "recovered=perhaps",
        "namespace=%F0%9F%92%A9",
    ],
)
def test_an_absurd_query_is_no_server_error(admin_client, admin_api, external_run, query):
    assert admin_client.get(f"{LIST}?{query}").status_code == 200
    assert admin_api("GET", f"{LIST}runs?{query}")[0] in (200, 422)


@pytest.mark.parametrize(
    "path",
    ["?search=%00", "run/{}/states/?node=%00", "run/{}/logs/?q=%00", "run/{}/timeline/?after=%00"],
)
def test_a_nul_character_in_a_query_is_refused(admin_client, external_run, path):
    assert admin_client.get(LIST + path.format(external_run.pk)).status_code == 400


def test_a_new_label_changes_the_etag_of_a_run(external_run, make_key, client):
    key = {"X-API-Key": make_key("read")}
    tag = client.get("/runs/one", headers=key)["ETag"]
    assert client.get("/runs/one", headers={**key, "If-None-Match": tag}).status_code == 304
    annotate.label_run(external_run, SYSTEM, {"team": "x"})
    assert client.get("/runs/one", headers={**key, "If-None-Match": tag}).status_code == 200


def test_a_permission_without_the_one_to_view_runs_opens_nothing(member, namespace):
    user = member("viewer", permission="delete_run")
    caller = caller_of_user(user)
    assert caller.namespaces == frozenset({namespace.pk})
    assert caller.can("view", namespace.pk)
    assert not caller.can("delete", namespace.pk)
