"""The requests of older SDKs and programs, and the answers that they expect."""

import pytest

from runs.models import Run
from tests.support.invariants import assert_counters_agree
from tests.support.v0_client import node

pytestmark = pytest.mark.django_db


def test_states_are_created_with_a_run_id(api):
    api.upsert("test-graph", node("node1", inputs={"input1": "", "input2": ""}))
    body = {
        "run_id": "run_1703123456789_abc123def",
        "states": [{"identifier": "node1", "inputs": {"input1": "test_value", "input2": 42}}],
    }
    status, answer = api.post("graph/test-graph/states/create", body)
    assert (status, answer["status"]) == (200, "CREATED")
    [state] = answer["states"]
    assert set(state) == {
        "state_id",
        "node_name",
        "identifier",
        "graph_name",
        "run_id",
        "inputs",
        "created_at",
    }
    assert (state["run_id"], state["inputs"]) == (
        body["run_id"],
        {"input1": "test_value", "input2": 42},
    )
    assert api.claim("Work")[0]["inputs"] == {"input1": "test_value", "input2": 42}


def test_a_body_without_a_content_type_is_read_as_json(api):
    """`curl -d` without a header sends the content type of a form."""
    api.upsert("test-graph", node("a"))
    body = '{"run_id": "test_run_1", "states": [{"identifier": "a", "inputs": {}}]}'
    url = "/v0/namespace/alpha/graph/test-graph/states/create"
    answer = api.client.generic("POST", url, body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 200


def test_all_states_are_listed(api):
    api.upsert("test-graph", node("a", ["b"]), node("b"))
    ids = [f"run_{at}" for at in range(3)]
    for run_id in ids:
        api.post(
            "graph/test-graph/states/create",
            {"run_id": run_id, "states": [{"identifier": "a", "inputs": {}}]},
        )
    api.work("Work")
    status, answer = api.get("states/")
    assert (status, answer["namespace"], answer["count"], sorted(answer["run_ids"])) == (
        200,
        "alpha",
        6,
        ids,
    )
    assert len(answer["states"]) == 6


def test_the_states_of_a_run_are_listed(api):
    api.upsert("test-graph", node("node1"))
    api.post(
        "graph/test-graph/states/create",
        {"run_id": "r1", "states": [{"identifier": "node1", "inputs": {"input1": "v"}}]},
    )
    status, answer = api.get("states/run/r1")
    [state] = answer["states"]
    expected = {
        "node_name": "Work",
        "namespace_name": "alpha",
        "identifier": "node1",
        "graph_name": "test-graph",
        "run_id": "r1",
        "status": "CREATED",
        "inputs": {"input1": "v"},
        "outputs": {},
        "error": None,
        "parents": {},
    }
    assert (status, answer["namespace"]) == (200, "alpha")
    assert (answer["run_id"], answer["count"]) == ("r1", 1)
    assert {key: state[key] for key in expected} == expected
    assert state["created_at"].endswith("Z")
    assert state["updated_at"].endswith("Z")


def test_an_unknown_run_has_no_states(api):
    assert api.get("states/run/unknown") == (
        200,
        {"namespace": "alpha", "run_id": "unknown", "count": 0, "states": [], "next": None},
    )


def test_unknown_identifiers_create_no_run(api):
    api.upsert("g", node("a"))
    body = {
        "run_id": "r",
        "states": [{"identifier": "a", "inputs": {}}, {"identifier": "z", "inputs": {}}],
    }
    assert api.post("graph/g/states/create", body)[0] == 404
    assert api.post("graph/unknown/states/create", body)[0] == 404
    assert not Run.objects.exists()


def test_a_run_id_may_be_used_again_to_add_states(api):
    api.upsert(
        "g",
        node("s", ["a"]),
        node("a", ["b"]),
        node("b", ["j"]),
        node("j", unites={"identifier": "s"}),
    )
    for value in ("one", "two"):
        body = {"run_id": "r", "states": [{"identifier": "s", "inputs": {"v": value}}]}
        assert api.post("graph/g/states/create", body)[0] == 200
    assert api.work("Work", outputs={"a": [{"value": "1"}, {"value": "2"}]}) == 2 + 2 + 4 + 2
    run = Run.objects.get()
    assert (run.status, run.states.filter(identifier="j").count()) == ("completed", 2)
    assert_counters_agree(run)
    assert api.post("graph/g/states/create", body)[0] == 409


def test_a_run_id_belongs_to_one_graph_of_a_namespace(api, other):
    for client in (api, other):
        client.upsert("g", node("a", namespace=client.namespace))
    api.upsert("h", node("a"))
    body = {"run_id": "r", "states": [{"identifier": "a", "inputs": {}}]}
    assert api.post("graph/g/states/create", body)[0] == 200
    assert api.post("graph/h/states/create", body)[0] == 409
    assert other.post("graph/g/states/create", body)[0] == 200
    assert Run.objects.filter(run_id="r").count() == 2


def test_a_trigger_with_states_creates_these_states(api):
    api.upsert("g", node("a", ["b"]), node("b"))
    status, answer = api.post(
        "graph/g/trigger", {"states": [{"identifier": "b", "inputs": {"x": "1"}}]}
    )
    assert (status, answer["status"], answer["states"][0]["run_id"]) == (
        200,
        "CREATED",
        answer["run_id"],
    )
    assert [state["identifier"] for state in api.claim("Work")] == ["b"]


def test_runs_of_both_apis_are_the_same(api):
    """A run that is started in one API is visible in the other, and the other way round."""
    api.upsert("g", node("a"))
    run_id = api.trigger("g")
    status, answer = api.get(f"/runs/{run_id}")
    assert (status, answer["id"], answer["status"], answer["namespace"]) == (
        200,
        run_id,
        "queued",
        "alpha",
    )
    graph = Run.objects.get().graph_id
    status, started = api.post(f"/graphs/{graph}/run", {})
    assert [row["run_id"] for row in api.get("runs/1/10")[1]["runs"]] == [started["id"], run_id]
    assert len(api.claim("Work")) == 2
