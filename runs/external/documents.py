"""Runs as `RunState` documents: a view of the rows for every run. What an outside program reports of its own is written by `runs.external.updates`."""

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db.models import Max

from graphs.definition import errors
from runs.core import paths, statuses
from runs.external.run_state import KEPT_ACTIONS, NodeState, RunState, RunStatus
from runs.models import Checkpoint, Run, State

NS = ":run-state"  # the checkpoints that are documents; no node of LangGraph's may have such a name
MAX_NODES = 10_000
_ACTIONS = {
    statuses.SUCCESS: "completed",
    statuses.PRUNED: "pruned",
    statuses.CANCELLED: "cancelled",
    statuses.RETRY_CREATED: "failed",
}


def run_state(run: Run, at: str = "") -> RunState:
    """The run as a document: as it is, or as the checkpoint with the id `at` has it. Raises NotFound for an unknown checkpoint."""
    if at:
        kept = Checkpoint.objects.filter(
            run=run, ns=NS, checkpoint_id=at.replace("\x00", "")
        ).first()
        if kept is None:
            raise errors.NotFound(f"The run has no such checkpoint {at[:100]!r}.")
        return RunState.from_dict(json.loads(bytes(kept.body)))
    state = put_last(run)
    return _with_results(run, state) if state else of_rows(run)


def _newest(run: Run) -> Checkpoint | None:
    return (
        Checkpoint.objects.filter(run=run, ns=NS).order_by("-pk").first()
        if run.graph_id is None
        else None
    )


def of_rows(run: Run) -> RunState:
    rows = list(run.states.order_by("pk")[: MAX_NODES + 1])
    if len(rows) > MAX_NODES:
        raise errors.TooLarge(
            f"The run has more than {MAX_NODES:,} states; read them in pages at /runs/{run.run_id}/states."
        )
    State.objects.fill_inputs(rows)
    tries: dict[str, list[State]] = {}
    for row in rows:  # a retry is the same node once more
        tries.setdefault(_key(row), []).append(row)
    done = sorted(
        (row for row in rows if row.status == statuses.SUCCESS),
        key=lambda row: (row.finished_at, row.pk),
    )
    plan = run.version.plan if run.version else None
    return RunState(
        run_id=run.run_id, session_id=run.session_id, status=RunStatus(statuses.DOCUMENT_RUN_STATUSES[run.status]), purpose=run.purpose,
        current_node=run.current_node, current_step=run.current_step, max_steps=run.max_steps or (plan.max_steps or 0 if plan else 20),
        data=run.data or dict(run.store), node_states={key: _node_state(run, found[-1], sum(row.attempt for row in found)) for key, found in tries.items()},
        completed_nodes=[_key(row) for row in done], action_history=run.action_history or _actions(rows),
        started_at=_seconds(run.started_at or run.created_at), updated_at=_seconds(run.updated_at), finished_at=_seconds(run.finished_at),
        tool_results_cache=dict(run.tool_results.order_by("pk").values_list("key", "result")),
        heuristic_count_at_checkpoint=run.heuristic_count_at_checkpoint, experience_count_at_checkpoint=run.experience_count_at_checkpoint,
        metadata=run.metadata,
        pending_actions=[{"action": "answer", "node": _key(row), "question": row.waiting_for.get("question")} for row in rows if _waits(row)],
        memory_snapshots=_snapshots(run) if run.graph_id is None else [],
    )  # fmt: skip


def _snapshots(run: Run) -> list[Any]:
    """Where a LangGraph application keeps the run's memory: the newest checkpoint of each of its namespaces."""
    newest = (
        Checkpoint.objects.filter(run=run)
        .exclude(ns=NS)
        .order_by("ns")
        .values("ns")
        .annotate(newest=Max("checkpoint_id"))
    )
    return [{"checkpoint_ns": row["ns"], "checkpoint_id": row["newest"]} for row in newest]


def _waits(row: State) -> bool:
    return row.status == statuses.CREATED and row.waiting_for is not None


def _key(row: State) -> str:
    """Siblings of a fan-out have keys of their own."""
    return f"{row.identifier}@{row.path}" if row.path else row.identifier


def _node_state(run: Run, row: State, attempts: int) -> NodeState:
    plan = run.version.plan if run.version else None
    node = plan.nodes.get(row.identifier) if plan else None
    step = paths.step(row.path, node.index) if node else row.path
    return NodeState(
        node_id=row.identifier, status=statuses.DOCUMENT_NODE_STATUSES[row.status], input_data=_object(row.inputs), output_data=_object(row.outputs),
        started_at=_seconds(row.started_at), finished_at=_seconds(row.finished_at), error=row.error or None, attempts=attempts,
        idempotency_key=f"{run.run_id}:{row.identifier}@{step}" if step else f"{run.run_id}:{row.identifier}",
    )  # fmt: skip


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {} if value is None else {"value": value}


def _actions(rows: list[State]) -> list[dict[str, Any]]:
    """What the engine did last with the run's nodes."""

    def each() -> Iterator[dict[str, Any]]:
        for row in rows:
            said = {"node": _key(row), "attempt": row.attempt}
            if row.started_at:
                yield {"action": "started", **said, "at": _seconds(row.started_at)}
            if row.finished_at:
                error = {"error": row.error} if row.error else {}
                yield {
                    "action": _ACTIONS.get(row.status, "failed"),
                    **said,
                    "at": _seconds(row.finished_at),
                    **error,
                }

    return sorted(each(), key=lambda action: action["at"])[-KEPT_ACTIONS:]


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0.0


def put_last(run: Run) -> RunState | None:
    """What a program put last, with what was done to the run since: cancelled by a person, say."""
    kept = _newest(run)
    if kept is None:
        return None
    state = RunState.from_dict(json.loads(bytes(kept.body)))
    was = statuses.RUN_STATUS_OF_DOCUMENT[state.status.value]
    if run.status != was:
        state.status = RunStatus(statuses.DOCUMENT_RUN_STATUSES[run.status])
        stored = dict(run.states.values_list("identifier", "status"))
        for key, node in state.node_states.items():
            if stored.get(key, word_of(node, was)) != word_of(node, was):
                node.status = statuses.DOCUMENT_NODE_STATUSES[stored[key]]
    return state


def _with_results(run: Run, state: RunState) -> RunState:
    """With all results that were ever recorded: a document that lacks one gets it back."""
    known = {digest_of(key) for key in state.tool_results_cache}
    for result in run.tool_results.order_by("pk"):
        if result.digest not in known:
            state.tool_results_cache[result.key] = result.result
    return state


def word_of(node: NodeState, run_status: str) -> str:
    """Our word for the node's; an unknown one counts as not begun, and what a run left unfinished when it ended as cancelled."""
    word = statuses.STATE_STATUS_OF_DOCUMENT.get(node.status, statuses.CREATED)
    return (
        statuses.CANCELLED
        if word in statuses.UNFINISHED and run_status in statuses.ENDED_RUNS
        else word
    )


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
