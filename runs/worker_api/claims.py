"""External workers: they claim states over REST, show signs of life, and report what came of them.

`runs.worker_api.reports` decides what a report means. A report costs as few statements as
possible: the process keeps the small states that it gave out, and the counters of runs that it
wrote last. What is stored decides in the end, so several web processes may serve one worker.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import local

from graphs.definition import errors, uuids
from graphs.models import namespace_id
from graphs.nodes.declared import declared
from graphs.services import secrets
from graphs.services.masking import Mask
from runs.core import sql, statuses
from runs.engine import record, wakeup
from runs.engine.claim import claim_for_worker
from runs.engine.counters import RunCounters
from runs.engine.heartbeat import SignOfLife, renew_leases
from runs.engine.turns import Turns
from runs.engine.types import Claimed, Lease, Line, NewState, Outcome
from runs.worker_api.reports import (
    ANSWER_STATUSES,
    Answer,
    Masks,
    Report,
    StoredState,
    Worker,
    facts,
    find,
    gate,
    namespace_of,
    outcome_of,
    refusal_of,
)
from statemanager.conf import conf

MAX_CLAIM = 1000
MAX_NODES = 200  # in one statement
MAX_CACHED_COUNTERS = 500
MAX_CACHED_STATES = 5000
MAX_CACHED_TURNS = 1000
MAX_CACHED_INPUTS = 2000  # characters

# The counters of runs that this process wrote last. Their revision guards each use.
_counters: dict[int, RunCounters] = {}
# The states that this process gave out. Their status and attempt guard each use.
_leased: dict[str, Claimed] = {}


class _TurnsOfThread(local):
    """The turns of the namespaces whose runs need the workers of a namespace, by that namespace.

    Each thread is fair by itself, as each worker of ours is.
    """

    def __init__(self) -> None:
        self.by_namespace: dict[int, Turns] = {}


_turns = _TurnsOfThread()


@dataclass
class Reported:
    """The answers to some reports, in their order, and the states that were claimed with them."""

    answers: list[Answer]
    claimed: list[Claimed] = field(default_factory=list)


# --- claiming ------------------------------------------------------------------------------------


def claim(worker: Worker, nodes: Iterable[str], limit: int) -> list[Claimed]:
    """Claim up to `limit` ready states of these nodes, in turn from each namespace's runs."""
    nodes = list(dict.fromkeys(nodes))
    limit = min(limit, MAX_CLAIM)
    turns = _turns_of(worker.namespace)
    states: list[Claimed] = []
    for at in range(0, len(nodes), MAX_NODES):
        room = limit - len(states)
        if room > 0:
            claimed, revisions = claim_for_worker(
                worker.name,
                nodes[at : at + MAX_NODES],
                room,
                conf.WORKER_LEASE_SECONDS,
                facts,
                turns,
            )
            states += claimed
            _follow(claimed, revisions)
    _give_out(states)
    return states


def _turns_of(namespace: int) -> Turns:
    known = _turns.by_namespace
    if len(known) > MAX_CACHED_TURNS:
        known.clear()
    return known.setdefault(namespace, Turns(namespace))


def _follow(claimed: Iterable[Claimed], revisions: Mapping[int, int]) -> None:
    """Keep the counters of the runs in which nothing changed but the name of the node."""
    for state in claimed:
        known = _counters.get(state.run.pk)
        if known is None or known.status != statuses.RUNNING:
            continue
        if known.revision + 1 == revisions.get(state.run.pk):
            _counters[state.run.pk] = replace(known, revision=known.revision + 1)


def lease_of(state: Claimed) -> float:
    """The seconds for which a worker may hold the state without a sign of life."""
    return state.node.lease or conf.WORKER_LEASE_SECONDS


def _give_out(states: Iterable[Claimed]) -> None:
    """Cache small states for their reports, and set the leases of nodes that have their own."""
    if len(_leased) > MAX_CACHED_STATES:
        _leased.clear()
    own_leases: dict[float, list[SignOfLife]] = {}
    for state in states:
        if len(str(state.inputs)) < MAX_CACHED_INPUTS:
            _leased[state.id] = state
        if state.node.lease:
            own_leases.setdefault(state.node.lease, []).append(SignOfLife(state, [], None))
    for seconds, signs in own_leases.items():
        renew_leases(signs, seconds)


# --- signs of life -------------------------------------------------------------------------------


def heartbeat(
    worker: Worker,
    state_id: str,
    attempt: int | None,
    seconds: float | None,
    lines: Sequence[Line],
    fraction: float | None,
) -> float:
    """Extend the lease of a state, and store its worker's log lines and progress.

    Returns the length of the lease in seconds. Raises NotFound, and Conflict if the worker does
    not hold the state.
    """
    stored = find(worker, [state_id]).get(state_id)
    if stored is None:
        raise errors.NotFound(f"State not found: {uuids.dashed(state_id)}")
    refusal = refusal_of(stored, attempt)
    if refusal:
        raise errors.Conflict(str(refusal), state_status=stored.status)
    state = replace(stored.claimed, attempt=stored.attempt)
    lease = seconds or lease_of(state)
    mask = Masks().of(state) if lines else Mask(())
    masked = [(at, level, mask.text(text)) for at, level, text in lines]
    sign = SignOfLife(state, masked, fraction)
    renewed = renew_leases([sign], lease)
    if renewed.unstored:
        # The lease is safe. Its lines and its progress wait for whatever has locked the run.
        renewed = renew_leases([sign], lease, skip_locked=False)
    if not renewed.held:
        raise errors.Conflict("The state was just taken away.")
    return lease


def readable_secrets(worker: Worker, state_id: str) -> dict[str, str]:
    """The secrets that the state's node declares, for the worker that holds the state.

    Raises NotFound if the namespace has no such state, and Conflict if another worker holds it.
    """
    stored = find(worker, [state_id]).get(state_id)
    if stored is None or stored.ours:
        raise errors.NotFound(f"State not found: {uuids.dashed(state_id)}")
    rows = sql.run(
        "SELECT worker FROM statemanager_runs_state WHERE id = %s AND status = 'QUEUED'",
        [state_id],
    )
    if not rows or not _is_held_by(rows[0][0], worker):
        raise errors.Conflict(
            "Only the worker that holds the state reads its secrets.", state_status=stored.status
        )
    state = stored.claimed
    names = declared(namespace_of(state), state.node.kind, fresh=True).secrets
    return secrets.reveal(state.run.version_id, names)


def _is_held_by(holder: str, worker: Worker) -> bool:
    """The holder's name is that of the worker's key, perhaps with the name of a process."""
    return f"{holder} ".startswith(f"{worker.name} ")


# --- reporting -----------------------------------------------------------------------------------


def report(
    worker: Worker, reports: Sequence[Report], nodes: Iterable[str] = (), limit: int = 0
) -> Reported:
    """Record what became of these states, and claim up to `limit` states of these nodes.

    States that follow from the reports are claimed first, then the oldest. If several reports are
    about one state, the first one counts.
    """
    limit = min(limit, MAX_CLAIM)
    first_reports = list({each.state: each for each in reversed(reports)}.values())
    verdicts = _cached_verdicts(worker, first_reports)
    if not verdicts:
        verdicts = _stored_verdicts(worker, first_reports)
    outcomes = [verdict for verdict in verdicts if isinstance(verdict, Outcome)]
    lease = _lease(worker, nodes, limit) if limit > 0 else None
    done = _record(outcomes, lease)

    late_ids = [each.state.id for each in outcomes if each.state.id not in done.accepted]
    late = find(worker, late_ids)
    answers = {
        each.state: _answer(each, verdict, done, late)
        for each, verdict in zip(first_reports, verdicts, strict=True)
    }
    claimed = done.leased
    _give_out(claimed)
    if len(claimed) < limit:
        claimed = [*claimed, *claim(worker, nodes, limit - len(claimed))]
    return Reported([answers[each.state] for each in reports], claimed)


def _stored_verdicts(worker: Worker, reports: Sequence[Report]) -> list[Outcome | Answer]:
    stored = find(worker, [report.state for report in reports])
    masks = Masks()
    return [gate(report, stored.get(report.state), masks) for report in reports]


def _cached_verdicts(worker: Worker, reports: Sequence[Report]) -> list[Outcome | Answer] | None:
    """The outcomes of the reports without a look at the database.

    None unless this process gave out all of the states, in the attempts that are reported.
    Recording checks status and attempt anyway; a report that it doesn't accept is judged again by
    what is stored then.
    """
    states = [_leased.pop(report.state, None) for report in reports]
    held = [
        state
        for report, state in zip(reports, states, strict=True)
        if state and _is_given_to(worker, state, report.attempt)
    ]
    if len(held) < len(reports):
        return None
    masks = Masks()
    return [outcome_of(report, state, masks) for report, state in zip(reports, held, strict=True)]


def _is_given_to(worker: Worker, state: Claimed, attempt: int | None) -> bool:
    return state.attempt == attempt and namespace_of(state) == worker.namespace


def _lease(worker: Worker, nodes: Iterable[str], limit: int) -> Lease:
    """A lease that takes up to `limit` of the successors that this worker can run."""
    wanted = set(nodes)
    room = limit

    def wants(state: NewState) -> bool:
        nonlocal room
        node = state.run.plan.nodes[state.identifier]
        if room < 1 or node.kind not in wanted or not node.worker_namespace:
            return False
        if namespace_id(node.worker_namespace) != worker.namespace:
            return False
        room -= 1
        return True

    return Lease(worker.name, conf.WORKER_LEASE_SECONDS, wants)


def _record(outcomes: Sequence[Outcome], lease: Lease | None) -> record.RecordedBatch:
    done = record.RecordedBatch()
    for at in range(0, len(outcomes), record.MAX_BATCH):
        batch = outcomes[at : at + record.MAX_BATCH]
        done.add(record.record_outcomes(batch, lease, _known(batch)))
    if len(_counters) > MAX_CACHED_COUNTERS:
        _counters.clear()
    _counters.update(done.counters_by_run)
    if done.left_over:
        wakeup.hint()
    return done


def _known(batch: Sequence[Outcome]) -> RunCounters | None:
    """The counters of the batch's only run, if this process wrote them last."""
    runs = {outcome.state.run.pk for outcome in batch}
    return _counters.get(runs.pop()) if len(runs) == 1 else None


def _answer(
    report: Report,
    verdict: Outcome | Answer,
    done: record.RecordedBatch,
    late: Mapping[str, StoredState],
) -> Answer:
    if isinstance(verdict, Answer):
        return verdict
    status = done.accepted.get(verdict.state.id)
    if status is None:  # another report or a cancel was faster
        return _late_answer(report, late.get(verdict.state.id))
    if verdict.refused:
        return Answer(
            refused=errors.Malformed(
                f"The state failed, because {verdict.error}", state_status=status
            )
        )
    answer_status = ANSWER_STATUSES[report.kind].get(status, status)
    return Answer(answer_status, status == statuses.RETRY_CREATED)


def _late_answer(report: Report, stored: StoredState | None) -> Answer:
    verdict = gate(report, stored, Masks())
    if isinstance(verdict, Answer):
        return verdict
    return Answer(refused=errors.StateManagerError("State is not queued any more."))


def forget() -> None:
    """Drop what this process has cached, because ids of runs repeat between tests."""
    _counters.clear()
    _leased.clear()
    _turns.by_namespace.clear()
