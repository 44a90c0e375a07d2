"""What outcomes mean for their states and runs, before anything is written: the statuses of the
states, the counts of the runs, the states that follow, and the lines to log.
"""

from collections.abc import Iterable, Iterator

from django.utils import timezone

from runs.core import statuses
from runs.core.node_counts import KNOWN
from runs.engine.advance import Prepared
from runs.engine.counters import RunCounters
from runs.engine.types import Claimed, Line, NewState

MAX_LOST_LEASES = 3
# What the worker of an external node did, by the kind of the outcome.
REPORTED = {
    "done": "reported success, outputs: {outputs}",
    "prune": "ended the branch",
    "again": "asked to run it again in {delay:g} s",
    "release": "gave it back",
}
Ended = tuple[Prepared, str]  # an outcome and the status that its state gets


def count_outcomes(
    batch: Iterable[Prepared], counters_by_run: dict[int, RunCounters]
) -> tuple[list[Ended], list[NewState], list[tuple[Claimed, Line]]]:
    """Count the outcomes in the counters of their runs.

    Returns the outcomes with the statuses of their states, the states that follow, and the lines
    to log.
    """
    ended: list[Ended] = []
    new: list[NewState] = []
    lines: list[tuple[Claimed, Line]] = []
    for prepared in batch:
        outcome, state = prepared.outcome, prepared.outcome.state
        run_counters = counters_by_run[state.run.pk]
        _limit_bytes(prepared, run_counters)
        status = _status(prepared, run_counters)
        ended.append((prepared, status))
        lines_of_state = [*outcome.lines, *_engine_lines(prepared, status)]
        lines += [(state, line) for line in lines_of_state]
        run_counters.log_count += len(lines_of_state)
        new += _count_outcome(prepared, status, run_counters)
    return ended, new, lines


def _limit_bytes(prepared: Prepared, run_counters: RunCounters) -> None:
    """Let nothing follow from the outcome that would exceed what the run may store."""
    following = [*prepared.siblings, *prepared.children]
    if prepared.retry:
        following.append(prepared.retry)
    if not following:
        return
    refusal = run_counters.refusal(prepared.outcome.size + sum(state.size for state in following))
    if not refusal:
        return
    prepared.siblings, prepared.children, prepared.retry = [], [], None
    if prepared.outcome.kind == "done":
        prepared.failed = refusal
    else:
        prepared.failed = f"{prepared.outcome.error} (not retried: {refusal})"


def _status(prepared: Prepared, run_counters: RunCounters) -> str:
    """The status that the state gets if its fence holds."""
    outcome = prepared.outcome
    if outcome.kind == "done":
        return statuses.NEXT_CREATED_ERROR if prepared.failed else statuses.SUCCESS
    if outcome.kind == "error":
        retries = prepared.retry and not run_counters.stopping
        return statuses.RETRY_CREATED if retries else statuses.ERRORED
    if outcome.kind == "prune":
        return statuses.PRUNED
    if outcome.kind == "lost" and lost_too_often(outcome.state):
        return statuses.TIMEDOUT
    return statuses.CANCELLED if run_counters.stopping else statuses.CREATED


def lost_too_often(state: Claimed) -> bool:
    """Whether a state that loses its lease now has lost so many that it ends."""
    return state.lost_leases + 1 >= MAX_LOST_LEASES


def _count_outcome(prepared: Prepared, status: str, run_counters: RunCounters) -> list[NewState]:
    """Count an outcome in the counters of its run. Returns the states that follow from it."""
    outcome, state = prepared.outcome, prepared.outcome.state
    if status not in statuses.FINAL_STATES:
        run_counters.waiting_count += outcome.kind == "wait"
        return []
    run_counters.finish(state.identifier, status)
    if outcome.kind in ("done", "prune"):
        run_counters.stored_bytes += outcome.size
    run_counters.current_node = state.identifier

    new: list[NewState] = []
    if status == statuses.SUCCESS:
        run_counters.emitted += outcome.emitted
        new = [*prepared.siblings, *prepared.children]
    elif status == statuses.RETRY_CREATED and prepared.retry:
        new = [prepared.retry]
    elif status in statuses.FAILED_STATES:
        run_counters.note_failure(state.identifier, prepared.failed or outcome.error)
    for new_state in new:
        run_counters.enter(new_state)
    return new


def _engine_lines(prepared: Prepared, status: str) -> Iterator[Line]:
    """The lines that the engine itself adds to the log of the run."""
    outcome, retry = prepared.outcome, prepared.retry
    state, identifier = outcome.state, outcome.state.identifier
    if outcome.emitted and status == statuses.SUCCESS:
        yield timezone.now(), "info", f"{identifier} emitted {outcome.emitted:,} rows"
    elif status == statuses.RETRY_CREATED and retry:
        number = f"retry {retry.retry_count} of {state.node.policy.max_retries}"
        message = f"{identifier} failed, {number} in {retry.delay:.1f} s: {outcome.error}"
        yield timezone.now(), "warning", message
    elif outcome.kind == "lost" and status == statuses.CREATED:
        holder = f" ({outcome.holder})" if outcome.holder else ""
        lost = f"{identifier} lost its worker in attempt {state.attempt}{holder}"
        message = f"{lost}; it is ready again"
        yield timezone.now(), "warning", message
    elif status in statuses.FAILED_STATES:
        yield timezone.now(), "error", f"{identifier} failed: {prepared.failed or outcome.error}"
    elif state.node.worker_namespace and outcome.kind in REPORTED:
        # Our own nodes log what they do. Of an external one, this is the only trace in the log.
        did = REPORTED[outcome.kind].format(outputs=len(outcome.outputs), delay=outcome.delay)
        yield timezone.now(), "info", f"{identifier}: its worker {did}"


def stop_at_limits(counters_by_run: dict[int, RunCounters]) -> None:
    """Stop the runs that failed too often or started too many states."""
    for run_counters in counters_by_run.values():
        plan = run_counters.plan
        if plan is None or not run_counters.open:
            continue
        known = sum(counts[KNOWN] for counts in run_counters.node_counts.values())
        failed = run_counters.errored_count
        if failed > plan.failures_allowed(known):
            total = max(len(plan.order), known)
            run_counters.stop(f"too many failures ({failed}/{total} failed)")
        limit = run_counters.max_steps or plan.max_steps
        if limit and run_counters.started_count > limit:
            run_counters.stop(f"max_steps reached ({limit} states may be started)")
