"""What a worker's report is worth: the gate that every report passes, and what it becomes.

The state is the namespace's, a worker's, QUEUED, and in the attempt that the worker names. Workers that name none (the SDKs of old) are
judged by the status alone. A report that is repeated with its attempt gets its first answer again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from graphs.definition import errors, payloads, uuids
from graphs.models import namespace_id
from graphs.nodes.declared import declared, wrong_outputs
from graphs.services import secrets
from runs.core import sql, statuses
from runs.engine import claim
from runs.engine.types import Claimed, Outcome

MAX_OUTPUTS = 20_000
MAX_ERROR = 10_000

facts = claim.FactsCache()


@dataclass(frozen=True)
class Worker:
    """Who works: the namespace whose nodes it runs, and the name that its claims carry."""

    namespace: int
    name: str


@dataclass(frozen=True)
class Report:
    """What a worker says of a state. `kind`: executed, errored, prune, again or release; `delay` in seconds."""

    state: str
    kind: str
    attempt: int | None = None
    outputs: Sequence[Mapping[str, Any]] = ()
    error: str = ""
    delay: float = 0.0


@dataclass(frozen=True)
class Answer:
    """`status` is the word that the report gets; with `refused` nothing changed, or the state failed because of what was reported."""

    status: str = ""
    retry_created: bool = False
    due: datetime | None = None
    refused: errors.StateManagerError | None = None


@dataclass(frozen=True)
class Found:
    """A state as it is stored now."""

    claimed: Claimed
    status: str
    attempt: int
    due: datetime | None
    ours: bool  # it runs in our own processes


_FIND = """
    SELECT s.id, s.run_id, s.identifier, s.path, s.inputs, s.attempt, s.parent, s.retry_count, s.lost_leases, s.answer, s.status, s.due_at, s.worker_namespace_id
    FROM statemanager_runs_state s JOIN statemanager_runs_run r ON r.id = s.run_id WHERE {among} AND (s.worker_namespace_id = %s OR r.namespace_id = %s)
"""


def find(worker: Worker, states: Sequence[str]) -> dict[str, Found]:
    if not states:
        return {}
    rows = sql.run(
        sql.statement(_FIND, among=("s.id", "uuid")),
        [sql.choices(states), worker.namespace, worker.namespace],
    )
    runs = facts.get({row[1] for row in rows})
    found = {}
    for row in rows:
        if row[1] in runs:
            state = claim.claimed(row[:10], runs)
            found[state.id] = Found(state, row[10], row[5], sql.moment(row[11]), row[12] is None)
    return found


def gate(report: Report, found: Found | None, masks: "Masks") -> Outcome | Answer:
    """The outcome to record, or the answer of a report that is not recorded."""
    if found is None:
        return Answer(refused=errors.NotFound(f"State not found: {uuids.dashed(report.state)}"))
    if refused := not_in_hand(found, report.attempt):
        return _repeated(report, found) or Answer(refused=refused)
    return outcome_of(report, replace(found.claimed, attempt=report.attempt), masks)


def not_in_hand(found: Found, attempt: int | None) -> errors.StateManagerError | None:
    if found.ours and found.status == statuses.QUEUED:
        return errors.StateManagerError(
            "The state runs in State Manager's own processes; no worker reports on it."
        )
    if found.status != statuses.QUEUED:
        return errors.StateManagerError(f"State is not queued: it is {found.status}.")
    if attempt is not None and attempt != found.attempt:
        return errors.Conflict(
            f"Attempt {attempt} is over; the state is in attempt {found.attempt}.",
            attempt=found.attempt,
        )
    return None


WORDS = {
    "executed": {statuses.SUCCESS: "EXECUTED", statuses.NEXT_CREATED_ERROR: "EXECUTED"},
    "errored": {statuses.ERRORED: "ERRORED", statuses.RETRY_CREATED: "ERRORED"},
    "prune": {statuses.PRUNED: "PRUNED"},
    "again": {statuses.CREATED: "CREATED"},
    "release": {statuses.CREATED: "CREATED"},
}


def _repeated(report: Report, found: Found) -> Answer | None:
    """The first answer again, for a worker that repeats its own report with its attempt."""
    word = WORDS[report.kind].get(found.status)
    if report.attempt is None or report.attempt != found.attempt or word is None or found.ours:
        return None
    return Answer(word, found.status == statuses.RETRY_CREATED, found.due)


def outcome_of(report: Report, state: Claimed, masks: "Masks") -> Outcome | Answer:
    try:
        mask = masks.of(state)
        if report.kind == "executed":
            return _done(state, [mask.value(value) for value in report.outputs])
        if report.kind == "prune":
            return Outcome(state, "prune", outputs=[payloads.dump(mask.value(report.outputs[0]))])
    except payloads.NotJson as error:
        return Answer(refused=errors.TooLarge(f"The outputs can't be stored: {error}."))
    except errors.Conflict as error:  # its secrets can't be opened
        return Answer(refused=error)
    if report.kind == "errored":
        return Outcome(state, "error", error=payloads.clean(mask.text(report.error), MAX_ERROR))
    return Outcome(state, report.kind, delay=report.delay)


def _done(state: Claimed, outputs: list[Any]) -> Outcome | Answer:
    """No output is one that is empty (an SDK's None); several are a fan-out."""
    if len(outputs) > MAX_OUTPUTS:
        return Answer(
            refused=errors.Malformed(
                f"A state may have {MAX_OUTPUTS:,} outputs; these are {len(outputs):,}."
            )
        )
    if wrong := wrong_outputs(namespace_of(state), state.node.kind, outputs):
        return Outcome(
            state,
            "error",
            error=f"its outputs don't fit the registered schema of {state.node.kind}: {wrong}",
            refused=True,
        )
    values = outputs or [{}]
    return Outcome(
        state, "done", [payloads.dump(value) for value in values], values, fanned=len(values) > 1
    )


def namespace_of(state: Claimed) -> int:
    return namespace_id(state.node.worker_namespace)


class Masks:
    """The masks for what nodes may have read, each made once in a request."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, str, str], secrets.Mask] = {}

    def of(self, state: Claimed) -> secrets.Mask:
        key = state.run.version_id, state.node.worker_namespace, state.node.kind
        if key not in self._made:
            asked = declared(namespace_of(state), state.node.kind).secrets
            self._made[key] = (
                secrets.mask_of(state.run.version_id, asked) if asked else secrets.Mask(())
            )
        return self._made[key]
