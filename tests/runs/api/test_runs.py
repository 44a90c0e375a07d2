"""The REST API for graphs, runs, states and datasets."""

from urllib.parse import quote

import pytest
from django.test import Client

from graphs.auth import api_keys
from graphs.definition import errors
from graphs.models import Graph, Namespace
from graphs.services import dataset_files, datasets
from runs.api import states
from runs.engine.new_run import RunOptions
from runs.models import Run
from tests.support.api_client import ApiClient
from tests.support.definitions import definition

pytestmark = pytest.mark.django_db
RUN_MEMBERS = {
    "id",
    "graph_id",
    "dataset_id",
    "status",
    "started_at",
    "finished_at",
    "progress",
    "current_node",
    "context",
    "logs",
    "stats",
    "error_message",
}


@pytest.fixture
def api(make_key):
    return ApiClient(make_key("admin"))


@pytest.fixture
def dataset(namespace, tmp_path):
    (tmp_path / "res.partner.csv").write_text("id,name\n1,Ann\n2,Bob\n")
    with dataset_files.sources_at(tmp_path) as sources:
        return datasets.load(namespace, "odoo", sources)


def test_a_trigger_answers_with_the_run(api, publish, dataset):
    graph = publish("a>b")
    status, body = api("POST", f"/graphs/{graph.pk}/run?dataset_id={dataset.pk}")
    assert status == 200
    run = Run.objects.get()
    assert body == {
        "id": run.run_id,
        "status": "queued",
        "message": f"Graph execution queued with task ID: {run.run_id}",
    }
    assert run.dataset_id == dataset.pk


def test_a_client_polls_a_run_from_start_to_end(api, publish, drain, dataset):
    inputs = {
        "read": {"table": "res.partner"},
        "export": {"table": "${{ read.outputs.table }}", "name": "res.partner"},
        "pack": {"files": ["${{ export.outputs.file }}"], "name": "odoo_export_42.zip"},
    }
    graph = publish(
        "read>export>pack",
        kinds={"read": "dataset.read", "export": "table.export", "pack": "zip"},
        inputs=inputs,
    )
    _, started = api("POST", f"/graphs/{graph.pk}/run?dataset_id={dataset.pk}")
    status, [queued] = api("GET", f"/graphs/{graph.pk}/runs")
    assert status == 200
    assert queued.keys() >= RUN_MEMBERS
    assert (queued["status"], queued["progress"]) == ("queued", 0)
    assert (queued["context"], queued["stats"]) == ({}, None)
    assert (queued["id"], queued["dataset_id"]) == (started["id"], dataset.pk)
    assert queued["graph_id"] == str(graph.pk)

    drain()
    status, done = api("GET", f"/runs/{started['id']}")
    assert (status, done["status"]) == (200, "completed")
    assert (done["progress"], done["current_node"]) == (100, "pack")
    assert done["started_at"].endswith("Z")
    assert done["finished_at"] >= done["started_at"]
    zip_path = done["context"].pop("zip_path")
    assert done["context"] == {
        "dataset_id": dataset.pk,
        "graph_id": str(graph.pk),
        "plan": ["read", "export", "pack"],
        "total_steps": 3,
        "executed_nodes": ["read", "export", "pack"],
        "failed_nodes": [],
        "skipped_nodes": [],
        "total_emitted": 2,
    }
    assert done["logs"][0].keys() == {"timestamp", "level", "message"}
    messages = [line["message"] for line in done["logs"]]
    assert messages[0] == "Starting graph execution with 3 nodes"
    assert "Exported res.partner: 2 rows" in messages
    assert done["stats"]["succeeded"] == 3
    status, content = api("GET", zip_path)
    assert (status, content[:2]) == (200, b"PK")


def test_a_partial_run_names_what_failed(api, publish, drain):
    graph = publish(
        "a a>b a>c", kinds={"b": "test.fail", "c": "test.fail"}, settings={"max_failures": 1}
    )
    _, started = api("POST", f"/graphs/{graph.pk}/run")
    drain()
    _, run = api("GET", f"/runs/{started['id']}")
    assert (run["status"], run["progress"]) == ("partial", 33)
    assert run["error_message"] == "Execution stopped: too many failures (2/3 failed)"
    assert (run["context"]["executed_nodes"], run["context"]["failed_nodes"]) == (["a"], ["b", "c"])


def test_polling_an_unchanged_run_costs_one_light_query(
    api, publish, drain, django_assert_num_queries
):
    graph = publish("a")
    _, started = api("POST", f"/graphs/{graph.pk}/run")
    api("GET", f"/runs/{started['id']}")
    tag = api.response["ETag"]
    api_keys.forget()
    with django_assert_num_queries(3):  # Two for the key, one for the run.
        assert api("GET", f"/runs/{started['id']}", **{"If-None-Match": tag})[0] == 304
    drain()
    assert api("GET", f"/runs/{started['id']}", **{"If-None-Match": tag})[0] == 200
    assert api("GET", f"/graphs/{graph.pk}/runs")[0] == 200
    assert (
        api("GET", f"/graphs/{graph.pk}/runs", **{"If-None-Match": api.response["ETag"]})[0] == 304
    )


def test_the_list_of_runs_costs_the_same_for_one_and_for_many(
    api, publish, drain, django_assert_max_num_queries
):
    graph = publish("a>b")
    for _ in range(12):
        api("POST", f"/graphs/{graph.pk}/run")
    drain()
    with django_assert_max_num_queries(8):
        assert len(api("GET", f"/graphs/{graph.pk}/runs")[1]) == 12


def test_a_run_is_paused_resumed_cancelled_and_deleted(api, publish):
    graph = publish("a")
    _, started = api("POST", f"/graphs/{graph.pk}/run")
    assert api("POST", f"/runs/{started['id']}/pause")[1]["status"] == "paused"
    status, body = api("POST", f"/runs/{started['id']}/pause/")
    assert (status, body["allowed"]) == (409, ["cancel", "resume"])
    assert api("POST", f"/runs/{started['id']}/resume")[1]["status"] == "running"
    assert api("DELETE", f"/runs/{started['id']}")[0] == 409
    assert api("POST", f"/runs/{started['id']}/cancel")[1]["status"] == "cancelled"
    assert api("DELETE", f"/runs/{started['id']}")[0] == 204
    assert api("GET", f"/runs/{started['id']}")[0] == 410


def test_states_and_logs_have_pages(api, publish, drain):
    graph = publish("f>b", kinds={"f": "test.each"}, inputs={"f": {"items": list(range(5))}})
    _, started = api("POST", f"/graphs/{graph.pk}/run")
    drain()
    state_ids = []
    after = ""
    while after is not None:
        _, page = api("GET", f"/runs/{started['id']}/states?limit=4&after={after}")
        assert all(
            state["inputs"] == {"items": list(range(5))}
            for state in page["states"]
            if state["identifier"] == "f"
        )
        state_ids += [state["id"] for state in page["states"]]
        after = page["next"]
    assert len(state_ids) == len(set(state_ids)) == 10

    status, page = api("GET", f"/runs/{started['id']}/logs?limit=1")
    [line] = page["logs"]
    assert status == 200
    assert (line["message"], line["node"]) == ("Starting graph execution with 2 nodes", None)


def test_a_waiting_state_is_answered(api, publish, drain):
    graph = publish("ok", kinds={"ok": "approval"}, inputs={"ok": {"question": "Ship it?"}})
    _, started = api("POST", f"/graphs/{graph.pk}/run")
    drain()
    _, page = api("GET", f"/runs/{started['id']}/states")
    state = page["states"][0]
    assert state["waiting_for"]["question"] == "Ship it?"
    assert api("POST", f"/runs/{started['id']}/states/{state['id']}/answer", {"yes": 1})[0] == 422
    status, body = api(
        "POST",
        f"/runs/{started['id']}/states/{state['id']}/answer",
        {"approved": True, "comment": "go"},
    )
    assert (status, body["answer"]["value"]["comment"]) == (200, "go")
    assert body["answer"]["by"].startswith("key ")
    drain()
    assert api("GET", f"/runs/{started['id']}")[1]["status"] == "completed"
    assert (
        api("POST", f"/runs/{started['id']}/states/{state['id']}/answer", {"approved": True})[0]
        == 409
    )


def test_graphs_are_created_changed_and_deleted(api, namespace):
    body = {"name": "made", "namespace": "alpha", **definition("a>b"), "metadata": {"x": 1}}
    status, graph = api("POST", "/graphs", body)
    assert (status, graph["version"], graph["metadata"]) == (201, 1, {"x": 1})
    assert api("POST", "/graphs", body)[0] == 409
    status, same = api("PUT", f"/graphs/{graph['id']}", definition("a>b"))
    assert (status, same["version"]) == (200, 1)
    assert api("PUT", f"/graphs/{graph['id']}", definition("a>b>c"))[1]["version"] == 2
    assert [listed["name"] for listed in api("GET", "/graphs?limit=5")[1]] == ["made"]
    assert api("POST", f"/graphs/{graph['id']}/run/")[0] == 200
    assert api("DELETE", f"/graphs/{graph['id']}")[0] == 204
    assert (Graph.objects.count(), Run.objects.count()) == (0, 0)


def test_all_problems_of_an_invalid_graph_are_listed_with_their_paths(api, namespace):
    broken = definition(
        "a>b>a b>c",
        kinds={"c": "no.such"},
        inputs={"b": {"value": "${{ zzz.outputs.x }}", "nope": 1}},
    )
    status, body = api("POST", "/graphs", {"name": "broken", "namespace": "alpha", **broken})
    assert status == 400
    assert body["detail"].startswith("Graph validation failed: ")
    assert {problem["type"] for problem in body["errors"]} == {
        "circular_dependency",
        "unknown_node",
        "unknown_reference",
        "invalid_config",
    }
    assert {problem["path"] for problem in body["errors"]} >= {
        "/nodes/1/data/inputs/value",
        "/nodes/1/data/inputs/nope",
        "/nodes/2/kind",
    }
    graph = api("POST", "/graphs", {"name": "fine", "namespace": "alpha", **definition("a")})[1]
    status, report = api("POST", f"/graphs/{graph['id']}/validate", broken)
    assert (status, report["valid"], len(report["errors"])) == (200, False, len(body["errors"]))
    assert api("POST", f"/graphs/{graph['id']}/validate")[1] == {
        "valid": True,
        "errors": [],
        "warnings": [],
    }


@pytest.mark.parametrize(
    "path",
    [
        "/graphs/999/run",
        "/graphs/abc/run",
        "/graphs/99999999999999999999/run",
        "/runs/nope/cancel",
        "/graphs/1/nowhere",
    ],
)
def test_an_unknown_path_or_id_is_a_404_in_json(api, path):
    status, body = api("POST", path)
    assert (status, body["status"], bool(body["detail"])) == (404, 404, True)


def test_an_unknown_dataset_is_a_404(api, publish):
    graph = publish("a")
    assert api("POST", f"/graphs/{graph.pk}/run?dataset_id=77777")[0] == 404


def test_other_namespaces_are_a_404(api, publish, make_key, dataset):
    graph = publish("a")
    Namespace.objects.create(name="beta")
    other = ApiClient(make_key("admin", ("beta",)))
    for method, path in (
        ("POST", f"/graphs/{graph.pk}/run"),
        ("GET", f"/graphs/{graph.pk}"),
        ("GET", f"/datasets/{dataset.pk}"),
    ):
        assert other(method, path)[0] == 404
    _, started = api("POST", f"/graphs/{graph.pk}/run")
    for path in ("", "/logs", "/states", "/artifacts"):
        assert other("GET", f"/runs/{started['id']}{path}")[0] == 404
    assert other("POST", f"/runs/{started['id']}/cancel")[0] == 404
    assert other("GET", "/graphs")[1] == []


def test_a_run_id_of_two_namespaces_needs_the_namespace(api, publish, make_key):
    both = ApiClient(make_key("admin", ()))
    second = Namespace.objects.create(name="beta")
    for graph in (publish("a"), publish("a", namespace=second)):
        assert both("POST", f"/graphs/{graph.pk}/run", {"run_id": "same"})[0] == 200
    status, body = both("GET", "/runs/same")
    assert (status, body["allowed"]) == (409, ["alpha", "beta"])
    assert both("GET", "/runs/same?namespace=beta")[1]["namespace"] == "beta"
    assert api("GET", "/runs/same")[1]["namespace"] == "alpha"


@pytest.mark.parametrize(
    ("scope", "allowed"), [("read", False), ("worker", False), ("run", True), ("admin", True)]
)
def test_only_run_and_admin_keys_start_runs(publish, make_key, scope, allowed):
    graph = publish("a")
    api = ApiClient(make_key(scope))
    assert api("GET", f"/graphs/{graph.pk}/runs")[0] == 200
    assert api("POST", f"/graphs/{graph.pk}/run")[0] == (200 if allowed else 403)


@pytest.mark.parametrize("key", ["", "wrong", "sm_deadbeef_nothing", "sm_\x00_x"])
def test_a_wrong_key_is_refused(publish, key):
    graph = publish("a")
    status, body = ApiClient(key.replace("\x00", "%00"))("POST", f"/graphs/{graph.pk}/run")
    assert (status, body["status"]) == (401, 401)


BAD_BODIES = [
    '{"inputs": {"x": NaN}}',
    '{"inputs": {"x": 1e999}}',
    '{"run_id": "a\\u0000b"}',
    '{"run_id": "\\ud800"}',
    "[" * 100_000,
    "not json",
    '{"inputs": []}',
    '{"inputs": {"x": 1' + "0" * 5000 + "}}",
    '{"start_delay": -1}',
    '{"run_id": ""}',
    "[1]",
    '{"labels": {"a": {}}}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_malformed_bodies_are_422_with_a_reason(api, publish, body):
    graph = publish("a")
    status, answer = api("POST", f"/graphs/{graph.pk}/run", body)
    assert (status, bool(answer["detail"])) == (422, True)
    assert Run.objects.count() == 0


def test_too_large_bodies_are_413(api, publish):
    graph = publish("a")
    status, answer = api(
        "POST", f"/graphs/{graph.pk}/run", '{"inputs": {"x": "' + "y" * 6_000_000 + '"}}'
    )
    assert (status, answer["status"]) == (413, 413)


def test_a_session_needs_a_csrf_token_and_permissions(publish, admin_user, django_user_model):
    graph = publish("a")
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert client.get(f"/graphs/{graph.pk}/runs").status_code == 200
    assert client.post(f"/graphs/{graph.pk}/run").status_code == 403
    plain = django_user_model.objects.create_user("plain", is_staff=True)
    client.force_login(plain)
    assert client.get(f"/graphs/{graph.pk}/runs").status_code == 403


def test_a_wrong_method_is_405(api, publish):
    graph = publish("a")
    status, body = api("GET", f"/graphs/{graph.pk}/run")
    assert (status, body["status"]) == (405, 405)


def test_a_chunked_body_is_411(publish, make_key):
    graph = publish("a")
    client = Client(headers={"X-API-Key": make_key("run"), "Transfer-Encoding": "chunked"})
    answer = client.generic(
        "POST", f"/graphs/{graph.pk}/run", b"", content_type="application/json", CONTENT_LENGTH=""
    )
    assert answer.status_code == 411
    assert Run.objects.count() == 0


@pytest.mark.parametrize("name", ["a/b", ".", "..", "a\nb", " ", "x" * 201])
def test_names_that_cannot_be_part_of_a_path_are_refused(api, publish, name):
    graph = publish("a")
    assert api("POST", f"/graphs/{graph.pk}/run", {"run_id": name})[0] == 422
    assert api("POST", "/graphs", {"name": name, "namespace": "alpha", **definition("a")})[0] == 422
    assert Run.objects.count() == 0


def test_a_dataset_that_a_run_uses_is_not_changed_or_deleted(
    api, publish, drain, dataset, namespace, tmp_path
):
    graph = publish(
        "ok>r",
        kinds={"ok": "approval", "r": "dataset.read"},
        inputs={"ok": {"question": "?"}, "r": {"table": "res.partner"}},
    )
    _, started = api("POST", f"/graphs/{graph.pk}/run?dataset_id={dataset.pk}")
    drain()
    (tmp_path / "other.csv").write_text("x\n1\n")
    with (
        pytest.raises(errors.Conflict, match="used by runs"),
        dataset_files.sources_at(tmp_path / "other.csv") as sources,
    ):
        datasets.load(namespace, "odoo", sources)
    assert api("DELETE", f"/datasets/{dataset.pk}")[0] == 409
    api("POST", f"/runs/{started['id']}/cancel")
    assert api("DELETE", f"/datasets/{dataset.pk}")[0] == 204
    assert api("GET", f"/runs/{started['id']}")[1]["dataset_id"] is None


def test_references_to_unknown_outputs_are_refused_when_the_graph_is_saved(api, namespace):
    broken = definition("a>b", inputs={"b": {"value": "${{ a.outputs.nope }}"}})
    status, body = api("POST", "/graphs", {"name": "broken", "namespace": "alpha", **broken})
    assert status == 400
    assert body["errors"][0]["message"] == "'a' has no output 'nope'; available outputs: value"


def test_texts_keep_their_blanks(api, namespace):
    body = {"sop": "  step 1\n", "initial_data": {}, "namespace": "alpha", "run_name": " n "}
    status, started = api("POST", "/start", {**body, "workspace": " w ", "thread_id": "t"})
    assert (status, started["run_name"]) == (200, " n ")
    run = Run.objects.get(run_id="t")
    assert (run.sop, run.workspace) == ("  step 1\n", " w ")


def test_the_lines_of_a_run_have_no_filters_of_lists(api, publish):
    api("POST", f"/graphs/{publish('a').pk}/run", {"run_id": "r"})
    assert api("GET", "/runs/r/logs?limit=1")[0] == 200
    for query in ("status=failed", "search=x", "graph=g"):
        assert api("GET", f"/runs/r/logs?{query}")[0] == 422


@pytest.mark.parametrize("dataset_id", ["abc", "1.5", "-1", "٣", "1 ", "9" * 30])
def test_a_dataset_that_is_no_number_is_malformed(api, publish, dataset_id):
    graph = publish("a")
    answer = api("POST", f"/graphs/{graph.pk}/run?dataset_id={quote(dataset_id)}")
    assert (answer[0], answer[1]["detail"][0]["loc"]) == (422, ["query", "dataset_id"])
    body = {"name": "t", "graph_id": str(graph.pk), "dataset_id": dataset_id}
    status, refusal = api("POST", "/templates", body)
    assert (status, refusal["detail"][0]["loc"]) == (422, ["body", "dataset_id"])
    assert not Run.objects.exists()


@pytest.mark.parametrize("verb", ["metadata", "logs"])
@pytest.mark.parametrize("run_id", ["a%2Fb", "a/b", "%2F", "a%2F..%2Fb"])
def test_an_id_with_a_slash_is_answered_in_json(api, client, verb, run_id):
    for sender in (client, api.client):
        answer = sender.get(f"/admin/runs/{run_id}/{verb}")
        assert answer.status_code == 404
        assert answer["Content-Type"] == "application/problem+json"
        assert answer.json()["detail"] == "Not Found"


def test_a_change_of_a_graph_is_refused_if_it_is_based_on_an_older_one(api, publish):
    path = f"/graphs/{publish('a').pk}"
    api("GET", path)
    tag = api.response.headers["ETag"]
    assert api("PUT", path, definition("a>b"), **{"If-Match": tag})[0] == 200
    newer = api.response.headers["ETag"]
    status, answer = api("PUT", path, definition("a>c"), **{"If-Match": tag})
    assert (status, "version 2" in answer["detail"]) == (412, True)
    assert Graph.objects.get().current.number == 2
    assert api("PUT", path, {"name": "h"}, **{"If-Match": f'"0-x", W/{newer}'})[0] == 200
    assert api("PUT", path, {"name": "i"}, **{"If-Match": newer})[0] == 412, "the name counts"
    assert api("PUT", path, definition("a>c"), **{"If-Match": "*"})[0] == 200
    assert api("PUT", path, definition("a>d"))[0] == 200, "without the header nothing is compared"


def test_a_page_of_states_ends_before_it_has_too_many_bytes(api, run_graph, monkeypatch):
    monkeypatch.setattr(states, "MAX_PAGE_BYTES", 3000)
    data = {at: {"inputs": {"value": "x" * 1000}} for at in "abc"}
    run = run_graph("a b c", RunOptions(run_id="fat"), data=data)
    seen, after, pages = [], "", 0
    while after is not None:
        page = api("GET", f"/runs/fat/states{f'?after={after}' if after else ''}")[1]
        seen += [state["identifier"] for state in page["states"]]
        after, pages = page["next"], pages + 1
    assert (seen, pages) == (["a", "b", "c"], 3)
    assert run.status == "completed"


def test_inputs_that_siblings_share_count_for_each_of_them(api, run_graph, monkeypatch):
    items = ["x" * 1000] * 5
    monkeypatch.setattr(states, "MAX_PAGE_BYTES", 12_000)
    run = run_graph(
        "a>b", RunOptions(run_id="wide"), kinds={"a": "fan_out"}, inputs={"a": {"items": items}}
    )
    page = api("GET", "/runs/wide/states")[1]
    assert 0 < len(page["states"]) < run.states.count()
    assert page["next"]


def test_a_run_of_too_many_bytes_has_no_document_and_is_not_compared(
    api, admin_client, run_graph, monkeypatch
):
    run_graph("a", RunOptions(run_id="r", inputs={"x": "y" * 100}))
    run_graph("a", RunOptions(run_id="s", inputs={"x": "y" * 100}))
    monkeypatch.setattr("runs.external.documents.MAX_BYTES", 50)
    monkeypatch.setattr("runs.queries.compare.MAX_BYTES", 50)
    assert api("GET", "/runs/r/checkpoint")[0] == 413
    assert api("GET", "/runs/r/compare?with=s")[0] == 413
    page = admin_client.get("/admin/run-manager/compare/?a=r&b=s")
    assert (page.status_code, "at most 50 are compared" in page.content.decode()) == (200, True)
