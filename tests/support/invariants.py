"""What must hold of every run's rows, whatever happened to it: counters that agree with states, and
nothing twice.
"""

from collections import Counter

from runs.core import paths, statuses
from runs.models import Run


def assert_counters_agree(run: Run) -> None:
    """The kept counts are what counting the states gives; each step succeeded at most once."""
    run.refresh_from_db()
    plan = run.version.plan
    states = list(run.states.all())
    count = Counter(state.status for state in states)
    kept = {
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
        "errored": sum(count[word] for word in statuses.FAILED_STATES),
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
    assert kept == counted, (run.run_id, kept, counted)
    for node in plan.order:
        mine = [
            state
            for state in states
            if state.identifier == node and state.status != "RETRY_CREATED"
        ]
        done = sum(state.status in ("SUCCESS", "PRUNED") for state in mine)
        bad = sum(state.status in statuses.FAILED_STATES for state in mine)
        known = run.node_counts.get(node, [0, 0, 0])
        assert known == [len(mine), done, bad], (run.run_id, node, known, [len(mine), done, bad])
    assert (run.status in statuses.ENDED_RUNS) == (run.pending_count == 0), (
        run.run_id,
        run.status,
        run.pending_count,
    )
    assert run.log_count == run.logs.count()
    places = Counter(
        (state.identifier, state.path) for state in states if state.status == "SUCCESS"
    )
    assert all(number == 1 for number in places.values()), places.most_common(3)
    steps = Counter(
        (
            state.identifier,
            paths.step(state.path, plan.nodes[state.identifier].index),
            state.retry_count,
        )
        for state in states
        if state.attempt and state.status != "RETRY_CREATED"
    )
    assert all(number == 1 for number in steps.values()), steps.most_common(3)
