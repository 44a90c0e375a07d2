"""What outside programs report of runs that they drive themselves: whole documents, or one node after the other.

What such a program puts is kept as a checkpoint, word for word, the last of them together with those before it, so that it can resume from any of
them; the run's columns, states and tool results follow from it in the same transaction, and pages, lists and counts need to know nothing of it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from graphs.auth.callers import Caller
from graphs.definition import errors, payloads, uuids
from runs.core import statuses
from runs.core.failpoints import failpoint
from runs.core.node_counts import NodeCounts
from runs.engine import counters, status_rules
from runs.engine.counters import RunCounters
from runs.external.documents import MAX_NODES, NS, digest_of, of_rows, put_last, run_state, word_of
from runs.external.run_state import KEPT_ACTIONS, RunState, RunStatus
from runs.models import (
    OUTSIDE,
    AuditEntry,
    Checkpoint,
    CheckpointWrite,
    LogLine,
    Run,
    State,
    ToolResult,
)

KEPT = 50
MAX_NAME, MAX_KEY = 200, 1500


def put_run_state(run: Run, state: RunState, caller: Caller) -> RunState:
    """Note where an outside program is with its run.

    Raises Conflict for a run with a graph, which the engine alone moves, and for a run that has ended otherwise, Malformed for another run's document.
    """
    told = _put(run, state, caller)
    failpoint("after-run-state-commit")
    return told


def _put(run: Run, state: RunState, caller: Caller) -> RunState:
    _require(run, caller)
    _check(run, state)
    try:
        body = payloads.dump(state.to_dict())
    except payloads.NotJson as error:
        raise errors.Malformed(f"The document can't be stored: {error}.") from None
    with transaction.atomic():
        run_counters = counters.lock([run.pk]).get(run.pk)
        if run_counters is None:
            raise errors.NotFound(f"There is no run {run.run_id!r}.")
        if (
            Checkpoint.objects.filter(run=run).exclude(ns=NS).exists()
            or CheckpointWrite.objects.filter(run=run).exists()
        ):
            raise errors.Conflict(
                "A LangGraph application keeps this thread; its checkpoints say where the run is.",
                allowed=[],
            )
        _keep(run, state, body)
        _move(run, run_counters, state, caller)
        _store_columns(run, state)
        run_counters.node_counts = _store_states(run, state, run_counters.status)
        _store_results(run, state)
        counters.store([run_counters])
        run.refresh_from_db()
        return run_state(run)


def mark(
    run: Run,
    node: str,
    event: str,
    caller: Caller,
    output: Mapping[str, Any] | None = None,
    error: str = "",
) -> RunState:
    """Report one node of a run that an outside program drives: started, completed (with its output) or failed (with its error)."""
    _require(run, caller)
    with transaction.atomic():
        run_counters = counters.lock([run.pk]).get(run.pk)
        if (
            run_counters
            and run.graph_id is None
            and run_counters.status in statuses.ENDED_RUNS
            and run_counters.status != statuses.FAILED
        ):
            raise errors.Conflict(
                f"The run is {statuses.DOCUMENT_RUN_STATUSES[run_counters.status]}; none of its nodes is marked any more.",
                allowed=[],
            )
        run.refresh_from_db(fields=["status"])
        state = (
            (put_last(run) or of_rows(run)) if run.graph_id is None else RunState(run_id=run.run_id)
        )
        state.status = (
            RunStatus.RUNNING
            if state.status in (RunStatus.PENDING, RunStatus.FAILED)
            else state.status
        )
        if event == "started":
            state.mark_node_started(node)
        elif event == "completed":
            state.mark_node_completed(node, dict(output or {}))
        elif event == "failed":
            state.mark_node_failed(node, error)
        else:
            raise errors.Malformed("A node has started, completed or failed.")
        told = _put(run, state, caller)
    failpoint("after-run-state-commit")
    return told


def _require(run: Run, caller: Caller) -> None:
    """Who reports sees what is there already."""
    caller.require("start", run.namespace_id)
    caller.require("payloads", run.namespace_id)


def _check(run: Run, state: RunState) -> None:
    if run.graph_id is not None:
        raise errors.Conflict(
            "The run has a graph: the engine alone moves it. Only runs without a graph take reports from outside.",
            allowed=[],
        )
    if state.run_id and state.run_id != run.run_id:
        raise errors.Malformed(
            f"The document is of the run {state.run_id[:200]!r}, the path names {run.run_id!r}."
        )
    if len(state.node_states) > MAX_NODES:
        raise errors.TooLarge(f"A document holds at most {MAX_NODES:,} nodes.")
    if wrong := [key for key in (*state.node_states, state.current_node) if len(key) > MAX_NAME]:
        raise errors.Malformed(
            f"The name of a node has at most {MAX_NAME} characters; {wrong[0][:50]!r}… has {len(wrong[0]):,}."
        )
    if any(len(key) > MAX_KEY for key in state.tool_results_cache):
        raise errors.Malformed(f"The key of a tool result has at most {MAX_KEY:,} characters.")
    if (
        len(state.session_id) > MAX_NAME
        or min(
            state.max_steps,
            state.current_step,
            state.heuristic_count_at_checkpoint,
            state.experience_count_at_checkpoint,
        )
        < 0
    ):
        raise errors.Malformed(
            f"session_id has at most {MAX_NAME} characters, and nothing is counted below 0."
        )
    if (
        max(
            state.max_steps,
            state.current_step,
            state.heuristic_count_at_checkpoint,
            state.experience_count_at_checkpoint,
        )
        >= 2**31
    ):
        raise errors.Malformed("Nothing is counted beyond 2,147,483,647.")
    state.run_id = run.run_id


def _keep(run: Run, state: RunState, body: str) -> None:
    """The document as it is, and no more than so many of those before it. The last one put again (its answer may have been lost) is the same point."""
    before = list(
        Checkpoint.objects.filter(run=run, ns=NS)
        .order_by("-pk")
        .values_list("checkpoint_id", flat=True)
    )
    if (
        before
        and Checkpoint.objects.filter(
            run=run, ns=NS, checkpoint_id=before[0], body=body.encode()
        ).exists()
    ):
        return
    Checkpoint.objects.create(
        run=run, ns=NS, checkpoint_id=uuids.dashed(uuids.uuid7()), parent_checkpoint_id=before[0] if before else "", type="json", body=body.encode(),
        metadata={"step": state.current_step, "node": state.current_node, "status": state.status.value},
    )  # fmt: skip
    Checkpoint.objects.filter(run=run, ns=NS, checkpoint_id__in=before[KEPT - 1 :]).delete()


def _target(run_counters: RunCounters, state: RunState) -> str:
    """Where the document takes the run: one that was not begun in it is under way by now, and one that a person paused stays paused."""
    to = statuses.RUN_STATUS_OF_DOCUMENT[state.status.value]
    if to == statuses.RUN_QUEUED and run_counters.status != statuses.RUN_QUEUED:
        to = statuses.RUNNING
    return status_rules.reported_status(to, run_counters.paused)


def _move(run: Run, run_counters: RunCounters, state: RunState, caller: Caller) -> None:
    """Take the run to the document's status, if there is a way; the log and the audit say so. A failed run may be resumed from an earlier point."""
    to = _target(run_counters, state)
    if to != run_counters.status:
        resumed = run_counters.status == statuses.FAILED and to == statuses.RUNNING
        if (
            run_counters.status not in statuses.RUN_MOVES[to]
            and not resumed
            and not (run_counters.status == statuses.RUN_QUEUED and to in statuses.ENDED_RUNS)
        ):
            ways = sorted(
                {
                    statuses.DOCUMENT_RUN_STATUSES[word]
                    for word, came in statuses.RUN_MOVES.items()
                    if run_counters.status in came
                }
            )
            raise errors.Conflict(
                f"The run is {statuses.DOCUMENT_RUN_STATUSES[run_counters.status]}; it can't become {state.status.value}.",
                allowed=ways,
            )
        if to == statuses.RUN_CANCELLED:
            caller.require("cancel", run.namespace_id)
        if resumed:
            Run.objects.filter(pk=run.pk).update(archived_at=None)
        AuditEntry.objects.record(caller, "report", run, state.status.value)
        LogLine.objects.create(
            run=run, message=f"The outside program reports: {state.status.value}"
        )
        run_counters.log_count += 1
    run_counters.status, run_counters.current_node, run_counters.current_step = (
        to,
        state.current_node,
        state.current_step,
    )
    words = [word_of(node, to) for node in state.node_states.values()]
    run_counters.started_count = len(words)
    run_counters.pending_count = sum(word in statuses.UNFINISHED for word in words)
    run_counters.success_count = sum(word in (statuses.SUCCESS, statuses.PRUNED) for word in words)
    run_counters.errored_count = sum(word in statuses.FAILED_STATES for word in words)
    run_counters.cancelled_count = words.count(statuses.CANCELLED)
    # Only the program knows how many nodes there will be.
    share = status_rules.percent(run_counters.success_count, max(state.max_steps, len(words)))
    run_counters.progress = status_rules.progress(to, share, run_counters.progress)
    failed = [
        f"{node.node_id}: {node.error}"
        for node in state.node_states.values()
        if node.error and node.status == "failed"
    ]
    run_counters.error_message = (
        ""
        if to == statuses.COMPLETED
        else payloads.clean(failed[-1], 2000)
        if failed
        else run_counters.error_message
    )


def _store_columns(run: Run, state: RunState) -> None:
    Run.objects.filter(pk=run.pk).update(
        session_id=state.session_id, purpose=state.purpose, max_steps=state.max_steps, data=state.data, metadata=state.metadata,
        action_history=state.action_history[-KEPT_ACTIONS:], document_version=state.version,
        heuristic_count_at_checkpoint=state.heuristic_count_at_checkpoint, experience_count_at_checkpoint=state.experience_count_at_checkpoint,
    )  # fmt: skip


def _store_states(run: Run, state: RunState, to: str) -> NodeCounts:
    """A row for each node: new ones are made, changed ones written, those that are no longer in the document go."""
    now, node_counts = timezone.now(), NodeCounts()
    there = {row.identifier: row for row in run.states.all()}
    new = []
    for key, node in state.node_states.items():
        word = word_of(node, to)
        node_counts[key] = [
            1,
            int(word in (statuses.SUCCESS, statuses.PRUNED)),
            int(word in statuses.FAILED_STATES),
        ]
        ended = word in statuses.FINAL_STATES
        values = {
            "status": word, "node": OUTSIDE, "inputs": node.input_data, "outputs": node.output_data, "attempt": max(0, min(node.attempts, 2**31 - 1)),
            "error": payloads.clean(node.error or "", 10_000), "due_at": None, "started_at": _moment(node.started_at),
        }  # fmt: skip
        row = there.pop(key, None)
        if row is None:
            new.append(
                State(
                    id=uuids.uuid7(),
                    run=run,
                    identifier=key,
                    finished_at=(_moment(node.finished_at) or now) if ended else None,
                    **values,
                )
            )
        elif any(getattr(row, name) != value for name, value in values.items()):
            finished = (_moment(node.finished_at) or row.finished_at or now) if ended else None
            State.objects.filter(pk=row.pk).update(finished_at=finished, **values)
    State.objects.bulk_create(new)
    State.objects.filter(pk__in=[row.pk for row in there.values()]).delete()
    return node_counts


def _moment(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (OverflowError, OSError, ValueError):
        return None


def _store_results(run: Run, state: RunState) -> None:
    """Results are recorded once; one that is there already stays."""
    found = [
        ToolResult(run=run, key=key, digest=digest_of(key), result=result)
        for key, result in state.tool_results_cache.items()
    ]
    ToolResult.objects.bulk_create(found, ignore_conflicts=True)
