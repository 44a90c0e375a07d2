"""What a worker's report means: the gate that every report passes, and the outcome it becomes.

1. The state must belong to the worker's namespace and be a worker's, not one of our own.
2. It must be QUEUED, and in the attempt that the worker names. SDKs that name no attempt are
   judged by the status alone.
3. A report that a worker repeats with its attempt gets its first answer again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from graphs.definition import errors, payloads, uuids
from graphs.definition.types import Json
from graphs.models import namespace_id
from graphs.nodes.declared import declared, wrong_outputs
from graphs.services import secrets
from graphs.services.masking import Mask
from runs.core import sql, statuses
from runs.engine.claimed_states import CLAIMED_COLUMNS, FactsCache, claimed, runs_of
from runs.engine.types import Claimed, Outcome, OutcomeKind

MAX_OUTPUTS = 20_000
MAX_ERROR = 10_000

facts = FactsCache()


@dataclass(frozen=True)
class Worker:
    """The namespace whose nodes a worker runs, and the name under which it claims states."""

    namespace: int
    name: str


@dataclass(frozen=True)
class Report:
    """What a worker reports about a state.

    `kind` is executed, errored, prune, again or release. `delay` is in seconds.
    """

    state: str
    kind: str
    attempt: int | None = None
    outputs: Sequence[Mapping[str, Json]] = ()
    error: str = ""
    delay: float = 0.0


@dataclass(frozen=True)
class Answer:
    """The answer to a report: its status as workers know it.

    With `refused` nothing changed, or the state failed because the report was not acceptable.
    """

    status: str = ""
    retry_created: bool = False
    due: datetime | None = None
    refused: errors.StateManagerError | None = None


@dataclass(frozen=True)
class StoredState:
    """A state as it is stored now. `ours` says that it runs in our own processes."""

    claimed: Claimed
    status: str
    attempt: int
    due: datetime | None
    ours: bool


@sql.statement
def _find_statement() -> str:
    """States of a worker's namespace by their ids: those of its nodes, and those of its runs."""
    return f"""
        SELECT {CLAIMED_COLUMNS}, s.status, s.due_at, s.worker_namespace_id
        FROM statemanager_runs_state s
        JOIN statemanager_runs_run r ON r.id = s.run_id
        WHERE {sql.among("s.id", "uuid")}
          AND (s.worker_namespace_id = %s OR r.namespace_id = %s)
    """


def find(worker: Worker, ids: Sequence[str]) -> dict[str, StoredState]:
    """The states with these ids that are visible to the worker."""
    if not ids:
        return {}
    rows = sql.run(_find_statement(), [sql.choices(ids), worker.namespace, worker.namespace])
    runs = facts.get(runs_of(rows))
    states = [_stored_state(row, claimed(row, runs)) for row in rows if row[1] in runs]
    return {state.claimed.id: state for state in states}


def _stored_state(row: sql.Row, state: Claimed) -> StoredState:
    *_, status, due, worker_namespace = row
    return StoredState(state, status, row[5], sql.moment(due), worker_namespace is None)


# --- the gate ------------------------------------------------------------------------------------


def gate(report: Report, stored: StoredState | None, masks: "Masks") -> Outcome | Answer:
    """The outcome to record, or the answer to a report that is not recorded."""
    if stored is None:
        return Answer(refused=errors.NotFound(f"State not found: {uuids.dashed(report.state)}"))
    refusal = refusal_of(stored, report.attempt)
    if refusal:
        return _repeated_answer(report, stored) or Answer(refused=refusal)
    return outcome_of(report, replace(stored.claimed, attempt=report.attempt), masks)


def refusal_of(stored: StoredState, attempt: int | None) -> errors.StateManagerError | None:
    """Why a worker with this attempt does not hold the state; None if it does."""
    if stored.ours and stored.status == statuses.QUEUED:
        return errors.StateManagerError(
            "The state runs in State Manager's own processes; no worker reports on it."
        )
    if stored.status != statuses.QUEUED:
        return errors.StateManagerError(f"State is not queued: it is {stored.status}.")
    if attempt is not None and attempt != stored.attempt:
        return errors.Conflict(
            f"Attempt {attempt} is over; the state is in attempt {stored.attempt}.",
            attempt=stored.attempt,
        )
    return None


# For each kind of report: the statuses that it leads to, and how workers know them.
ANSWER_STATUSES = {
    "executed": {statuses.SUCCESS: "EXECUTED", statuses.NEXT_CREATED_ERROR: "EXECUTED"},
    "errored": {statuses.ERRORED: "ERRORED", statuses.RETRY_CREATED: "ERRORED"},
    "prune": {statuses.PRUNED: "PRUNED"},
    "again": {statuses.CREATED: "CREATED"},
    "release": {statuses.CREATED: "CREATED"},
}


def _repeated_answer(report: Report, stored: StoredState) -> Answer | None:
    """The first answer, for a worker that repeats its own report with its attempt."""
    if report.attempt is None or report.attempt != stored.attempt or stored.ours:
        return None
    status = ANSWER_STATUSES[report.kind].get(stored.status)
    if status is None:
        return None
    return Answer(status, stored.status == statuses.RETRY_CREATED, stored.due)


# --- outcomes ------------------------------------------------------------------------------------


def outcome_of(report: Report, state: Claimed, masks: "Masks") -> Outcome | Answer:
    """The outcome of a report that passed the gate, with secrets masked.

    It is an answer if the report can't be stored.
    """
    try:
        mask = masks.of(state)
        if report.kind == "executed":
            return _done(state, [mask.value(value) for value in report.outputs])
        if report.kind == "prune":
            return Outcome(state, "prune", outputs=[payloads.dump(mask.value(report.outputs[0]))])
    except payloads.NotJson as error:
        return Answer(refused=errors.TooLarge(f"The outputs can't be stored: {error}."))
    except errors.Conflict as error:  # the secrets can't be decrypted
        return Answer(refused=error)
    if report.kind == "errored":
        return Outcome(state, "error", error=payloads.clean(mask.text(report.error), MAX_ERROR))
    kind: OutcomeKind = "again" if report.kind == "again" else "release"
    return Outcome(state, kind, delay=report.delay)


def _done(state: Claimed, outputs: list[Json]) -> Outcome | Answer:
    """The outcome of a state with these outputs: no output means an empty one (None in the SDKs),
    several are a fan-out.
    """
    if len(outputs) > MAX_OUTPUTS:
        return Answer(
            refused=errors.Malformed(
                f"A state may have {MAX_OUTPUTS:,} outputs; these are {len(outputs):,}."
            )
        )
    node = state.node.kind
    problem = wrong_outputs(namespace_of(state), node, outputs)
    if problem:
        error = f"its outputs don't fit the registered schema of {node}: {problem}"
        return Outcome(state, "error", error=error, refused=True)
    values = outputs or [{}]
    outputs_json = [payloads.dump(value) for value in values]
    return Outcome(state, "done", outputs_json, values, fanned=len(values) > 1)


def namespace_of(state: Claimed) -> int:
    """The namespace in which the state's node is registered."""
    return namespace_id(state.node.worker_namespace)


class Masks:
    """The masks for the secrets that nodes may read, each made once in a request."""

    def __init__(self) -> None:
        self._masks: dict[tuple[int, str, str], Mask] = {}

    def of(self, state: Claimed) -> Mask:
        """The mask for a state's node. Raises Conflict if its secrets can't be decrypted."""
        key = state.run.version_id, state.node.worker_namespace, state.node.kind
        if key not in self._masks:
            self._masks[key] = _mask(state)
        return self._masks[key]


def _mask(state: Claimed) -> Mask:
    names = declared(namespace_of(state), state.node.kind).secrets
    return secrets.mask_of(state.run.version_id, names) if names else Mask(())
