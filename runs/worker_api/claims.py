"""External workers: they claim states over REST, show signs of life, and report what came of them.

What a report is worth is judged in `runs.worker_api.reports`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from django.conf import settings

from graphs.definition import errors, uuids
from graphs.models import namespace_id
from graphs.nodes.declared import declared
from graphs.services import secrets
from runs.core import sql, statuses
from runs.engine import heartbeat as heartbeat_module
from runs.engine import record, wakeup
from runs.engine.claim import claim_for_worker
from runs.engine.counters import RunCounters
from runs.engine.types import Claimed, Lease, Line, NewState, Outcome
from runs.worker_api.reports import (
    WORDS,
    Answer,
    Found,
    Masks,
    Report,
    Worker,
    facts,
    find,
    gate,
    namespace_of,
    not_in_hand,
    outcome_of,
)

MAX_CLAIM = 1000
KINDS_AT_ONCE = 200  # nodes in one statement
BOOKS_KEPT = 500
HELD_KEPT = 5000
SMALL_INPUTS = 2000  # characters

_counters: dict[
    int, RunCounters
] = {}  # of runs that this process wrote last; a revision guards each use
_leased: dict[str, Claimed] = {}  # that this process gave out; status and attempt guard each use


@dataclass
class Reported:
    answers: list[Answer]
    claimed: list[Claimed] = field(default_factory=list)


def claim(worker: Worker, kinds: Iterable[str], limit: int) -> list[Claimed]:
    """Up to `limit` ready states of these nodes, oldest first."""
    kinds, limit = list(dict.fromkeys(kinds)), min(limit, MAX_CLAIM)
    states: list[Claimed] = []
    for at in range(0, len(kinds), KINDS_AT_ONCE):
        if (room := limit - len(states)) > 0:
            part = kinds[at : at + KINDS_AT_ONCE]
            states += claim_for_worker(
                worker.name, worker.namespace, part, room, settings.WORKER_LEASE_SECONDS, facts
            )
    _hand_out(states)
    return states


def lease_of(state: Claimed) -> float:
    """Seconds that a worker may hold the state without a sign of life."""
    return state.node.lease or settings.WORKER_LEASE_SECONDS


def _hand_out(states: Iterable[Claimed]) -> None:
    """Note small states for their reports, and set the leases of nodes and graphs that want another one than the usual."""
    special: dict[float, list[heartbeat_module.Report]] = {}
    if len(_leased) > HELD_KEPT:
        _leased.clear()
    for state in states:
        if len(str(state.inputs)) < SMALL_INPUTS:
            _leased[state.id] = state
        if state.node.lease:
            special.setdefault(state.node.lease, []).append((state, [], None))
    for seconds, reports in special.items():
        heartbeat_module.report(reports, seconds)


def report(
    worker: Worker, reports: Sequence[Report], kinds: Iterable[str] = (), limit: int = 0
) -> Reported:
    """Record what became of these states and, if asked, claim up to `limit` more: what follows from them first, then the oldest."""
    firsts = {
        each.state: each for each in reversed(reports)
    }  # a state is taken once, by its first report
    judged = _at_once(worker, list(firsts.values())) or _looked_up(worker, list(firsts.values()))
    outcomes = [each for each in judged if isinstance(each, Outcome)]
    lease = _lease(worker, kinds, min(limit, MAX_CLAIM)) if limit > 0 else None
    done = _record(outcomes, lease)
    late = find(worker, [each.state.id for each in outcomes if each.state.id not in done.accepted])
    answers = {
        each.state: _answer(each, verdict, done, late)
        for each, verdict in zip(firsts.values(), judged, strict=True)
    }
    claimed = done.leased
    _hand_out(claimed)
    if len(claimed) < min(limit, MAX_CLAIM):
        claimed = [*claimed, *claim(worker, kinds, min(limit, MAX_CLAIM) - len(claimed))]
    return Reported([answers[each.state] for each in reports], claimed)


def heartbeat(
    worker: Worker,
    state: str,
    attempt: int | None,
    seconds: float | None,
    lines: Sequence[Line],
    fraction: float | None,
) -> float:
    """Extend the lease of a state and store what its worker says; gives the lease in seconds. Raises NotFound and Conflict."""
    found = find(worker, [state]).get(state)
    if found is None:
        raise errors.NotFound(f"State not found: {uuids.dashed(state)}")
    if refused := not_in_hand(found, attempt):
        raise errors.Conflict(str(refused), state_status=found.status)
    leased, lease = (
        replace(found.claimed, attempt=found.attempt),
        seconds or lease_of(found.claimed),
    )
    mask = Masks().of(leased) if lines else secrets.Mask(())
    masked = [(at, level, mask.text(text)) for at, level, text in lines]
    if not heartbeat_module.report([(leased, masked, fraction)], lease):
        raise errors.Conflict("The state was taken away at this moment.")
    return lease


# --- the gate ---------------------------------------------------------------------------------------------------------


def _looked_up(worker: Worker, reports: Sequence[Report]) -> list[Outcome | Answer]:
    found, masks = find(worker, [each.state for each in reports]), Masks()
    return [gate(each, found.get(each.state), masks) for each in reports]


def _at_once(worker: Worker, reports: Sequence[Report]) -> list[Outcome | Answer] | None:
    """The gates without a look at the database, when this process gave out all of the states in the attempts that are reported.

    Recording looks at status and attempt anyway; a report that it doesn't accept is judged by what is stored then.
    """
    leased = [_leased.pop(each.state, None) for each in reports]
    if any(
        state is None or state.attempt != each.attempt or namespace_of(state) != worker.namespace
        for state, each in zip(leased, reports, strict=True)
    ):
        return None
    masks = Masks()
    return [
        outcome_of(each, replace(state, attempt=each.attempt), masks)
        for state, each in zip(leased, reports, strict=True)
        if state
    ]


def readable_secrets(worker: Worker, state: str) -> dict[str, str]:
    """The secrets that the state's node declares, for the worker that holds it.

    Raises NotFound for a state that isn't the namespace's, and Conflict when it is not this worker who holds it.
    """
    found = find(worker, [state]).get(state)
    if found is None or found.ours:
        raise errors.NotFound(f"State not found: {uuids.dashed(state)}")
    holder = sql.run(
        "SELECT worker FROM statemanager_runs_state WHERE id = %s AND status = 'QUEUED'", [state]
    )
    if not holder or not f"{holder[0][0]} ".startswith(
        f"{worker.name} "
    ):  # the key, and maybe the name of one of its processes
        raise errors.Conflict(
            "Only the worker that holds the state reads its secrets.", state_status=found.status
        )
    return secrets.reveal(
        found.claimed.run.version_id,
        declared(namespace_of(found.claimed), found.claimed.node.kind, fresh=True).secrets,
    )


# --- recording --------------------------------------------------------------------------------------------------------


def _lease(worker: Worker, kinds: Iterable[str], room: int) -> Lease:
    """Takes the successors that this worker can run, up to `room` of them."""
    wanted, left = set(kinds), room

    def wants(state: NewState) -> bool:
        nonlocal left
        node = state.run.plan.nodes[state.identifier]
        if (
            left < 1
            or node.kind not in wanted
            or not node.worker_namespace
            or namespace_id(node.worker_namespace) != worker.namespace
        ):
            return False
        left -= 1
        return True

    return Lease(worker.name, settings.WORKER_LEASE_SECONDS, wants)


def _record(outcomes: Sequence[Outcome], lease: Lease | None) -> record.RecordedBatch:
    done = record.RecordedBatch()
    for at in range(0, len(outcomes), record.MAX_BATCH):
        part = outcomes[at : at + record.MAX_BATCH]
        runs = {outcome.state.run.pk for outcome in part}
        done.add(
            record.record_outcomes(
                part, lease, _counters.get(next(iter(runs))) if len(runs) == 1 else None
            )
        )
    if len(_counters) > BOOKS_KEPT:
        _counters.clear()
    _counters.update(done.counters_by_run)
    if done.left_over:
        wakeup.hint()
    return done


def _answer(
    report: Report, judged: Outcome | Answer, done: record.RecordedBatch, late: Mapping[str, Found]
) -> Answer:
    if isinstance(judged, Answer):
        return judged
    if (
        status := done.accepted.get(judged.state.id)
    ) is None:  # another report or a cancel was faster
        found = late.get(judged.state.id)
        again = gate(report, found, Masks())
        return (
            again
            if isinstance(again, Answer)
            else Answer(refused=errors.StateManagerError("State is not queued any more."))
        )
    if judged.refused:
        return Answer(
            refused=errors.Malformed(
                f"The state failed, because {judged.error}", state_status=status
            )
        )
    return Answer(WORDS[report.kind].get(status, status), status == statuses.RETRY_CREATED)


def forget() -> None:
    """Drop what this process knows of runs (their ids begin anew in tests)."""
    facts.clear()
    _counters.clear()
    _leased.clear()
