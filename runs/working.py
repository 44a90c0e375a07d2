"""External workers: they claim states over REST, show signs of life, and report what came of them.

Every report passes the same gate: the state is the namespace's, a worker's, QUEUED, and in the attempt that the worker names. Workers that
name none (the SDKs of old) are judged by the status alone. A report that is repeated with its attempt gets its first answer again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.conf import settings

from graphs import errors, payloads, secrets
from graphs.models import namespace_id
from graphs.nodes.declared import declared, wrong_outputs
from runs import claiming, finishing, queueing, reporting, sql, statuses
from runs.ledger import Ledger
from runs.work import Claimed, Lease, Line, NewState, Outcome

MAX_CLAIM = 1000
MAX_OUTPUTS = 20_000
MAX_ERROR = 10_000
BOOKS_KEPT = 500
HELD_KEPT = 5000
SMALL_INPUTS = 2000  # characters

facts = claiming.FactsCache()
_books: dict[int, Ledger] = {}  # of runs that this process wrote last; a revision guards each use
_held: dict[str, Claimed] = {}  # that this process gave out; status and attempt guard each use


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


@dataclass
class Reported:
    answers: list[Answer]
    claimed: list[Claimed] = field(default_factory=list)


def claim(worker: Worker, kinds: Iterable[str], limit: int) -> list[Claimed]:
    """Up to `limit` ready states of these nodes, oldest first."""
    kinds, limit = list(dict.fromkeys(kinds)), min(limit, MAX_CLAIM)
    if not kinds or limit < 1:
        return []
    states = claiming.claim_for_worker(worker.name, worker.namespace, kinds, limit, settings.WORKER_LEASE_SECONDS, facts)
    _hand_out(states)
    return states


def lease_of(state: Claimed) -> float:
    """Seconds that a worker may hold the state without a sign of life."""
    return state.node.lease or settings.WORKER_LEASE_SECONDS


def _hand_out(states: Iterable[Claimed]) -> None:
    """Note small states for their reports, and set the leases of nodes and graphs that want another one than the usual."""
    special: dict[float, list[reporting.Report]] = {}
    if len(_held) > HELD_KEPT:
        _held.clear()
    for state in states:
        if len(str(state.inputs)) < SMALL_INPUTS:
            _held[state.id] = state
        if state.node.lease:
            special.setdefault(state.node.lease, []).append((state, [], None))
    for seconds, reports in special.items():
        reporting.report(reports, seconds)


def report(worker: Worker, reports: Sequence[Report], kinds: Iterable[str] = (), limit: int = 0) -> Reported:
    """Record what became of these states and, if asked, claim up to `limit` more: what follows from them first, then the oldest."""
    firsts = {each.state: each for each in reversed(reports)}  # a state is taken once, by its first report
    gates = _at_once(worker, list(firsts.values())) or _gates(worker, list(firsts.values()))
    outcomes = [gate for gate in gates if isinstance(gate, Outcome)]
    lease = _lease(worker, kinds, min(limit, MAX_CLAIM)) if limit > 0 else None
    done = _record(outcomes, lease)
    late = _find(worker, [gate.state.id for gate in outcomes if gate.state.id not in done.accepted])
    answers = {each.state: _answer(each, gate, done, late) for each, gate in zip(firsts.values(), gates, strict=True)}
    claimed = done.leased
    _hand_out(claimed)
    if len(claimed) < min(limit, MAX_CLAIM):
        claimed = [*claimed, *claim(worker, kinds, min(limit, MAX_CLAIM) - len(claimed))]
    return Reported([answers[each.state] for each in reports], claimed)


def heartbeat(worker: Worker, state: str, attempt: int | None, seconds: float | None, lines: Sequence[Line], fraction: float | None) -> float:
    """Extend the lease of a state and store what its worker says; gives the lease in seconds. Raises NotFound and Conflict."""
    found = _find(worker, [state]).get(state)
    if found is None:
        raise errors.NotFound(f"State not found: {sql.dashed(state)}")
    if refused := _not_in_hand(found, attempt):
        raise errors.Conflict(str(refused), state_status=found.status)
    held, lease = replace(found.claimed, attempt=found.attempt), seconds or lease_of(found.claimed)
    mask = _Masks().of(held) if lines else secrets.Mask(())
    masked = [(at, level, mask.text(text)) for at, level, text in lines]
    if not reporting.report([(held, masked, fraction)], lease):
        raise errors.Conflict("The state was taken away at this moment.")
    return lease


# --- the gate ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """A state as it is stored now."""

    claimed: Claimed
    status: str
    attempt: int
    due: datetime | None
    ours: bool  # it runs in our own processes


def _gates(worker: Worker, reports: Sequence[Report]) -> list[Outcome | Answer]:
    found, masks = _find(worker, [each.state for each in reports]), _Masks()
    return [_gate(each, found.get(each.state), masks) for each in reports]


def _at_once(worker: Worker, reports: Sequence[Report]) -> list[Outcome | Answer] | None:
    """The gates without a look at the database, when this process gave out all of the states in the attempts that are reported.

    Recording looks at status and attempt anyway; a report that it doesn't accept is judged by what is stored then.
    """
    held = [_held.pop(each.state, None) for each in reports]
    if any(state is None or state.attempt != each.attempt or _namespace(state) != worker.namespace for state, each in zip(held, reports, strict=True)):
        return None
    masks = _Masks()
    return [_outcome(each, replace(state, attempt=each.attempt), masks) for state, each in zip(held, reports, strict=True) if state]


_FIND = """
    SELECT s.id, s.run_id, s.identifier, s.path, s.inputs, s.attempt, s.parent, s.retry_count, s.lost, s.answer, s.status, s.due_at, s.worker_namespace_id
    FROM runs_state s JOIN runs_run r ON r.id = s.run_id WHERE {among} AND (s.worker_namespace_id = %s OR r.namespace_id = %s)
"""


def _find(worker: Worker, states: Sequence[str]) -> dict[str, _Found]:
    if not states:
        return {}
    rows = sql.run(sql.statement(_FIND, among=("s.id", "uuid")), [sql.choices(states), worker.namespace, worker.namespace])
    runs = facts.get({row[1] for row in rows})
    found = {}
    for row in rows:
        if row[1] in runs:
            state = claiming.claimed(row[:10], runs)
            found[state.id] = _Found(state, row[10], row[5], sql.moment(row[11]), row[12] is None)
    return found


def _gate(report: Report, found: _Found | None, masks: "_Masks") -> Outcome | Answer:
    """The outcome to record, or the answer of a report that is not recorded."""
    if found is None:
        return Answer(refused=errors.NotFound(f"State not found: {sql.dashed(report.state)}"))
    if refused := _not_in_hand(found, report.attempt):
        return _repeated(report, found) or Answer(refused=refused)
    return _outcome(report, replace(found.claimed, attempt=report.attempt), masks)


def _not_in_hand(found: _Found, attempt: int | None) -> errors.StateManagerError | None:
    if found.ours and found.status == statuses.QUEUED:
        return errors.StateManagerError("The state runs in State Manager's own processes; no worker reports on it.")
    if found.status != statuses.QUEUED:
        return errors.StateManagerError(f"State is not queued: it is {found.status}.")
    if attempt is not None and attempt != found.attempt:
        return errors.Conflict(f"Attempt {attempt} is over; the state is in attempt {found.attempt}.", attempt=found.attempt)
    return None


_WORDS = {
    "executed": {statuses.SUCCESS: "EXECUTED", statuses.NEXT_CREATED_ERROR: "EXECUTED"},
    "errored": {statuses.ERRORED: "ERRORED", statuses.RETRY_CREATED: "ERRORED"},
    "prune": {statuses.PRUNED: "PRUNED"},
    "again": {statuses.CREATED: "CREATED"},
    "release": {statuses.CREATED: "CREATED"},
}


def _repeated(report: Report, found: _Found) -> Answer | None:
    """The first answer again, for a worker that repeats its own report with its attempt."""
    word = _WORDS[report.kind].get(found.status)
    if report.attempt is None or report.attempt != found.attempt or word is None or found.ours:
        return None
    return Answer(word, found.status == statuses.RETRY_CREATED, found.due)


def _outcome(report: Report, state: Claimed, masks: "_Masks") -> Outcome | Answer:
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
        return Answer(refused=errors.Malformed(f"A state may have {MAX_OUTPUTS:,} outputs; these are {len(outputs):,}."))
    if wrong := wrong_outputs(_namespace(state), state.node.kind, outputs):
        return Outcome(state, "error", error=f"its outputs don't fit the registered schema of {state.node.kind}: {wrong}", refused=True)
    values = outputs or [{}]
    return Outcome(state, "done", [payloads.dump(value) for value in values], values, fanned=len(values) > 1)


def _namespace(state: Claimed) -> int:
    return namespace_id(state.node.worker_namespace)


class _Masks:
    """The masks for what nodes may have read, each made once in a request."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, str, str], secrets.Mask] = {}

    def of(self, state: Claimed) -> secrets.Mask:
        key = state.run.version_id, state.node.worker_namespace, state.node.kind
        if key not in self._made:
            asked = declared(_namespace(state), state.node.kind).secrets
            self._made[key] = secrets.mask_of(state.run.version_id, asked) if asked else secrets.Mask(())
        return self._made[key]


def readable_secrets(worker: Worker, state: str) -> dict[str, str]:
    """The secrets that the state's node declares, for the worker that holds it.

    Raises NotFound for a state that isn't the namespace's, and Conflict when it is not this worker who holds it.
    """
    found = _find(worker, [state]).get(state)
    if found is None or found.ours:
        raise errors.NotFound(f"State not found: {sql.dashed(state)}")
    holder = sql.run("SELECT worker FROM runs_state WHERE id = %s AND status = 'QUEUED'", [state])
    if not holder or not f"{holder[0][0]} ".startswith(f"{worker.name} "):  # the key, and maybe the name of one of its processes
        raise errors.Conflict("Only the worker that holds the state reads its secrets.", state_status=found.status)
    return secrets.reveal(found.claimed.run.version_id, declared(_namespace(found.claimed), found.claimed.node.kind, fresh=True).secrets)


# --- recording --------------------------------------------------------------------------------------------------------


def _lease(worker: Worker, kinds: Iterable[str], room: int) -> Lease:
    """Takes the successors that this worker can run, up to `room` of them."""
    wanted, left = set(kinds), room

    def wants(state: NewState) -> bool:
        nonlocal left
        node = state.run.plan.nodes[state.identifier]
        if left < 1 or node.kind not in wanted or not node.worker_namespace or namespace_id(node.worker_namespace) != worker.namespace:
            return False
        left -= 1
        return True

    return Lease(worker.name, settings.WORKER_LEASE_SECONDS, wants)


def _record(outcomes: Sequence[Outcome], lease: Lease | None) -> finishing.Slice:
    done = finishing.Slice()
    for at in range(0, len(outcomes), finishing.MAX_SLICE):
        part = outcomes[at : at + finishing.MAX_SLICE]
        runs = {outcome.state.run.pk for outcome in part}
        done.add(finishing.record(part, lease, _books.get(next(iter(runs))) if len(runs) == 1 else None))
    if len(_books) > BOOKS_KEPT:
        _books.clear()
    _books.update(done.books)
    if done.left_over:
        queueing.hint()
    return done


def _answer(report: Report, gate: Outcome | Answer, done: finishing.Slice, late: Mapping[str, _Found]) -> Answer:
    if isinstance(gate, Answer):
        return gate
    if (status := done.accepted.get(gate.state.id)) is None:  # another report or a cancel was faster
        found = late.get(gate.state.id)
        again = _gate(report, found, _Masks())
        return again if isinstance(again, Answer) else Answer(refused=errors.StateManagerError("State is not queued any more."))
    if gate.refused:
        return Answer(refused=errors.Malformed(f"The state failed, because {gate.error}", state_status=status))
    return Answer(_WORDS[report.kind].get(status, status), status == statuses.RETRY_CREATED)


def forget() -> None:
    """Drop what this process knows of runs (their ids begin anew in tests)."""
    facts.clear()
    _books.clear()
    _held.clear()
