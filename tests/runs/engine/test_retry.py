"""Trying again what failed for good: the counts move back, the run goes on, and joins fire that the end kept from firing."""

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
def _no_calls():
    calls.clear()


def test_a_partial_run_is_completed_by_retrying_what_failed(run_graph, drain):
    run = run_graph("s>a>j s>b>j j>z", kinds={"a": "test.fail"}, inputs={"a": {"times": 1}})
    assert (run.status, by_node(run)) == (
        "partial",
        {"s": ["SUCCESS"], "a": ["ERRORED"], "b": ["SUCCESS"]},
    )
    retries = retry.retry_failed(run, SYSTEM)
    run.refresh_from_db()
    assert (len(retries), run.status, run.finished_at, run.error_message, run.errored_count) == (
        1,
        "running",
        None,
        "",
        0,
    )
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


def test_what_a_stop_cancelled_goes_on_too_and_its_joins_fire(run_graph, drain):
    """Beside the failing branch a whole region came to its end while the run was stopping; its join had not fired."""
    settings = {"failure_policy": "stop"}
    run = run_graph(
        "s>f s>a>j s>b>j j>z",
        kinds={"f": "test.fail"},
        inputs={"f": {"times": 1}},
        settings=settings,
    )
    assert run.status == "failed"
    retry.retry_failed(run, SYSTEM)
    drain()
    run.refresh_from_db()
    assert run.status == "completed", by_node(run)
    assert by_node(run)["j"] == by_node(run)["z"] == ["SUCCESS"]
    assert_counters_agree(run)


def test_a_cancelled_run_goes_on(publish, drain):
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


def test_a_failed_branch_of_a_fan_out_is_retried_where_it_was(run_graph, drain):
    inputs = {
        "f": {"items": ["x", "y", "z"]},
        "w": {"message": "${{ f.outputs.value }}", "times": 1},
        "j": {"value": "${{ w.outputs.value }}"},
    }
    unite = {"j": {"unites": {"identifier": "s", "strategy": "ALL_SUCCESS"}}}
    run = run_graph(
        "s>f>w>j",
        kinds={"f": "test.each", "w": "test.fail", "j": "noop"},
        inputs={k: v for k, v in inputs.items() if k != "j"},
        data=unite,
    )
    assert by_node(run)["w"] == ["ERRORED"] * 3
    retry.retry_failed(run, SYSTEM)
    drain()
    run.refresh_from_db()
    assert (run.status, by_node(run)["j"]) == ("completed", ["SUCCESS"])
    assert set(
        State.objects.filter(run=run, identifier="w", status="SUCCESS").values_list(
            "path", flat=True
        )
    ) == {"1:0", "1:1", "1:2"}
    assert_counters_agree(run)


def test_there_must_be_something_to_retry(run_graph):
    run = run_graph("a")
    with pytest.raises(errors.Conflict, match="no failed states"):
        retry.retry_failed(run, SYSTEM)


def test_a_paused_run_stays_paused_when_a_state_of_it_is_retried(run_graph, drain):
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
