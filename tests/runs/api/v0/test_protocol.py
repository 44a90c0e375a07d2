"""The protocol of `/v0`: its paths, and the members, statuses and codes of its answers."""

import uuid

import pytest

from runs.models import Run
from tests.support.invariants import assert_counters_agree
from tests.support.v0_client import V0Client, node

pytestmark = pytest.mark.django_db
RETRY = {
    "max_retries": 3,
    "strategy": "EXPONENTIAL",
    "backoff_factor": 2000,
    "exponent": 2,
    "max_delay": None,
}


def test_health_needs_no_key():
    assert V0Client(None).get("/health") == (200, {"message": "OK"})


@pytest.mark.parametrize("key", [None, "", "wrong", "sm_12345678_wrong"])
def test_a_wrong_key_is_refused(key, db):
    assert V0Client(key).get("graphs/") == (401, {"detail": "Invalid API key"})


def test_unknown_routes_are_404_and_wrong_methods_405(api):
    assert api.get("nowhere") == (404, {"detail": "Not Found"})
    assert api("delete", "nodes/") == (405, {"detail": "Method Not Allowed"})


def test_a_request_id_is_echoed_when_it_is_a_uuid(api):
    own = str(uuid.uuid4())
    api.get("nodes/", **{"x-exosphere-request-id": own})
    assert api.last["x-exosphere-request-id"] == own
    api.get("nodes/", **{"x-exosphere-request-id": "mine"})
    assert uuid.UUID(api.last["x-exosphere-request-id"])
    assert api.last["x-exosphere-request-id"] != "mine"


def test_nodes_are_registered_and_listed(api):
    greet = {
        "name": "Greet",
        "inputs_schema": {"type": "object"},
        "outputs_schema": {},
        "secrets": ["token"],
    }
    body = {
        "runtime_name": "r",
        "runtime_namespace": "alpha",
        "nodes": [{**greet, "namespace": "alpha"}],
    }
    assert api.put("nodes/", body) == (200, {"runtime_name": "r", "registered_nodes": [greet]})
    status, answer = api.get("nodes/")
    assert (status, answer["namespace"], answer["count"]) == (200, "alpha", 2)
    [listed] = [node for node in answer["nodes"] if node["name"] == "Greet"]
    assert {key: listed[key] for key in greet} == greet
    assert set(listed) == {
        *greet,
        "_id",
        "namespace",
        "runtime_name",
        "runtime_namespace",
        "created_at",
        "updated_at",
    }
    assert api.get("/v0/namespaces") == (200, {"namespaces": ["alpha"], "count": 1, "next": None})


def test_a_graph_is_put_and_read_back(api):
    nodes = [
        node("a", ["b"], inputs={"n": "1"}),
        node("b", None, inputs={"x": "${{ a.outputs.value }}"}),
    ]
    stored = api.upsert(
        "g", *nodes, triggers=[{"type": "CRON", "value": {"expression": "0 9 * * 1-5"}}]
    )
    assert stored["validation_status"] == "VALID"
    assert stored["validation_errors"] == []
    status, read = api.get("graph/g")
    assert (status, read) == (200, stored)
    assert read["nodes"] == [
        {**nodes[0], "unites": None},
        {**nodes[1], "next_nodes": [], "unites": None},
    ]
    assert (read["secrets"], read["retry_policy"]) == ({}, RETRY)
    assert read["store_config"] == {"required_keys": [], "default_values": {}}
    assert read["triggers"] == [{"type": "CRON", "value": {"expression": "0 9 * * 1-5"}}]
    status, listed = api.get("graphs/")
    assert (listed["namespace"], listed["count"]) == ("alpha", 1)
    assert listed["templates"] == [
        {**read, "name": "g", "namespace": "alpha", "_id": listed["templates"][0]["_id"]}
    ]
    assert api.get("graph/unknown")[0] == 404


def test_a_chain_runs_from_trigger_to_success(api):
    api.upsert("g", node("a", ["b"]), node("b"))
    status, answer = api.post("graph/g/trigger", {"inputs": {}, "store": {}, "start_delay": 0})
    assert (status, set(answer), answer["status"]) == (200, {"run_id", "status"}, "CREATED")
    status, claimed = api.post("states/enqueue", {"nodes": ["Work"], "batch_size": 16})
    assert (claimed["count"], claimed["namespace"], claimed["status"]) == (1, "alpha", "QUEUED")
    [state] = claimed["states"]
    assert {"state_id", "node_name", "identifier", "inputs", "created_at"} <= set(state)
    assert (state["node_name"], state["identifier"], state["inputs"]) == ("Work", "a", {})
    assert api.post(f"state/{state['state_id']}/executed", {"outputs": [{"value": "1"}]}) == (
        200,
        {"status": "EXECUTED"},
    )
    assert api.work("Work") == 1
    status, listed = api.get("runs/1/10")
    assert (listed["namespace"], listed["total"]) == ("alpha", 1)
    assert (listed["page"], listed["size"]) == (1, 10)
    [run] = listed["runs"]
    counts = {
        "success_count": 2,
        "pending_count": 0,
        "errored_count": 0,
        "retried_count": 0,
        "total_count": 2,
        "status": "SUCCESS",
    }
    assert {key: run[key] for key in counts} == counts
    assert (run["run_id"], run["graph_name"]) == (answer["run_id"], "g")
    assert api.get("runs/7/10")[1]["runs"] == []
    assert_counters_agree(Run.objects.get())


def test_fan_outs_and_joins_create_the_expected_states(api):
    """As in the engine's test, 1 + 2 + 6 + 6 + 2 + 1 = 18 states."""
    api.upsert(
        "g",
        node("s", ["a"]),
        node("a", ["b"]),
        node("b", ["c"]),
        node("c", ["u"]),
        node("u", ["v"], unites={"identifier": "a"}),
        node("v", unites={"identifier": "s"}),
    )
    api.trigger("g")
    outputs = {
        "a": [{"value": "1"}, {"value": "2"}],
        "b": [{"value": str(at)} for at in range(3)],
    }
    # The siblings of a and b, one of a and four of b, are never claimed.
    assert api.work("Work", outputs=outputs) == 18 - 1 - 2 - 2
    run = Run.objects.get()
    assert run.status == "completed"
    assert run.states.count() == 18
    assert {name: run.states.filter(identifier=name).count() for name in "sabcuv"} == {
        "s": 1,
        "a": 2,
        "b": 6,
        "c": 6,
        "u": 2,
        "v": 1,
    }
    assert_counters_agree(run)

    states = api.get(f"states/run/{run.run_id}")[1]["states"]

    def parents_of(identifier):
        return {tuple(state["parents"]) for state in states if state["identifier"] == identifier}

    assert parents_of("v") == {("s",)}
    assert parents_of("u") == {("s", "a")}
    assert parents_of("c") == {("s", "a", "b")}


def test_no_outputs_count_as_one_empty_output(api):
    api.upsert("g", node("a", ["b"]), node("b"))
    api.trigger("g")
    [state] = api.claim("Work")
    api.executed(state)
    [following] = api.claim("Work")
    assert following["identifier"] == "b"


@pytest.mark.parametrize("plural", ["state", "states"])
def test_reports_are_accepted_at_both_paths(api, plural):
    api.upsert(
        "g", node("a"), retry_policy={"max_retries": 1, "strategy": "FIXED", "backoff_factor": 1}
    )
    api.trigger("g")
    [state] = api.claim("Work")
    assert api.post(f"{plural}/{state['state_id']}/errored", {"error": "broken"}) == (
        200,
        {"status": "ERRORED", "retry_created": True},
    )
    run = Run.objects.get()
    run.states.filter(status="CREATED").update(due_at=run.created_at, claim_at=run.created_at)
    [again] = api.claim("Work")
    assert again["state_id"] != state["state_id"]
    assert api.post(f"{plural}/{again['state_id']}/errored", {"error": "broken"}) == (
        200,
        {"status": "ERRORED", "retry_created": False},
    )
    assert [
        (row["status"], row["retried_count"], row["errored_count"])
        for row in api.get("runs/1/1")[1]["runs"]
    ] == [("FAILED", 1, 1)]


def test_a_pruned_state_keeps_its_data_and_ends_its_branch(api):
    api.upsert("g", node("a", ["b"]), node("b"))
    api.trigger("g")
    [state] = api.claim("Work")
    status, answer = api.post(f"state/{state['state_id']}/prune", {"data": {"why": "empty"}})
    assert (status, answer["status"], type(answer["enqueue_after"])) == (200, "PRUNED", int)
    assert api.claim("Work") == []
    [item] = api.get("states/")[1]["states"]
    assert (item["status"], item["data"], item["outputs"]) == ("PRUNED", {"why": "empty"}, {})
    assert api.get("runs/1/1")[1]["runs"][0]["success_count"] == 1


@pytest.mark.parametrize("path", ["state", "states"])
@pytest.mark.parametrize("bare", [{}, {"why": "empty"}])
def test_older_workers_prune_with_the_bare_data(api, bare, path):
    """The SDKs 0.0.2b2 and 0.0.2b3 use the singular path for this report alone (tests/sdk)."""
    api.upsert("g", node("a"))
    api.trigger("g")
    [state] = api.claim("Work")
    assert api.post(f"{path}/{state['state_id']}/prune")[0] == 422, "a body is needed"
    assert api.post(f"{path}/{state['state_id']}/prune", bare)[0] == 200
    assert api.get("states/")[1]["states"][0]["data"] == bare


def test_a_state_is_re_enqueued_with_a_delay(api):
    api.upsert("g", node("a"))
    api.trigger("g")
    [state] = api.claim("Work")
    status, answer = api.post(
        f"state/{state['state_id']}/re-enqueue-after", {"enqueue_after": 3_600_000}
    )
    stored = Run.objects.get().states.get()
    assert (status, answer["status"]) == (200, "CREATED")
    assert abs(answer["enqueue_after"] - stored.due_at.timestamp() * 1000) < 5000
    assert api.claim("Work") == []
    Run.objects.get().states.update(due_at=stored.created_at, claim_at=stored.created_at)
    [again] = api.claim("Work")
    assert (again["state_id"], again["attempt"]) == (state["state_id"], 2)


def test_a_delayed_trigger_is_not_due_at_once(api):
    api.upsert("g", node("a"))
    api.trigger("g", start_delay=60_000)
    assert api.claim("Work") == []


def test_inputs_and_store_reach_the_states(api):
    api.register("Work", inputs={"name": "string", "key": "string"})
    nodes = node("a", inputs={"name": "nobody", "key": "${{ store.k }}-${{ store.d }}"})
    api.upsert(
        "g", nodes, store_config={"required_keys": ["k"], "default_values": {"d": "default"}}
    )
    status, answer = api.post("graph/g/trigger", {"inputs": {"name": "Ann", "unknown": "dropped"}})
    assert status == 400
    assert "k" in answer["detail"]
    api.trigger("g", inputs={"name": "Ann", "unknown": "dropped"}, store={"k": "v"})
    assert api.claim("Work")[0]["inputs"] == {"name": "Ann", "key": "v-default"}


def test_an_output_becomes_text_where_the_schema_wants_text(api):
    api.register("Give", outputs={"count": "integer"})
    api.register("Take", inputs={"text": "string", "number": "integer"})
    api.upsert(
        "g",
        node("a", ["b"], "Give"),
        node(
            "b",
            name="Take",
            inputs={"text": "${{ a.outputs.count }}", "number": "${{a.outputs.count}}"},
        ),
    )
    api.trigger("g")
    api.executed(api.claim("Give")[0], {"count": 42})
    assert api.claim("Take")[0]["inputs"] == {"text": "42", "number": 42}


def test_a_failed_state_is_retried_by_hand_once_per_fanout_id(api):
    api.upsert("g", node("a", ["b"]), node("b"), retry_policy={"max_retries": 0})
    api.trigger("g")
    [state] = api.claim("Work")
    api.post(f"state/{state['state_id']}/errored", {"error": "x"})
    status, answer = api.post(f"state/{state['state_id']}/manual-retry", {"fanout_id": "one"})
    assert (status, answer["status"]) == (200, "CREATED")
    assert api.post(f"state/{state['state_id']}/manual-retry", {"fanout_id": "one"})[0] == 409
    [retry] = api.claim("Work")
    assert retry["state_id"] == answer["id"]
    api.post(f"state/{retry['state_id']}/errored", {"error": "x"})
    assert api.post(f"state/{retry['state_id']}/manual-retry", {"fanout_id": "one"})[0] == 409
    assert api.post(f"state/{retry['state_id']}/manual-retry", {"fanout_id": "two"})[0] == 200
    assert api.work("Work") == 2
    run = Run.objects.get()
    assert (run.status, run.retried_count, run.errored_count) == ("completed", 2, 0)
    assert_counters_agree(run)


def test_the_graph_of_a_run(api):
    api.upsert(
        "g",
        node("a", ["b", "c"]),
        node("b", ["d"]),
        node("c", ["d"]),
        node("d", unites={"identifier": "a"}),
    )
    run_id = api.trigger("g")
    api.work("Work")
    status, answer = api.get(f"states/run/{run_id}/graph")
    ids = {node["identifier"]: node["id"] for node in answer["nodes"]}
    assert (status, answer["graph_name"], answer["node_count"], answer["edge_count"]) == (
        200,
        "g",
        4,
        3,
    )
    assert {(edge["source"], edge["target"]) for edge in answer["edges"]} == {
        (ids["a"], ids[name]) for name in "bcd"
    }
    assert [state["identifier"] for state in answer["root_states"]] == ["a"]
    assert set(answer["nodes"][0]) == {"id", "node_name", "identifier", "status", "error"}
    assert answer["execution_summary"]["SUCCESS"] == 4
    assert {
        "CREATED",
        "QUEUED",
        "EXECUTED",
        "NEXT_CREATED_ERROR",
        "SUCCESS",
        "ERRORED",
        "RETRY_CREATED",
        "PRUNED",
    } <= set(answer["execution_summary"])


def test_the_graph_of_an_unknown_run_is_empty(api):
    status, answer = api.get("states/run/unknown/graph")
    assert (status, answer["nodes"], answer["graph_name"]) == (200, [], "")
    assert set(answer["execution_summary"].values()) == {0}


def test_the_details_of_a_node(api):
    api.upsert("g", node("a", ["b"]), node("b"))
    run_id = api.trigger("g")
    api.work("Work")
    states = api.get(f"states/run/{run_id}")[1]["states"]
    state = next(state for state in states if state["identifier"] == "b")
    status, answer = api.get(f"graph/g/run/{run_id}/node/{state['id']}")
    assert status == 200
    members = {
        "id",
        "node_name",
        "identifier",
        "graph_name",
        "run_id",
        "status",
        "inputs",
        "outputs",
        "error",
        "parents",
        "created_at",
        "updated_at",
    }
    assert members <= set(answer)
    assert (answer["outputs"], list(answer["parents"]), answer["created_at"][-1]) == (
        {"value": "x"},
        ["a"],
        "Z",
    )
    assert api.get(f"graph/g/run/{run_id}/node/nonsense")[0] == 400
    assert api.get(f"graph/h/run/{run_id}/node/{state['id']}")[0] == 404
    assert api.get(f"graph/g/run/other/node/{state['id']}")[0] == 404
