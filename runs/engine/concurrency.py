"""What a start does about the concurrency limit of its graph (`graphs.definition.concurrency`)."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from django.db.models import QuerySet

from graphs.auth.callers import Caller
from graphs.definition.concurrency import CANCEL_QUEUED, CANCEL_RUNNING, SKIP
from graphs.definition.plan import Plan
from runs.core import sql, statuses
from runs.engine import counters, slots, store
from runs.engine.slots import Wanted
from runs.models import AuditEntry, LogLine, Run, RunSlot

if TYPE_CHECKING:
    from runs.engine.new_run import Start


SKIPPED = "Skipped: "  # how the reason of a skipped run begins


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


def take(asks: Sequence[Ask], caller: Caller) -> None:
    """Give these new runs slots as far as there are any, in the transaction that inserts them.

    The others wait, or do what their graphs say for this case.
    """
    if not asks:
        return
    queues = {ask.slot.queue for ask in asks}
    slots.lock(queues)
    uses = slots.use_of(queues)
    now = sql.clock()
    rows: list[RunSlot] = []
    for ask in asks:
        use = uses[ask.slot.queue]
        if ask.slot.at_limit in (CANCEL_QUEUED, CANCEL_RUNNING):
            _store(rows)  # the runs that are cancelled may be among those that start now
        has_slot = not ask.delay and _finds_slot(ask, use, caller)
        if ask.slot.at_limit == SKIP and not has_slot and not ask.delay:
            _cancel([ask.run], f"{SKIPPED}{_as_many(ask.slot)}", caller)
            continue
        if has_slot:
            use.taken += 1
        else:
            use.waits = use.waits or not ask.delay
        rows.append(
            RunSlot(
                run=ask.run,
                graph_id=ask.slot.graph_id,
                queue=ask.slot.queue,
                capacity=ask.slot.capacity,
                available_at=now + timedelta(seconds=ask.delay),
                taken_at=now if has_slot else None,
            )
        )
    _store(rows)


def _store(rows: list[RunSlot]) -> None:
    """Store these slots, and empty the list."""
    RunSlot.objects.bulk_create(rows, batch_size=1000)
    slots.hold_back([row.run_id for row in rows if row.taken_at is None])
    rows.clear()


def _finds_slot(ask: Ask, use: slots.Use, caller: Caller) -> bool:
    """Whether the run can have a slot now. Makes room for it if its graph says so."""
    slot = ask.slot
    if slot.at_limit == CANCEL_QUEUED and use.waits:
        _cancel(_waiting(slot), "Another run has taken its place in the queue", caller)
        use.waits = False
    missing = use.taken + 1 - slot.capacity
    if slot.at_limit == CANCEL_RUNNING and missing > 0:
        use.taken -= _cancel(_oldest(slot, missing), "Another run has taken its slot", caller)
    return use.taken < slot.capacity and not use.waits


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


def _cancel(runs: Iterable[Run], message: str, caller: Caller) -> int:
    """Cancel those of the runs that have not ended; return how many of them did so by now."""
    by_pk = {run.pk: run for run in runs}
    counters_by_run = counters.lock(by_pk)
    for pk, run_counters in counters_by_run.items():
        if not run_counters.open:
            continue
        run_counters.status = statuses.RUN_CANCELLED
        run_counters.error_message = message
        store.cancel_unfinished(run_counters)
        LogLine.objects.create(run_id=pk, message=message)
        run_counters.log_count += 1
        AuditEntry.objects.record(caller, "cancel", by_pk[pk], message)
        counters.store([run_counters])
        by_pk[pk].status = statuses.RUN_CANCELLED
        by_pk[pk].error_message = message
    return len(by_pk)


def take_again(run: Run) -> None:
    """Let a run that is retried after its end ask for a slot, in the transaction that does it."""
    slot = wanted(run, run.version.plan) if run.version else None
    if slot is not None:
        slots.wait_again(run.pk, slot)


def holders(queue: str, limit: int) -> list[Run]:
    """The runs that have had slots of a queue longest."""
    taken = Run.objects.filter(slot__queue=queue, slot__taken_at__isnull=False)
    return list(taken.order_by("slot__taken_at", "slot__pk")[:limit])
