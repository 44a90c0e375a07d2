"""Retrying states by hand after a run has ended.

The counters go back, the run continues, and joins fire that did not fire because the run ended.
"""

import pytest

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from runs.engine import control, retry
from runs.engine.start import start_run
from runs.models import State
from tests.nodes import calls
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _forget_calls():
    calls.clear()


def test_a_partial_run_is_completed_by_retrying_what_failed(run_graph, drain):
    run = run_graph("s>a>j s>b>j j>z", kinds={"a": "test.fail"}, inputs={"a": {"times": 1}})
    assert (run.status, by_node(run)) == (
        "partial",
        {"s": ["SUCCESS"], "a": ["ERRORED"], "b": ["SUCCESS"]},
    )
    retries = retry.retry_failed(run, SYSTEM)
    run.refresh_from_db()
    assert len(retries) == 1
    assert (run.status, run.finished_at) == ("running", None)
    assert (run.error_message, run.errored_count) == ("", 0)

    drain()
    run.refresh_from_db()
    assert (run.status, run.progress) == ("completed", 100)
    assert by_node(run) == {
        "s": ["SUCCESS"],
        "a": ["RETRY_CREATED", "SUCCESS"],
        "b": ["SUCCESS"],
        "j": ["SUCCESS"],
        "z": ["SUCCESS"],
    }
    assert_counters_agree(run)


def test_states_that_a_stop_cancelled_are_retried_too_and_their_joins_fire(run_graph, drain):
    """A region beside the failed branch finished while the run stopped, without firing its join."""
    run = run_graph(
        "s>f s>a>j s>b>j j>z",
        kinds={"f": "test.fail"},
        inputs={"f": {"times": 1}},
        settings={"failure_policy": "stop"},
    )
    assert run.status == "failed"
    retry.retry_failed(run, SYSTEM)
    drain()
    run.refresh_from_db()
    assert run.status == "completed", by_node(run)
    assert by_node(run)["j"] == by_node(run)["z"] == ["SUCCESS"]
    assert_counters_agree(run)


def test_a_cancelled_run_continues_when_it_is_retried(publish, drain):
    run = start_run(publish("a>b"))
    control.pause_run(run, SYSTEM)
    control.cancel_run(run, SYSTEM)
    retry.retry_failed(run, SYSTEM)
    drain()
    run.refresh_from_db()
    assert (run.status, by_node(run)) == (
        "completed",
        {"a": ["RETRY_CREATED", "SUCCESS"], "b": ["SUCCESS"]},
    )
    assert_counters_agree(run)


def test_the_failed_branches_of_a_fan_out_are_retried_at_their_paths(run_graph, drain):
    run = run_graph(
        "s>f>w>j",
        kinds={"f": "test.each", "w": "test.fail", "j": "noop"},
        inputs={
            "f": {"items": ["x", "y", "z"]},
            "w": {"message": "${{ f.outputs.value }}", "times": 1},
        },
        data={"j": {"unites": {"identifier": "s", "strategy": "ALL_SUCCESS"}}},
    )
    assert by_node(run)["w"] == ["ERRORED"] * 3
    retry.retry_failed(run, SYSTEM)
    drain()
    run.refresh_from_db()
    assert (run.status, by_node(run)["j"]) == ("completed", ["SUCCESS"])
    succeeded = run.states.filter(identifier="w", status="SUCCESS")
    assert set(succeeded.values_list("path", flat=True)) == {"1:0", "1:1", "1:2"}
    assert_counters_agree(run)


def test_a_run_without_failed_states_cannot_be_retried(run_graph):
    run = run_graph("a")
    with pytest.raises(errors.Conflict, match="no failed states"):
        retry.retry_failed(run, SYSTEM)


def test_a_paused_run_stays_paused_when_one_of_its_states_is_retried(run_graph, drain):
    run = run_graph(
        "s>a s>b",
        kinds={"a": "test.fail", "b": "test.again"},
        inputs={"a": {"times": 1}, "b": {"seconds": 3600}},
    )
    control.pause_run(run, SYSTEM)
    retry.retry_state(State.objects.get(identifier="a"), "x", SYSTEM)
    assert drain() == 0
    run.refresh_from_db()
    assert run.status == "paused"
    control.resume_run(run, SYSTEM)
    drain()
    assert by_node(run) == {"s": ["SUCCESS"], "a": ["RETRY_CREATED", "SUCCESS"], "b": ["CREATED"]}
    assert_counters_agree(run)
