"""Lists of runs and states: bounded, filtered and measured."""

import json
from typing import Any

import pytest

from tests.support.v0_client import node

pytestmark = pytest.mark.django_db


def test_every_list_is_bounded_and_leads_on(api):
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
        seen: list[Any] = []
        after = ""
        while after is not None:
            status, answer = api.get(f"{path}?limit=3&after={after}")
            assert (status, len(answer[key]) <= 3, answer["count"]) == (200, True, len(answer[key]))
            seen += answer[key]
            after = answer["next"]
        assert len(seen) == total, path
        assert len({json.dumps(each, sort_keys=True) for each in seen}) == total
        assert api.get(f"{path}?limit=100000")[0] == 422
        assert api.get(f"{path}?limit=0")[0] == 422


def test_runs_are_cancelled_filtered_measured_and_deleted(api):
    api.upsert("g", node("a", ["b"]), node("b"))
    api.upsert("h", node("a"))
    first, second = api.trigger("g"), api.trigger("h", run_id="special-2")
    assert api.post(f"run/{first}/pause")[1]["status"] == "paused"
    assert [state["run_id"] for state in api.claim("Work")] == [second]
    assert api.post(f"run/{first}/resume")[1]["status"] == "running"
    assert api.post(f"run/{first}/cancel") == (
        200,
        {"run_id": first, "status": "cancelled", "retried": None},
    )
    assert api.post(f"run/{first}/cancel")[0] == 409
    rows = {row["run_id"]: row for row in api.get("runs/1/10")[1]["runs"]}
    assert (rows[first]["status"], rows[first]["errored_count"], rows[second]["status"]) == (
        "FAILED",
        1,
        "PENDING",
    )
    for query, found in {
        "status=FAILED": [first], "status=cancelled,queued": [first], "graph=h": [second], "run_id=special": [second], "run_id=*-2": [second],
        "run_id=s*l-2": [second], "run_id=zzz": [], "created_after=2999-01-01T00:00:00Z": [], "created_before=2999-01-01T00:00:00Z": [second, first],
    }.items():  # fmt: skip
        status, answer = api.get(f"runs/1/10?{query}")
        assert (status, [row["run_id"] for row in answer["runs"]], answer["total"]) == (
            200,
            found,
            len(found),
        ), query
    assert api.get("runs/1/10?created_after=yesterday")[0] == 422
    assert api.get("runs/1/10?status=DONE")[0] == 422
    assert api.get("runs/1/10?status=cancelled&status=queued")[1]["total"] == 1
    assert [state["status"] for state in api.get("states/?status=CANCELLED")[1]["states"]] == [
        "CANCELLED"
    ]
    assert api.get("states/?graph=h")[1]["run_ids"] == [second]
    assert api.post(f"run/{first}/retry-failed") == (
        200,
        {"run_id": first, "status": "running", "retried": 1},
    )
    assert api.work("Work") == 2
    status, metrics = api.get(f"run/{first}/metrics")
    assert (
        status,
        metrics["status"],
        metrics["failure_rate"],
        [each["identifier"] for each in metrics["nodes"]],
    ) == (200, "completed", 0.0, ["a", "b"])
    assert metrics["nodes"][0]["retried"] == 1
    assert metrics["nodes"][0]["p50_seconds"] <= metrics["nodes"][0]["p95_seconds"]
    assert api.get("graph/g/metrics")[1]["runs"] == 1
    assert api("delete", "graph/h") == (200, {"status": "DELETED", "runs": 1})
    assert [row["run_id"] for row in api.get("runs/1/10")[1]["runs"]] == [first]
    assert api.get("graph/h")[0] == 404
