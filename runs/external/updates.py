"""Reports of outside programs on the runs that they drive: whole documents, or single nodes.

Each reported document is stored as a checkpoint, exactly as it came, and the last 50 are kept, so
that the program can resume from any of them. The run's columns, its states and its tool results
follow from the document in the same transaction. Pages, lists and counts read only those.
"""

from django.db import transaction
from django.db.models import Sum
from django.db.models.functions import Length

from graphs.auth.callers import Caller
from graphs.definition import errors, payloads, uuids
from graphs.definition.types import JsonObject
from runs.core import statuses
from runs.core.failpoints import failpoint
from runs.engine import counters, status_rules
from runs.engine.counters import RunCounters
from runs.external import queue, rows
from runs.external.documents import MAX_NODES, NS, from_rows, last_reported, run_state
from runs.external.run_state import RunState, RunStatus
from runs.models import AuditEntry, Checkpoint, CheckpointWrite, LogLine, Run

MAX_DOCUMENTS = 50
MAX_NAME = 200
MAX_KEY = 1500
MAX_COUNT = 2**31 - 1


def put_run_state(run: Run, state: RunState, caller: Caller, claim: int | None = None) -> RunState:
    """Store the document in which an outside program reports its run; return it as it is stored.

    Reporting the last document again changes nothing, because its answer may have been lost.
    `claim` is the number with which the program took the run from the queue, if it did.

    Raises Conflict if the run has a graph (only the engine changes it), belongs to a LangGraph
    application, is held by another program, or can't get from its status to the reported one.
    Raises Malformed or TooLarge if the document doesn't fit the run or what the run may store,
    NotFound if the run was deleted meanwhile, and Forbidden if the caller may not start runs (and
    holds no claim), see payloads or (for a cancelled document) cancel runs.
    """
    stored = _put(run, state, caller, claim, "document", state.status.value)
    failpoint("after-run-state-commit")
    return stored


def mark(
    run: Run,
    node: str,
    event: str,
    caller: Caller,
    output: JsonObject | None = None,
    error: str = "",
    claim: int | None = None,
) -> RunState:
    """Report one node of a run that an outside program drives; return the new document.

    `event` is "started", "completed" (with the node's output) or "failed" (with its error). A
    pending or failed run is running afterwards. Raises what `put_run_state` raises, and Conflict
    if the run has ended other than by failing.
    """
    _require_rights(run, caller, claim)
    _require_external(run)
    with transaction.atomic():
        run_counters = _lock(run)
        is_over = run_counters.status in statuses.ENDED_RUNS
        if is_over and run_counters.status not in statuses.UNSUCCESSFUL:
            raise errors.Conflict(
                f"The run is {statuses.DOCUMENT_RUN_STATUSES[run_counters.status]}."
                " Its nodes can't be marked any more.",
                allowed=[],
            )
        run.refresh_from_db(fields=["status"])
        state = last_reported(run) or from_rows(run)
        if state.status in (RunStatus.PENDING, RunStatus.FAILED):
            state.status = RunStatus.RUNNING
        _mark_node(state, node, event, output, error)
        stored = _put(run, state, caller, claim, "mark", f"{node}: {event}")
    failpoint("after-run-state-commit")
    return stored


def _mark_node(
    state: RunState, node: str, event: str, output: JsonObject | None, error: str
) -> None:
    if output is not None and event != "completed":
        raise errors.Malformed("Only a completed node has an output.")
    if error and event != "failed":
        raise errors.Malformed("Only a failed node has an error.")
    if event == "started":
        state.mark_node_started(node)
    elif event == "completed":
        state.mark_node_completed(node, output)
    elif event == "failed":
        state.mark_node_failed(node, error)
    else:
        raise errors.Malformed("The event is started, completed or failed.")


def _put(
    run: Run, state: RunState, caller: Caller, claim: int | None, action: str, detail: str
) -> RunState:
    """Store a document and what follows from it. A new one leaves an audit entry."""
    _require_rights(run, caller, claim)
    _require_external(run)
    _check(run, state)
    state.run_id = run.run_id
    try:
        body = payloads.dump(state.to_dict())
    except payloads.NotJson as error:
        raise errors.Malformed(f"The document can't be stored: {error}.") from None

    with transaction.atomic():
        run_counters = _lock(run)
        queue.admit_report(run, caller, claim)
        _refuse_threads(run)
        if _store_checkpoint(run, run_counters, state, body.encode()):
            AuditEntry.objects.record(caller, action, run, detail)
        _move(run, run_counters, state, caller)
        rows.count(run_counters, state)
        rows.store_columns(run, state)
        run_counters.node_counts, ended = rows.store_states(run, state, run_counters.status)
        rows.log_ended(run_counters, ended)
        rows.store_tool_results(run, run_counters, state)
        counters.store([run_counters])
        queue.follow(run_counters, claim)
        run.refresh_from_db()
        return run_state(run)


def _lock(run: Run) -> RunCounters:
    run_counters = counters.lock([run.pk]).get(run.pk)
    if run_counters is None:
        raise errors.NotFound(f"There is no run {run.run_id!r}.")
    return run_counters


# --- what is refused ----------------------------------------------------------------------------


def _require_rights(run: Run, caller: Caller, claim: int | None) -> None:
    """A report is answered with the whole document, so its caller must be allowed to see it.

    A worker needs no right to start runs for one that it has claimed; the claim is checked later,
    under the lock of the run.
    """
    if claim is None or not caller.may("worker"):
        caller.require("start", run.namespace_id)
    caller.require("payloads", run.namespace_id)


def _require_external(run: Run) -> None:
    if run.graph_id is not None:
        raise errors.Conflict(
            "The run has a graph, so the engine alone changes it."
            " Only runs without a graph take reports.",
            allowed=[],
        )


def _refuse_threads(run: Run) -> None:
    has_checkpoints = Checkpoint.objects.filter(run=run).exclude(ns=NS).exists()
    if has_checkpoints or CheckpointWrite.objects.filter(run=run).exists():
        raise errors.Conflict(
            "The run is a thread of a LangGraph application. Its checkpoints determine its status.",
            allowed=[],
        )


def _check(run: Run, state: RunState) -> None:
    """Raises Malformed or TooLarge if the document can't be stored as this run's."""
    if state.run_id and state.run_id != run.run_id:
        raise errors.Malformed(
            f"The document belongs to the run {state.run_id[:200]!r}, not to {run.run_id!r}."
        )
    if len(state.node_states) > MAX_NODES:
        raise errors.TooLarge(f"A document holds at most {MAX_NODES:,} nodes.")
    for name in (*state.node_states, state.current_node):
        if len(name) > MAX_NAME:
            raise errors.Malformed(
                f"The name of a node has at most {MAX_NAME} characters;"
                f" {name[:50]!r}… has {len(name):,}."
            )
    if any(len(key) > MAX_KEY for key in state.tool_results_cache):
        raise errors.Malformed(f"The key of a tool result has at most {MAX_KEY:,} characters.")
    if len(state.session_id) > MAX_NAME:
        raise errors.Malformed(f"session_id has at most {MAX_NAME} characters.")
    numbers = (
        state.max_steps,
        state.current_step,
        state.heuristic_count_at_checkpoint,
        state.experience_count_at_checkpoint,
    )
    if min(numbers) < 0 or max(numbers) > MAX_COUNT:
        raise errors.Malformed(f"Steps and counts are numbers from 0 to {MAX_COUNT:,}.")


# --- what follows from a document ---------------------------------------------------------------


def _store_checkpoint(run: Run, run_counters: RunCounters, state: RunState, body: bytes) -> bool:
    """Store the document as the newest checkpoint and delete those beyond the last 50.

    The same document again is the same checkpoint. Returns whether it is a new one. The states of
    the run are made of the newest document, so their bytes are not counted a second time.
    """
    documents = Checkpoint.objects.filter(run=run, ns=NS)
    earlier = list(documents.order_by("-pk").values_list("checkpoint_id", flat=True))
    newest = earlier[0] if earlier else ""
    if newest and documents.filter(checkpoint_id=newest, body=body).exists():
        return False
    dropped = documents.filter(checkpoint_id__in=earlier[MAX_DOCUMENTS - 1 :])
    run_counters.keep(len(body) - (dropped.aggregate(size=Sum(Length("body")))["size"] or 0))
    Checkpoint.objects.create(
        run=run,
        ns=NS,
        checkpoint_id=uuids.dashed(uuids.uuid7()),
        parent_checkpoint_id=newest,
        type="json",
        body=body,
        metadata={
            "step": state.current_step,
            "node": state.current_node,
            "status": state.status.value,
        },
    )
    dropped.delete()
    return True


def _move(run: Run, run_counters: RunCounters, state: RunState, caller: Caller) -> None:
    """Take the run to the document's status, with an audit entry and a log line if that is new.

    Raises Conflict if there is no way from the run's status to it.
    """
    before = run_counters.status
    target = _target(run_counters, state)
    if target == before or (target, before) == (statuses.FAILED, statuses.PARTIAL):
        return  # documents call both failed
    resumed = (
        before in statuses.UNSUCCESSFUL and target == statuses.RUNNING
    )  # from an earlier document
    ended_at_once = before == statuses.RUN_QUEUED and target in statuses.ENDED_RUNS
    if before not in statuses.RUN_MOVES[target] and not resumed and not ended_at_once:
        raise errors.Conflict(
            f"The run is {statuses.DOCUMENT_RUN_STATUSES[before]}; it can't become"
            f" {state.status.value}.",
            allowed=_next_statuses(before),
        )
    if target == statuses.RUN_CANCELLED:
        caller.require("cancel", run.namespace_id)
    if resumed:
        Run.objects.filter(pk=run.pk).update(archived_at=None)
    AuditEntry.objects.record(caller, "report", run, state.status.value)
    LogLine.objects.create(run=run, message=f"The outside program reports: {state.status.value}")
    run_counters.log_count += 1
    run_counters.status = target


def _target(run_counters: RunCounters, state: RunState) -> str:
    """Return the status that the document gives the run.

    A run that has started doesn't become queued again, and a run that a person paused stays paused.
    """
    target = statuses.RUN_STATUS_OF_DOCUMENT[state.status.value]
    if target == statuses.RUN_QUEUED and run_counters.status != statuses.RUN_QUEUED:
        target = statuses.RUNNING
    return status_rules.reported_status(target, run_counters.paused)


def _next_statuses(status: str) -> list[str]:
    """Return the statuses, as documents spell them, that a run of this status can get to."""
    targets = [target for target, sources in statuses.RUN_MOVES.items() if status in sources]
    return sorted({statuses.DOCUMENT_RUN_STATUSES[target] for target in targets})
