"""The queue of external runs: programs take the runs that wait for one, and hold them by a lease.

The time of a lease is the database's. Everything that changes an entry holds the lock of its run,
so a claim, a heartbeat and a report never overlap. A claim has a number, which is raised each time
the run changes hands; a report that carries an older one is refused.

Programs that never claim anything work as if there were no queue: a report without a claim, on a
run that nobody holds, takes the run out of the queue.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import F

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.models.querysets import InNamespaces
from runs.core import sql, statuses
from runs.engine import counters, log_lines
from runs.engine.counters import RunCounters
from runs.models import AuditEntry, LogLine, QueueEntry, Run

MAX_CLAIM = 100
MAX_HOLDER = 200
ROUNDS = 10
MAX_SWEPT = 1000
CLAIMABLE = (statuses.RUN_QUEUED, statuses.RUNNING)
ORDER = ("available_at", "run")


def waiting(caller: Caller) -> InNamespaces:
    """The entries of the runs that the caller may take now, the longest waiting first.

    The queue is read in its order, and each run is found by its key. No condition on runs names a
    column in a way that lets SQLite prefer an index of runs.
    """
    others = (*statuses.ENDED_RUNS, statuses.PAUSED)
    entries = QueueEntry.objects.visible_to(caller).filter(available_at__lte=sql.clock())
    entries = entries.exclude(run__status__in=others).filter(run__paused=False)
    return entries.order_by(*ORDER)


# --- taking runs ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claimer:
    """The program that claims runs, by the name of its key and perhaps of its process."""

    name: str
    seconds: float


def claim(entries: InNamespaces, claimer: Claimer, limit: int) -> list[QueueEntry]:
    """Take up to `limit` of these entries of `waiting`, in their order.

    Other claims at the same moment skip what this one takes, and this one skips runs that are being
    changed. It waits for no lock while it has one, so it is in no circle. If it could take nothing
    of what it chose, it chooses among the others.
    """
    taken: list[int] = []
    for _ in range(ROUNDS):
        with transaction.atomic():
            free = entries.select_for_update(of=("self",), skip_locked=True)
            pks = list(free.values_list("pk", flat=True)[: min(limit, MAX_CLAIM)])
            taken = _take(pks, claimer) if pks else []
        if taken or not pks:
            break
        entries = entries.exclude(pk__in=pks)
    claimed = QueueEntry.objects.select_related("run__namespace", "run__parent").in_bulk(taken)
    return [claimed[pk] for pk in taken]


def _take(pks: Sequence[int], claimer: Claimer) -> list[int]:
    """Take those of these runs whose entries are locked that are free; return them in order."""
    now = sql.clock()
    counters_by_run = counters.lock(pks, skip_locked=True)
    entries = [
        entry
        for entry in QueueEntry.objects.filter(run__in=pks, available_at__lte=now)
        if _may_be_taken(counters_by_run.get(entry.run_id))
    ]
    taken = sorted((entry.run_id for entry in entries), key=pks.index)
    QueueEntry.objects.filter(run__in=taken).update(
        claim=F("claim") + 1,
        holder=claimer.name[:MAX_HOLDER],
        claimed_at=now,
        available_at=now + timedelta(seconds=claimer.seconds),
        lease_seconds=claimer.seconds,
    )
    for entry in entries:
        counters_by_run[entry.run_id].status = statuses.RUNNING
    _log(counters_by_run, [(entry.run_id, _taken(entry, claimer)) for entry in entries])
    return taken


def _may_be_taken(run_counters: RunCounters | None) -> bool:
    return run_counters is not None and run_counters.status in CLAIMABLE and not run_counters.paused


def _taken(entry: QueueEntry, claimer: Claimer) -> str:
    lost = f"The lease of {entry.holder} is over. " if entry.holder else ""
    return f"{lost}{claimer.name} took the run, for {claimer.seconds:.0f} s at first"


# --- holding a run -------------------------------------------------------------------------------


def heartbeat(run: Run, caller: Caller, number: int, seconds: float | None = None) -> QueueEntry:
    """Extend the lease of a run, and return the entry.

    Raises Conflict if the caller doesn't hold the run by this claim, or if the run has ended.
    """
    with transaction.atomic():
        run_counters = _lock(run)
        entry = _held(run, run_counters, caller, number)
        _extend(entry, seconds or entry.lease_seconds)
    run.status = run_counters.status
    return entry


def release(run: Run, caller: Caller, number: int) -> None:
    """Give a run back, so that another program may take it at once.

    Raises Conflict as `heartbeat` does.
    """
    with transaction.atomic():
        run_counters = _lock(run)
        entry = _held(run, run_counters, caller, number)
        _give_back(run_counters, entry, f"{entry.holder} gave the run back")


def take_away(run: Run, caller: Caller) -> None:
    """Put a run back into the queue that a program holds, because a person says so.

    Raises Forbidden without the right, and Conflict if no program holds it.
    """
    caller.require("cancel", run.namespace_id)
    with transaction.atomic():
        run_counters = _lock(run)
        entry = _entry_held(run)
        if entry is None or not run_counters.open:
            raise errors.Conflict("No program holds this run.", allowed=[])
        AuditEntry.objects.record(caller, "release", run, f"held by {entry.holder}")
        _give_back(run_counters, entry, f"{caller.label} took the run from {entry.holder}")


def _entry_held(run: Run) -> QueueEntry | None:
    """The entry of a run that a program holds, or whose lease is over and that nobody has taken."""
    return QueueEntry.objects.filter(run=run, available_at__isnull=False).exclude(holder="").first()


def holder_of(run: Run) -> str:
    """The program that holds the run, or held it last; "" if none does."""
    entry = _entry_held(run)
    return entry.holder if entry else ""


def _give_back(run_counters: RunCounters, entry: QueueEntry, message: str) -> None:
    entry.claim += 1
    entry.holder = ""
    entry.claimed_at = None
    entry.available_at = sql.clock()
    entry.save()
    _log({run_counters.pk: run_counters}, [(run_counters.pk, message)])


def _held(run: Run, run_counters: RunCounters, caller: Caller, number: int) -> QueueEntry:
    """The run's entry. Raises Conflict unless the caller holds it by this claim."""
    entry = QueueEntry.objects.filter(run=run).first()
    if entry is None or entry.claim != number or not entry.is_of(caller.label):
        raise _lost(entry, number)
    if not run_counters.open:
        raise errors.Conflict(f"The run is {run_counters.status}.", run_status=run_counters.status)
    return entry


def _lost(entry: QueueEntry | None, number: int) -> errors.Conflict:
    if entry is not None and entry.available_at is None and not entry.holder:
        return errors.Conflict("Another program reported this run without a claim, and has it now.")
    held = entry is not None and entry.is_held(sql.clock())
    by = f"; {entry.holder} holds it now" if entry is not None and held else ""
    return errors.Conflict(f"Claim {number} of this run is not yours any more{by}.", allowed=[])


def _extend(entry: QueueEntry, seconds: float) -> None:
    entry.lease_seconds = seconds
    entry.available_at = sql.clock() + timedelta(seconds=seconds)
    entry.save(update_fields=["lease_seconds", "available_at"])


# --- reports -------------------------------------------------------------------------------------


def admit_report(run: Run, caller: Caller, number: int | None) -> None:
    """Let a report on a locked run pass, or raise Conflict because another program holds the run.

    A report with the newest claim extends its lease. One without a claim takes a run that nobody
    holds out of the queue: its program needs no queue.
    """
    entry = QueueEntry.objects.filter(run=run).first()
    if number is not None:
        _admit_claim(run, caller, entry, number)
    elif entry is not None and entry.available_at is not None:
        is_held = entry.is_held(sql.clock())
        if is_held and not entry.is_of(caller.label):
            raise errors.Conflict(f"{entry.holder} holds this run.", allowed=[])
        if not is_held:
            _take_out(run.pk)


def admit_thread(run: Run, number: int | None) -> None:
    """Let a LangGraph application write to a locked thread, as `admit_report` does for reports.

    A saver has no caller, so without the claim it can't be told from programs that lost it.
    """
    entry = QueueEntry.objects.filter(run=run).first()
    if number is not None:
        if entry is None or entry.claim != number or not entry.holder:
            raise _lost(entry, number)
        if entry.available_at is not None:
            _extend(entry, entry.lease_seconds)
    elif entry is not None and entry.available_at is not None:
        if entry.is_held(sql.clock()):
            raise errors.Conflict(
                f"{entry.holder} holds this run. Its program names the claim in `configurable`.",
                allowed=[],
            )
        _take_out(run.pk)


def _admit_claim(run: Run, caller: Caller, entry: QueueEntry | None, number: int) -> None:
    if entry is None or entry.claim != number or not entry.holder:
        raise _lost(entry, number)
    if not entry.is_of(caller.label):
        caller.require("start", run.namespace_id)
    if entry.available_at is not None:
        _extend(entry, entry.lease_seconds)


def _take_out(run: int) -> None:
    """Take a run out of the queue that a program drives without a claim.

    The program whose lease was over holds it no more, even if it comes back.
    """
    QueueEntry.objects.filter(run=run).update(available_at=None, claim=F("claim") + 1, holder="")


def follow(run_counters: RunCounters, number: int | None) -> None:
    """Let the entry of a locked run follow a report, after the run's status was set.

    A run that has ended leaves the queue, and its last report may be repeated. If its program goes
    on with it under the same claim, it holds the run by a lease again.
    """
    if not run_counters.open:
        _leave([run_counters.pk])
    elif number is not None:
        entry = QueueEntry.objects.filter(run=run_counters.pk, available_at=None).first()
        if entry is not None:
            _extend(entry, entry.lease_seconds)


def _leave(runs: Iterable[int]) -> None:
    QueueEntry.objects.filter(run__in=runs, available_at__isnull=False).update(available_at=None)


def sweep() -> int:
    """Take the runs that have ended out of the queue. Returns their number.

    The runs are locked, because their programs may go on with them at this moment.
    """
    ended = QueueEntry.objects.filter(
        available_at__isnull=False, run__status__in=statuses.ENDED_RUNS
    )
    pks = list(ended.order_by("pk").values_list("pk", flat=True)[:MAX_SWEPT])
    if not pks:
        return 0
    with transaction.atomic():
        locked = counters.lock(pks, skip_locked=True)
        over = [pk for pk, run_counters in locked.items() if not run_counters.open]
        _leave(over)
    return len(over)


def _lock(run: Run) -> RunCounters:
    run_counters = counters.lock([run.pk]).get(run.pk)
    if run_counters is None:
        raise errors.NotFound(f"There is no run {run.run_id!r}.")
    return run_counters


def _log(counters_by_run: dict[int, RunCounters], lines: Iterable[tuple[int, str]]) -> None:
    """Add a line to each of these locked runs, and store their counters."""
    lines = list(lines)
    LogLine.objects.bulk_create(LogLine(run_id=run, message=message) for run, message in lines)
    statements = sql.Statements()
    for run, _ in lines:
        counters_by_run[run].log_count += 1
        log_lines.drop_oldest(counters_by_run[run], statements)
    statements.flush()
    counters.store(counters_by_run[run] for run, _ in lines)
