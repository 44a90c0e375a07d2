"""Lists of nodes, graphs, states and runs, their filters, and the metrics of runs."""

import json
from typing import Any

import pytest

from tests.support.v0_client import node

pytestmark = pytest.mark.django_db


def test_every_list_has_pages(api):
    api.register(*(f"N{at}" for at in range(5)))
    for name in "abcde":
        api.upsert(name, node("x", ["y"]), node("y"))
        api.trigger(name)
    api.work("Work")
    for path, key, total in (
        ("nodes", "nodes", 6),
        ("graphs", "templates", 5),
        ("states", "states", 10),
        ("graph/a/versions", "versions", 1),
    ):
        listed: list[Any] = []
        after = ""
        while after is not None:
            status, answer = api.get(f"{path}?limit=3&after={after}")
            assert (status, len(answer[key]) <= 3, answer["count"]) == (200, True, len(answer[key]))
            listed += answer[key]
            after = answer["next"]
        assert len(listed) == total, path
        assert len({json.dumps(item, sort_keys=True) for item in listed}) == total
        assert api.get(f"{path}?limit=100000")[0] == 422
        assert api.get(f"{path}?limit=0")[0] == 422


@pytest.fixture
def runs(api):
    """The ids of a run of `g` and a run of `h`."""
    api.upsert("g", node("a", ["b"]), node("b"))
    api.upsert("h", node("a"))
    return api.trigger("g"), api.trigger("h", run_id="special-2")


def test_a_run_is_paused_resumed_and_cancelled(api, runs):
    first, second = runs
    assert api.post(f"run/{first}/pause")[1]["status"] == "paused"
    assert [state["run_id"] for state in api.claim("Work")] == [second]
    assert api.post(f"run/{first}/resume")[1]["status"] == "running"
    assert api.post(f"run/{first}/cancel") == (
        200,
        {"run_id": first, "status": "cancelled", "retried": None},
    )
    assert api.post(f"run/{first}/cancel")[0] == 409
    listed = {run["run_id"]: run for run in api.get("runs/1/10")[1]["runs"]}
    assert (listed[first]["status"], listed[first]["errored_count"]) == ("FAILED", 1)
    assert listed[second]["status"] == "PENDING"


def test_runs_and_states_are_filtered(api, runs):
    first, second = runs
    api.claim("Work")
    api.post(f"run/{first}/cancel")
    for query, expected in {
        "status=FAILED": [first],
        "status=cancelled,queued": [first],
        "graph=h": [second],
        "run_id=special": [second],
        "run_id=*-2": [second],
        "run_id=s*l-2": [second],
        "run_id=zzz": [],
        "created_after=2999-01-01T00:00:00Z": [],
        "created_before=2999-01-01T00:00:00Z": [second, first],
    }.items():
        status, answer = api.get(f"runs/1/10?{query}")
        assert (status, answer["total"]) == (200, len(expected)), query
        assert [run["run_id"] for run in answer["runs"]] == expected, query
    assert api.get("runs/1/10?created_after=yesterday")[0] == 422
    assert api.get("runs/1/10?status=DONE")[0] == 422
    assert api.get("runs/1/10?status=cancelled&status=queued")[1]["total"] == 1
    cancelled = api.get("states/?status=CANCELLED")[1]["states"]
    assert [state["status"] for state in cancelled] == ["CANCELLED"]
    assert api.get("states/?graph=h")[1]["run_ids"] == [second]


def test_a_cancelled_run_is_retried_and_measured(api):
    api.upsert("g", node("a", ["b"]), node("b"))
    first = api.trigger("g")
    api.post(f"run/{first}/cancel")
    assert api.post(f"run/{first}/retry-failed") == (
        200,
        {"run_id": first, "status": "running", "retried": 1},
    )
    assert api.work("Work") == 2
    status, metrics = api.get(f"run/{first}/metrics")
    assert (status, metrics["status"], metrics["failure_rate"]) == (200, "completed", 0.0)
    assert [node["identifier"] for node in metrics["nodes"]] == ["a", "b"]
    assert metrics["nodes"][0]["retried"] == 1
    assert metrics["nodes"][0]["p50_seconds"] <= metrics["nodes"][0]["p95_seconds"]
    assert api.get("graph/g/metrics")[1]["runs"] == 1


def test_a_graph_is_deleted_with_its_runs(api, runs):
    first, _ = runs
    assert api("delete", "graph/h") == (200, {"status": "DELETED", "runs": 1})
    assert [row["run_id"] for row in api.get("runs/1/10")[1]["runs"]] == [first]
    assert api.get("graph/h")[0] == 404
