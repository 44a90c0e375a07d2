"""What must hold for the rows of every run, whatever happened to it.

The counters agree with the states, and nothing was executed or recorded twice.
"""

from collections import Counter

from runs.core import paths, statuses
from runs.models import Run, State


def assert_counters_agree(run: Run) -> None:
    """The stored counters match the states, and each step succeeded at most once."""
    run.refresh_from_db()
    states = list(run.states.all())
    _assert_run_counters(run, states)
    _assert_node_counts(run, states)
    assert (run.status in statuses.ENDED_RUNS) == (run.pending_count == 0), (
        run.run_id,
        run.status,
        run.pending_count,
    )
    assert run.log_count == run.logs.count()
    _assert_nothing_twice(run, states)


def _assert_run_counters(run: Run, states: list[State]) -> None:
    count = Counter(state.status for state in states)
    stored = {
        "pending": run.pending_count,
        "success": run.success_count,
        "errored": run.errored_count,
        "retried": run.retried_count,
        "cancelled": run.cancelled_count,
        "waiting": run.waiting_count,
        "started": run.started_count,
    }
    counted = {
        "pending": count["CREATED"] + count["QUEUED"],
        "success": count["SUCCESS"] + count["PRUNED"],
        "errored": sum(count[status] for status in statuses.FAILED_STATES),
        "retried": count["RETRY_CREATED"],
        "cancelled": count["CANCELLED"],
        "waiting": sum(
            state.status == "CREATED" and state.waiting_for is not None and state.due_at is None
            for state in states
        ),
        "started": sum(
            state.reused is None and (state.status != "SUCCESS" or state.attempt > 0)
            for state in states
        ),
    }
    assert stored == counted, (run.run_id, stored, counted)


def _assert_node_counts(run: Run, states: list[State]) -> None:
    for node in run.version.plan.order:
        of_node = [
            state
            for state in states
            if state.identifier == node and state.status != "RETRY_CREATED"
        ]
        succeeded = sum(state.status in ("SUCCESS", "PRUNED") for state in of_node)
        failed = sum(state.status in statuses.FAILED_STATES for state in of_node)
        stored = run.node_counts.get(node, [0, 0, 0])
        counted = [len(of_node), succeeded, failed]
        assert stored == counted, (run.run_id, node, stored, counted)


def _assert_nothing_twice(run: Run, states: list[State]) -> None:
    plan = run.version.plan
    successes = Counter(
        (state.identifier, state.path) for state in states if state.status == "SUCCESS"
    )
    assert all(number == 1 for number in successes.values()), successes.most_common(3)
    attempted = Counter(
        (
            state.identifier,
            paths.step(state.path, plan.nodes[state.identifier].index),
            state.retry_count,
        )
        for state in states
        if state.attempt and state.status != "RETRY_CREATED"
    )
    assert all(number == 1 for number in attempted.values()), attempted.most_common(3)
