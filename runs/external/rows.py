"""The rows of a run that follow from the document that its outside program reports."""

from collections.abc import Sequence
from datetime import UTC, datetime

from django.utils import timezone

from graphs.definition import payloads, uuids
from runs.core import sql, statuses
from runs.core.node_counts import NodeCounts
from runs.engine import log_lines, status_rules
from runs.engine.counters import RunCounters
from runs.external.documents import digest_of, node_status
from runs.external.run_state import KEPT_ACTIONS, NodeState, RunState
from runs.models import OUTSIDE, LogLine, Run, State, ToolResult

MAX_ATTEMPTS = 2**31 - 1
MAX_ERROR = 10_000
MAX_RUN_ERROR = 2000
_ENDED_AS = {
    statuses.SUCCESS: "succeeded",
    statuses.PRUNED: "ended its branch",
    statuses.CANCELLED: "was cancelled",
}
_SUCCEEDED = (statuses.SUCCESS, statuses.PRUNED)
_REPORTED = ("status", "node", "inputs", "outputs", "attempt", "error", "due_at", "started_at")


def count(run_counters: RunCounters, state: RunState) -> None:
    """Set the run's counters, progress and error message from the document's nodes."""
    node_statuses = [node_status(node, run_counters.status) for node in state.node_states.values()]
    run_counters.current_node = state.current_node
    run_counters.current_step = state.current_step
    run_counters.started_count = len(node_statuses)
    run_counters.pending_count = sum(status in statuses.UNFINISHED for status in node_statuses)
    run_counters.success_count = sum(status in _SUCCEEDED for status in node_statuses)
    run_counters.errored_count = sum(status in statuses.FAILED_STATES for status in node_statuses)
    run_counters.cancelled_count = node_statuses.count(statuses.CANCELLED)
    # Only the program knows how many nodes there will be; its step limit is the best estimate.
    expected = max(state.max_steps, len(node_statuses))
    percent = status_rules.percent(run_counters.success_count, expected)
    run_counters.progress = status_rules.progress(
        run_counters.status, percent, run_counters.progress
    )
    if run_counters.status == statuses.COMPLETED:
        run_counters.error_message = ""
        return
    failures = [
        f"{node.node_id}: {node.error}"
        for node in state.node_states.values()
        if node.error and node.status == "failed"
    ]
    if failures:
        run_counters.error_message = payloads.clean(failures[-1], MAX_RUN_ERROR)


def store_columns(run: Run, state: RunState) -> None:
    """Write the columns of the run that hold members of the document."""
    Run.objects.filter(pk=run.pk).update(
        session_id=state.session_id,
        purpose=state.purpose,
        max_steps=state.max_steps,
        data=state.data,
        metadata=state.metadata,
        action_history=state.action_history[-KEPT_ACTIONS:],
        document_version=state.version,
        heuristic_count_at_checkpoint=state.heuristic_count_at_checkpoint,
        experience_count_at_checkpoint=state.experience_count_at_checkpoint,
    )


def store_states(run: Run, state: RunState, run_status: str) -> tuple[NodeCounts, list[State]]:
    """Make the run's states those of the document's nodes; return the node counts, and the states
    that have ended since the last document.

    There is one state for each node. New ones are added, changed ones are updated, and those whose
    node is no longer in the document are deleted.
    """
    node_counts: NodeCounts = {}
    stored = {existing.identifier: existing for existing in run.states.all()}
    new, ended = [], []
    for key, node in state.node_states.items():
        status = node_status(node, run_status)
        succeeded = int(status in _SUCCEEDED)
        failed = int(status in statuses.FAILED_STATES)
        node_counts[key] = [1, succeeded, failed]

        reported = _reported_state(run, key, node, status)
        existing = stored.pop(key, None)
        if status in statuses.FINAL_STATES and not (existing and existing.status == status):
            ended.append(reported)
        if existing is None:
            reported.finished_at = _finished_at(node, status)
            new.append(reported)
        elif any(getattr(existing, name) != getattr(reported, name) for name in _REPORTED):
            State.objects.filter(pk=existing.pk).update(
                finished_at=_finished_at(node, status, existing.finished_at),
                **{name: getattr(reported, name) for name in _REPORTED},
            )
    State.objects.bulk_create(new)
    State.objects.filter(pk__in=[removed.pk for removed in stored.values()]).delete()
    return node_counts, ended


def log_ended(run_counters: RunCounters, ended: Sequence[State]) -> None:
    """Log how these states ended. The caller stores the counters."""
    LogLine.objects.bulk_create(_line(run_counters.pk, state) for state in ended)
    run_counters.log_count += len(ended)
    statements = sql.Statements()
    log_lines.drop_oldest(run_counters, statements)
    statements.flush()


def _line(run: int, state: State) -> LogLine:
    failed = state.status in statuses.FAILED_STATES
    how = f"failed: {state.error}" if failed else _ENDED_AS[state.status]
    return LogLine(
        run_id=run,
        identifier=state.identifier,
        attempt=state.attempt,
        level="error" if failed else "info",
        message=f"{state.identifier} {how}",
    )


def _reported_state(run: Run, key: str, node: NodeState, status: str) -> State:
    return State(
        id=uuids.uuid7(),
        run=run,
        identifier=key,
        status=status,
        node=OUTSIDE,
        inputs=node.input_data,
        outputs=node.output_data,
        attempt=max(0, min(node.attempts, MAX_ATTEMPTS)),
        error=payloads.clean(node.error or "", MAX_ERROR),
        due_at=None,
        started_at=_moment(node.started_at),
    )


def _finished_at(node: NodeState, status: str, earlier: datetime | None = None) -> datetime | None:
    """Return when the node ended: as reported, as known before, or now."""
    if status not in statuses.FINAL_STATES:
        return None
    return _moment(node.finished_at) or earlier or timezone.now()


def _moment(seconds: float) -> datetime | None:
    """Return seconds since 1970 as a time; None for 0 and for impossible times."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (OverflowError, OSError, ValueError):
        return None


def store_tool_results(run: Run, run_counters: RunCounters, state: RunState) -> None:
    """Record the document's tool results. A result that is already recorded is not replaced.

    Raises TooLarge if the run may not store the new ones.
    """
    recorded = set(run.tool_results.values_list("digest", flat=True))
    new = [
        ToolResult(run=run, key=key, digest=digest_of(key), result=result)
        for key, result in state.tool_results_cache.items()
        if digest_of(key) not in recorded
    ]
    run_counters.keep(sum(payloads.size(payloads.dump(row.result)) for row in new))
    ToolResult.objects.bulk_create(new, ignore_conflicts=True)
