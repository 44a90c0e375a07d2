"""Runs as `RunState` documents.

Every run has a document. For a run with a graph it is made from the run's rows. For a run of an
outside program it is the document that the program reported last (`runs.external.updates`), with
the changes that were made to the run since.
"""

import hashlib
import json
from datetime import datetime

from django.db.models import Max, Sum

from graphs.definition import errors, payloads
from graphs.definition.types import Json, JsonObject
from runs.core import paths, statuses
from runs.engine.steps import key_of
from runs.external.run_state import KEPT_ACTIONS, NodeState, RunState, RunStatus
from runs.models import OUTSIDE, Checkpoint, Run, State

NS = ":run-state"  # the checkpoint namespace of run documents; no node of LangGraph can be named so
MAX_NODES = 10_000
MAX_BYTES = 64 * 2**20  # of a document that is made from rows
DEFAULT_MAX_STEPS = 20
_ACTIONS = {
    statuses.SUCCESS: "completed",
    statuses.PRUNED: "pruned",
    statuses.CANCELLED: "cancelled",
    statuses.RETRY_CREATED: "failed",
}


def run_state(run: Run, at: str = "") -> RunState:
    """Return the run as a document.

    With `at`, the id of a checkpoint, return the document as it was reported then. Raises NotFound
    if the run has no such checkpoint, and TooLarge if the run has more than 10,000 states.
    """
    if at:
        return _document_at(run, at)
    state = last_reported(run)
    if state is None:
        return from_rows(run)
    _add_recorded_results(run, state)
    return state


def _document_at(run: Run, checkpoint_id: str) -> RunState:
    checkpoint = Checkpoint.objects.filter(
        run=run, ns=NS, checkpoint_id=checkpoint_id.replace("\x00", "")
    ).first()
    if checkpoint is None:
        raise errors.NotFound(f"The run has no checkpoint {checkpoint_id[:100]!r}.")
    return RunState.from_dict(json.loads(bytes(checkpoint.body)))


# --- documents of outside programs --------------------------------------------------------------


def last_reported(run: Run) -> RunState | None:
    """Return the document that the run's program reported last, or None if there is none.

    If the run was changed since, for example cancelled by a person, the document shows the current
    status of the run and of its nodes.
    """
    if run.graph_id is not None:
        return None
    checkpoint = Checkpoint.objects.filter(run=run, ns=NS).order_by("-pk").first()
    if checkpoint is None:
        return None

    state = RunState.from_dict(json.loads(bytes(checkpoint.body)))
    reported = statuses.RUN_STATUS_OF_DOCUMENT[state.status.value]
    if run.status != reported:
        state.status = RunStatus(statuses.DOCUMENT_RUN_STATUSES[run.status])
        stored = dict(run.states.values_list("identifier", "status"))
        for key, node in state.node_states.items():
            status = node_status(node, reported)
            if stored.get(key, status) != status:
                node.status = statuses.DOCUMENT_NODE_STATUSES[stored[key]]
    return state


def _add_recorded_results(run: Run, state: RunState) -> None:
    """Add every result that was ever recorded; a document that lost one gets it back."""
    known = {digest_of(key) for key in state.tool_results_cache}
    for result in run.tool_results.order_by("pk"):
        if result.digest not in known:
            state.tool_results_cache[result.key] = result.result


def node_status(node: NodeState, run_status: str) -> str:
    """Return the status that a document's node has as a state.

    A status that we don't know counts as not started. A node that its run left unfinished when it
    ended counts as cancelled.
    """
    status = statuses.STATE_STATUS_OF_DOCUMENT.get(node.status, statuses.CREATED)
    if status in statuses.UNFINISHED and run_status in statuses.ENDED_RUNS:
        return statuses.CANCELLED
    return status


def digest_of(key: str) -> str:
    """Return the digest by which the result of a tool call is looked up."""
    return hashlib.sha256(key.encode()).hexdigest()


# --- documents from rows ------------------------------------------------------------------------


def payload_bytes(run: Run) -> int:
    """The bytes that the run stores, without those of its files."""
    if run.stored_bytes <= MAX_BYTES:
        return run.stored_bytes
    files = run.artifacts.aggregate(size=Sum("size", default=0))["size"]
    return run.stored_bytes - int(files)


def from_rows(run: Run) -> RunState:
    """Make a run's document from its rows.

    Raises TooLarge for a run of more than MAX_NODES states, or of more than MAX_BYTES bytes.
    """
    stored = payload_bytes(run)
    if stored > MAX_BYTES:
        raise errors.TooLarge(
            f"The run stores {stored:,} bytes; a document has at most {MAX_BYTES:,}."
            f" Read its states in pages at /runs/{run.run_id}/states."
        )
    states = list(run.states.order_by("pk")[: MAX_NODES + 1])
    if len(states) > MAX_NODES:
        raise errors.TooLarge(
            f"The run has more than {MAX_NODES:,} states."
            f" Read them in pages at /runs/{run.run_id}/states."
        )
    State.objects.fill_inputs(states)
    shared = payloads.sizes([state.inputs for state in states])
    if sum(shared) > MAX_BYTES:
        raise errors.TooLarge(
            f"The inputs of its states have {sum(shared):,} bytes together; a document has at most"
            f" {MAX_BYTES:,}. Read the states in pages at /runs/{run.run_id}/states."
        )
    return RunState(
        run_id=run.run_id,
        session_id=run.session_id,
        status=RunStatus(statuses.DOCUMENT_RUN_STATUSES[run.status]),
        purpose=run.purpose,
        current_node=run.current_node,
        current_step=run.current_step,
        max_steps=_max_steps(run),
        data=run.data or dict(run.store),
        node_states=_node_states(run, states),
        completed_nodes=_completed_nodes(states),
        action_history=run.action_history or _actions(states),
        started_at=_seconds(run.started_at or run.created_at),
        updated_at=_seconds(run.updated_at),
        finished_at=_seconds(run.finished_at),
        tool_results_cache=dict(run.tool_results.order_by("pk").values_list("key", "result")),
        heuristic_count_at_checkpoint=run.heuristic_count_at_checkpoint,
        experience_count_at_checkpoint=run.experience_count_at_checkpoint,
        metadata=run.metadata,
        pending_actions=_pending_actions(states),
        memory_snapshots=_memory_snapshots(run),
    )


def _max_steps(run: Run) -> int:
    """Return the run's own limit, or that of its graph (0 for none)."""
    if run.max_steps:
        return run.max_steps
    if run.version is None:
        return DEFAULT_MAX_STEPS
    return run.version.plan.max_steps or 0


def _node_states(run: Run, states: list[State]) -> dict[str, NodeState]:
    """Return the nodes by key. All retries of a node are one node; the last one counts."""
    by_key: dict[str, list[State]] = {}
    for state in states:
        by_key.setdefault(_key(state), []).append(state)
    return {
        key: _node_state(run, attempts[-1], sum(state.attempt for state in attempts))
        for key, attempts in by_key.items()
    }


def _node_state(run: Run, state: State, attempts: int) -> NodeState:
    return NodeState(
        node_id=state.identifier,
        status=statuses.DOCUMENT_NODE_STATUSES[state.status],
        input_data=_as_object(state.inputs),
        output_data=_as_object(state.outputs),
        started_at=_seconds(state.started_at),
        finished_at=_seconds(state.finished_at),
        error=state.error or None,
        attempts=attempts,
        # The key that the node itself saw.
        idempotency_key=key_of(run, state),
    )


def _key(state: State) -> str:
    """Return the key of a state's node. Each sibling of a fan-out has a key of its own.

    A node whose name could be such a key, as `a@0:1` could, or ends with an @ has another @ at the
    end of its key, so that no two nodes share one. An outside program chooses its keys itself.
    """
    name = state.identifier
    if state.path:
        return f"{name}@{state.path}"
    _, at, tail = name.rpartition("@")
    is_ambiguous = at and (not tail or paths.is_path(tail)) and state.node != OUTSIDE
    return f"{name}@" if is_ambiguous else name


def _as_object(value: Json) -> JsonObject:
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"value": value}


def _completed_nodes(states: list[State]) -> list[str]:
    completed = [state for state in states if state.status == statuses.SUCCESS]
    completed.sort(key=lambda state: (_seconds(state.finished_at), state.pk))
    return [_key(state) for state in completed]


def _actions(states: list[State]) -> list[JsonObject]:
    """Return the last actions of the engine on these states, oldest first."""
    actions: list[JsonObject] = []
    for state in states:
        node: JsonObject = {"node": _key(state), "attempt": state.attempt}
        if state.started_at:
            actions.append({"action": "started", **node, "at": _seconds(state.started_at)})
        if state.finished_at:
            name = _ACTIONS.get(state.status, "failed")
            ended: JsonObject = {"action": name, **node, "at": _seconds(state.finished_at)}
            if state.error:
                ended["error"] = state.error
            actions.append(ended)
    actions.sort(key=lambda action: action["at"])
    return actions[-KEPT_ACTIONS:]


def _pending_actions(states: list[State]) -> list[JsonObject]:
    """Return the answers that the run waits for."""
    return [
        {"action": "answer", "node": _key(state), "question": state.waiting_for.get("question")}
        for state in states
        if state.status == statuses.CREATED and state.waiting_for is not None
    ]


def _memory_snapshots(run: Run) -> list[Json]:
    """Return where the run's LangGraph application stored its memory.

    That is the newest checkpoint of each of its namespaces.
    """
    if run.graph_id is not None:
        return []
    newest = (
        Checkpoint.objects.filter(run=run)
        .exclude(ns=NS)
        .order_by("ns")
        .values_list("ns")
        .annotate(newest=Max("checkpoint_id"))
    )
    return [{"checkpoint_ns": ns, "checkpoint_id": checkpoint_id} for ns, checkpoint_id in newest]


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0.0
