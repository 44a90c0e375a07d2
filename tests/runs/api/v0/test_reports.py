"""Reports of external workers: what they record, and what they cannot change."""

import http.client
import json
from collections import Counter
from typing import Any

import pytest

from graphs.models import RegisteredNode
from runs.engine import store
from runs.models import Run
from tests.support.clusters import served
from tests.support.concurrency import at_once
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node
from tests.support.v0_client import V0Client, node, one_state

pytestmark = pytest.mark.django_db


def test_a_report_and_its_consequences_are_one_transaction(api, monkeypatch):
    state = one_state(api)

    def crash(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "insert_states", crash)
    with pytest.raises(KeyboardInterrupt):
        api.post(f"state/{state['state_id']}/executed", {"outputs": [{"value": "1"}]})
    monkeypatch.undo()
    assert by_node(Run.objects.get()) == {"a": ["QUEUED"]}
    api.executed(state, {"value": "1"})
    assert by_node(Run.objects.get()) == {"a": ["SUCCESS"], "b": ["CREATED"]}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("attempt", [None, 1])
def test_only_one_of_several_reports_at_the_same_moment_counts(api, attempt):
    state = one_state(api)
    path = f"/v0/namespace/alpha/state/{state['state_id']}"
    bodies = [
        ("executed", {"outputs": [{"value": str(at)}]})
        if at % 2
        else ("errored", {"error": str(at)})
        for at in range(10)
    ]
    key = api.key
    answers = at_once(
        *(
            lambda verb=verb, body=body: V0Client(key).post(
                f"{path}/{verb}", {**body, "attempt": attempt}
            )
            for verb, body in bodies
        )
    )
    run = Run.objects.get()
    assert run.states.filter(identifier="a").exclude(status="CREATED").count() == 1
    assert (
        run.states.filter(identifier="b").count()
        + run.states.filter(status="CREATED", identifier="a").count()
        == 1
    )
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) == {200, 400}
    # A repeated report that names its attempt gets the answer of the first one.
    assert 1 <= statuses[200] <= (1 if attempt is None else 5)
    assert_counters_agree(run)


@pytest.mark.parametrize(
    ("last", "strategy", "fires"),
    [
        ("errored", "ALL_DONE", 1),
        ("prune", "ALL_DONE", 1),
        ("prune", "ALL_SUCCESS", 1),
        ("errored", "ALL_SUCCESS", 0),
    ],
)
def test_a_join_fires_when_its_last_branch_fails_or_is_pruned(api, last, strategy, fires):
    unites = {"identifier": "s", "strategy": strategy}
    api.upsert(
        "g",
        node("s", ["m"]),
        node("m", ["a"]),
        node("a", ["u"]),
        node("u", unites=unites),
        retry_policy={"max_retries": 0},
    )
    api.trigger("g")
    api.executed(api.claim("Work")[0], {"value": "1"})
    api.executed(api.claim("Work")[0], {"value": "1"}, {"value": "2"})
    first, second = api.claim("Work")
    api.executed(first, {"value": "1"})
    body = {"error": "x"} if last == "errored" else {"data": {}}
    assert api.post(f"state/{second['state_id']}/{last}", body)[0] == 200
    assert [state["identifier"] for state in api.claim("Work")] == ["u"] * fires


def test_finished_states_stay_finished(api):
    state = one_state(api)
    assert api.post(f"state/{state['state_id']}/manual-retry", {"fanout_id": "x"})[0] == 409
    api.executed(state, {"value": "1"})
    for verb, body in {
        "re-enqueue-after": {"enqueue_after": 1},
        "executed": {"outputs": []},
        "errored": {"error": ""},
        "prune": {"data": {}},
    }.items():
        status, answer = api.post(f"state/{state['state_id']}/{verb}", body)
        assert (status, answer) == (400, {"detail": "State is not queued: it is SUCCESS."}), verb
    status, answer = api.post(f"state/{state['state_id']}/manual-retry", {"fanout_id": "x"})
    assert (status, answer["allowed"]) == (
        409,
        ["ERRORED", "NEXT_CREATED_ERROR", "TIMEDOUT", "CANCELLED"],
    )
    assert by_node(Run.objects.get()) == {"a": ["SUCCESS"], "b": ["CREATED"]}


def test_a_join_without_unites_runs_once_with_the_outputs_of_all_its_parents(api):
    api.register("Take", inputs={"x": "string"})
    join = node("j", name="Take", inputs={"x": "${{ b.outputs.value }} ${{ c.outputs.value }}"})
    api.upsert("g", node("a", ["b", "c"]), node("b", ["j"]), node("c", ["j"]), join)
    api.trigger("g")
    api.work("Work", outputs={"b": [{"value": "from b"}], "c": [{"value": "from c"}]})
    [state] = api.claim("Take")
    assert state["inputs"] == {"x": "from b from c"}


def test_values_keep_their_json_types(api):
    api.register("Give", outputs={"count": "integer"})
    api.register("Take", inputs={"x": "integer", "y": "array"})
    api.upsert(
        "g",
        node("a", ["b"], "Give"),
        node("b", name="Take", inputs={"x": "${{ a.outputs.count }}", "y": [1, {"deep": True}]}),
    )
    api.trigger("g")
    api.executed(api.claim("Give")[0], {"count": 42})
    assert api.claim("Take")[0]["inputs"] == {"x": 42, "y": [1, {"deep": True}]}


def test_outputs_that_do_not_fit_the_schema_fail_the_state(api):
    api.register("Give", outputs={"count": "integer"})
    api.upsert("g", node("a", ["b"], "Give"), node("b"), retry_policy={"max_retries": 0})
    api.trigger("g")
    [state] = api.claim("Give")
    status, answer = api.post(
        f"state/{state['state_id']}/executed", {"outputs": [{"count": "many"}]}
    )
    assert (status, answer["state_status"]) == (422, "ERRORED")
    assert "registered schema of Give" in answer["detail"]
    assert by_node(Run.objects.get()) == {"a": ["ERRORED"]}


@pytest.mark.django_db(transaction=True)
@pytest.mark.cluster
def test_a_failing_branch_does_not_cut_the_connection(api):
    api.register("Open", outputs={})
    RegisteredNode.objects.filter(name="Open").update(outputs_schema={})
    api.register("Take", inputs={"x": "string"})
    api.upsert(
        "g",
        node("a", ["b"], "Open"),
        node("b", name="Take", inputs={"x": "${{ a.outputs.missing }}"}),
        retry_policy={"max_retries": 0},
    )
    headers = {"X-API-Key": api.key, "Content-Type": "application/json"}
    api.trigger("g")
    [state] = api.claim("Open")
    with served() as address:
        connection = http.client.HTTPConnection(address.removeprefix("http://"))
        connection.connect()
        socket = connection.sock
        for path, body in (
            (f"state/{state['state_id']}/executed", {"outputs": [{}]}),
            ("states/enqueue", {"nodes": ["Open"], "batch_size": 1}),
        ):
            connection.request("POST", f"/v0/namespace/alpha/{path}", json.dumps(body), headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
        assert connection.sock is socket
        connection.close()
    assert by_node(Run.objects.get()) == {"a": ["NEXT_CREATED_ERROR"]}
