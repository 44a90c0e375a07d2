"""What a start does about the concurrency limit of its graph (`graphs.definition.concurrency`)."""

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


class _Taking:
    """Gives slots to new runs, in their order."""

    def __init__(self, asks: Sequence[Ask], caller: Caller) -> None:
        self.asks = asks
        self.caller = caller
        self.cancelled: dict[int, str] = {}  # reasons, by run
        self.rows: list[RunSlot] = []
        queues = {ask.slot.queue for ask in asks}
        slots.lock(queues)
        for queue, use in slots.use_of(queues).items():
            if use.waits:  # they were delayed until now, and come first
                slots.fill_locked(queue)
        self.uses = slots.use_of(queues)
        self.now = sql.clock()

    def take(self) -> None:
        for ask in self.asks:
            self._ask(ask)
        self._store()
        for run in (ask.run for ask in self.asks if ask.run.pk in self.cancelled):
            run.status = statuses.RUN_CANCELLED
            run.error_message = self.cancelled[run.pk]

    def _ask(self, ask: Ask) -> None:
        use, slot = self.uses[ask.slot.queue], ask.slot
        has_slot = not ask.delay and self._finds_slot(slot, use)
        if slot.at_limit == SKIP and not has_slot and not ask.delay:
            self._cancel([ask.run], f"{SKIPPED}{_as_many(slot)}")
            return
        if has_slot:
            use.taken += 1
        else:
            use.waits = use.waits or not ask.delay
        self.rows.append(
            RunSlot(
                run=ask.run,
                graph_id=slot.graph_id,
                queue=slot.queue,
                capacity=slot.capacity,
                available_at=self.now + timedelta(seconds=ask.delay),
                taken_at=self.now if has_slot else None,
            )
        )

    def _finds_slot(self, slot: Wanted, use: slots.Use) -> bool:
        """Whether a run can have a slot now. Makes room for it if its graph says so."""
        missing = use.taken + 1 - slot.capacity
        if missing <= 0:
            return slot.at_limit != QUEUE or not use.waits
        if slot.at_limit in (CANCEL_QUEUED, CANCEL_RUNNING):
            self._store()  # the runs that are cancelled may be among those that start now
        if slot.at_limit == CANCEL_QUEUED and use.waits:
            self._cancel(_waiting(slot), "Another run has taken its place in the queue")
            use.waits = False
        if slot.at_limit == CANCEL_RUNNING:
            use.taken -= self._cancel(_oldest(slot, missing), "Another run has taken its slot")
        return use.taken < slot.capacity

    def _cancel(self, runs: Iterable[Run], message: str) -> int:
        """Cancel these runs; return how many have ended by now.

        Runs that something else has locked are cancelled after the commit: whoever has locked them
        may wait for a queue that is locked here.
        """
        by_pk = {run.pk: run for run in runs}
        ended, locked = _cancel(by_pk, message, self.caller)
        self.cancelled |= dict.fromkeys(ended, message)
        if locked:
            later = partial(_cancel_later, locked, message, self.caller)
            transaction.on_commit(later, robust=True)
        return len(ended)

    def _store(self) -> None:
        RunSlot.objects.bulk_create(self.rows, batch_size=1000)
        slots.hold_back([row.run_id for row in self.rows if row.taken_at is None])
        self.rows.clear()


def _waiting(slot: Wanted) -> QuerySet[Run]:
    return Run.objects.filter(
        slot__queue=slot.queue, slot__taken_at=None, slot__available_at__lte=sql.clock()
    )


def _oldest(slot: Wanted, number: int) -> QuerySet[Run]:
    taken = Run.objects.filter(slot__queue=slot.queue, slot__taken_at__isnull=False)
    return taken.order_by("slot__taken_at", "slot__pk")[:number]


def _as_many(slot: Wanted) -> str:
    if slot.capacity == 1:
        return "a run of this graph, with the same key if it has one, is active (concurrency)"
    return (
        f"{slot.capacity:,} runs of this graph, with the same key if it has one, are active"
        " (concurrency)"
    )


def _cancel(
    runs: Mapping[int, Run], message: str, caller: Caller, skip_locked: bool = True
) -> tuple[list[int], dict[int, Run]]:
    """Cancel those of the runs that have not ended. Returns those that have ended now, and those
    that something else has locked.
    """
    counters_by_run = counters.lock(runs, skip_locked=skip_locked)
    for pk, run_counters in counters_by_run.items():
        if not run_counters.open:
            continue
        run_counters.status = statuses.RUN_CANCELLED
        run_counters.error_message = message
        store.cancel_unfinished(run_counters)
        LogLine.objects.create(run_id=pk, message=message)
        run_counters.log_count += 1
        AuditEntry.objects.record(caller, "cancel", runs[pk], message)
        counters.store([run_counters])
    return list(counters_by_run), {pk: run for pk, run in runs.items() if pk not in counters_by_run}


def _cancel_later(runs: Mapping[int, Run], message: str, caller: Caller) -> None:
    with transaction.atomic():
        _cancel(runs, message, caller, skip_locked=False)


def take_again(run: Run) -> None:
    """Let a run that is retried after its end ask for a slot, in the transaction that does it."""
    slot = wanted(run, run.version.plan) if run.version else None
    if slot is not None:
        slots.wait_again(run.pk, slot)


def holders(queue: str, limit: int) -> list[Run]:
    """The runs that have had slots of a queue longest."""
    taken = Run.objects.filter(slot__queue=queue, slot__taken_at__isnull=False)
    return list(taken.order_by("slot__taken_at", "slot__pk")[:limit])
