"""What a start does about the concurrency limit of its graph (`graphs.definition.concurrency`)."""

import sys
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from django.db import transaction
from django.db.models import QuerySet

from graphs.auth.callers import Caller
from graphs.definition.concurrency import CANCEL_QUEUED, CANCEL_RUNNING, QUEUE, SKIP
from graphs.definition.plan import Plan
from runs.core import sql, statuses
from runs.engine import counters, slots, store
from runs.engine.slots import Wanted
from runs.models import AuditEntry, LogLine, Run, RunSlot

if TYPE_CHECKING:
    from runs.engine.new_run import Start


SKIPPED = "Skipped: "  # how the reason of a skipped run begins
REPLACED_WAITING = "Another run has taken its place in the queue"
REPLACED_ACTIVE = "Another run has taken its slot"


def is_skipped(run: Run) -> bool:
    """Whether the run was cancelled at its start, because as many as may be are active."""
    return run.status == statuses.RUN_CANCELLED and run.error_message.startswith(SKIPPED)


def wanted(run: Run, plan: Plan) -> Wanted | None:
    """The slot that the run needs, if its graph has a limit. Raises Malformed for its key."""
    limit = plan.concurrency
    if limit is None or run.graph_id is None:
        return None
    key = limit.key_of(run.initial_data, run.labels)
    return Wanted(run.graph_id, f"{run.graph_id}:{key}", limit.limit, limit.at_limit)


class Ask(NamedTuple):
    """A new run that needs a slot, in `delay` seconds."""

    run: Run
    slot: Wanted
    delay: float = 0


def take_slots(starts: "Iterable[Start]", caller: Caller) -> None:
    """`take` for these starts."""
    take(
        [Ask(start.run, start.slot, start.options.delay) for start in starts if start.slot], caller
    )


def take_for(run: Run, caller: Caller, delay: float = 0) -> None:
    """`take` for a run that was made otherwise. Raises Malformed for its key."""
    slot = wanted(run, run.version.plan) if run.version else None
    if slot is not None:
        take([Ask(run, slot, delay)], caller)


def take(asks: Sequence[Ask], caller: Caller) -> None:
    """Give these new runs slots as far as there are any, in the transaction that inserts them.

    The others wait, or do what their graphs say for this case.
    """
    if asks:
        _Taking(asks, caller).take()


class _Candidates:
    """The runs of a locked queue that may have to make room, the oldest first.

    Those of the database are read once, and are locked then. Runs that something else has locked
    make no room now: whoever has locked them may wait for this queue.
    """

    def __init__(self, stored: Iterable[Run]) -> None:
        self.new: deque[Run] = deque()
        self.locked: dict[int, Run] = {}
        self._stored = stored
        self._is_read = False

    def take(self, number: int) -> list[Run]:
        """At most so many of the runs, which are candidates no more."""
        if not self._is_read:
            self._read()
        return [self.new.popleft() for _ in range(min(number, len(self.new)))]

    def _read(self) -> None:
        self._is_read = True
        stored = {run.pk: run for run in self._stored}
        free = counters.lock(stored, skip_locked=True)
        self.locked = {pk: run for pk, run in stored.items() if pk not in free}
        self.new.extendleft(run for pk, run in reversed(stored.items()) if pk in free)


class _Queue:
    """A locked queue with what is decided about it. `starts` runs start now."""

    def __init__(self, queue: str, use: slots.Use, starts: int) -> None:
        self.taken = use.taken
        self.waits = use.waits
        self.holders = _Candidates(_holders(queue)[:starts])
        self.waiting = _Candidates(_waiting(queue)[: slots.BATCH])


class _Taking:
    """Gives slots to new runs, in their order, and then cancels what had to make room."""

    def __init__(self, asks: Sequence[Ask], caller: Caller) -> None:
        self.asks = asks
        self.caller = caller
        self.rows: dict[int, RunSlot] = {}  # by run
        self.cancelled: dict[str, dict[int, Run]] = {}  # by reason
        starts = Counter(ask.slot.queue for ask in asks)
        capacities = {ask.slot.queue: ask.slot.capacity for ask in asks}
        slots.lock(starts)
        uses = slots.use_of(starts)
        due = [queue for queue, use in uses.items() if use.waits and use.taken < capacities[queue]]
        for queue in due:  # their runs were delayed until now, and come first
            slots.fill_locked(queue)
        uses |= slots.use_of(due) if due else {}
        self.queues = {queue: _Queue(queue, uses[queue], starts[queue]) for queue in starts}
        self.now = sql.clock()

    def take(self) -> None:
        for ask in self.asks:
            self._ask(ask)
        RunSlot.objects.bulk_create(self.rows.values(), batch_size=1000)
        slots.hold_back([row.run_id for row in self.rows.values() if row.taken_at is None])
        for reason, runs in self.cancelled.items():
            _cancel(runs, reason, self.caller)
            for run in runs.values():
                run.status = statuses.RUN_CANCELLED
                run.error_message = reason

    def _ask(self, ask: Ask) -> None:
        queue, slot = self.queues[ask.slot.queue], ask.slot
        has_slot = not ask.delay and self._finds_slot(slot, queue)
        if slot.at_limit == SKIP and not has_slot and not ask.delay:
            self._note([ask.run], f"{SKIPPED}{_as_many(slot)}")
            return
        if has_slot:
            queue.taken += 1
            queue.holders.new.append(ask.run)
        elif not ask.delay:
            queue.waits = True
            queue.waiting.new.append(ask.run)
        self.rows[ask.run.pk] = RunSlot(
            run=ask.run,
            graph_id=slot.graph_id,
            queue=slot.queue,
            capacity=slot.capacity,
            available_at=self.now + timedelta(seconds=ask.delay),
            taken_at=self.now if has_slot else None,
        )

    def _finds_slot(self, slot: Wanted, queue: _Queue) -> bool:
        """Whether a run can have a slot now. Makes room for it if its graph says so."""
        missing = queue.taken + 1 - slot.capacity
        if missing <= 0:
            return slot.at_limit != QUEUE or not queue.waits
        if slot.at_limit == CANCEL_QUEUED and queue.waits:
            self._make_room(queue.waiting, sys.maxsize, REPLACED_WAITING)
            queue.waits = False
        if slot.at_limit == CANCEL_RUNNING:
            queue.taken -= self._make_room(queue.holders, missing, REPLACED_ACTIVE)
        return queue.taken < slot.capacity

    def _make_room(self, candidates: _Candidates, number: int, reason: str) -> int:
        """Note that so many of the runs are cancelled; return how many there are."""
        chosen = candidates.take(number)
        self._note(chosen, reason)
        if candidates.locked and len(chosen) < number:
            later = partial(_cancel_later, candidates.locked, reason, self.caller)
            transaction.on_commit(later, robust=True)
            candidates.locked = {}
        return len(chosen)

    def _note(self, runs: Iterable[Run], reason: str) -> None:
        for run in runs:
            self.cancelled.setdefault(reason, {})[run.pk] = run
            self.rows.pop(run.pk, None)


def _holders(queue: str) -> QuerySet[Run]:
    taken = Run.objects.filter(slot__queue=queue, slot__taken_at__isnull=False)
    return taken.order_by("slot__taken_at", "slot__pk")


def _waiting(queue: str) -> QuerySet[Run]:
    waiting = Run.objects.filter(
        slot__queue=queue, slot__taken_at=None, slot__available_at__lte=sql.clock()
    )
    return waiting.order_by("slot__available_at", "slot__pk")


def _as_many(slot: Wanted) -> str:
    if slot.capacity == 1:
        return "a run of this graph, with the same key if it has one, is active (concurrency)"
    return (
        f"{slot.capacity:,} runs of this graph, with the same key if it has one, are active"
        " (concurrency)"
    )


def _cancel(runs: Mapping[int, Run], reason: str, caller: Caller) -> None:
    """Cancel those of the runs that have not ended, in a constant number of statements."""
    counters_by_run = {pk: each for pk, each in counters.lock(runs).items() if each.open}
    if not counters_by_run:
        return
    for run_counters in counters_by_run.values():
        run_counters.status = statuses.RUN_CANCELLED
        run_counters.error_message = reason
        run_counters.log_count += 1
    store.cancel_all_unfinished(counters_by_run)
    lines = [LogLine(run_id=pk, message=reason) for pk in counters_by_run]
    LogLine.objects.bulk_create(lines, batch_size=500)
    entries = [(run.namespace_id, pk, run.run_id) for pk, run in runs.items()]
    new_entries = [entry for entry in entries if entry[1] in counters_by_run]
    AuditEntry.objects.record_many(caller, "cancel", new_entries, reason)
    counters.store(counters_by_run.values())


def _cancel_later(runs: Mapping[int, Run], reason: str, caller: Caller) -> None:
    """Cancel runs that something else had locked, now that this transaction locks no queue."""
    with transaction.atomic():
        _cancel(runs, reason, caller)


def take_again(run: Run) -> None:
    """Let a run that is retried after its end ask for a slot, in the transaction that does it."""
    slot = wanted(run, run.version.plan) if run.version else None
    if slot is not None:
        slots.wait_again(run.pk, slot)


def holders(queue: str, limit: int) -> list[Run]:
    """The runs that have had slots of a queue longest."""
    return list(_holders(queue)[:limit])
