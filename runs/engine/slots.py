"""Slots: how many runs of a graph with a concurrency limit are active at once.

Such a run has a row, `RunSlot`, from its start to its end. Its slot is taken, or it waits for one,
and then none of its states is due: claims never read them.

1. `runs.engine.concurrency` gives new runs their slots, in the transaction that starts them.
2. `release` deletes the rows of runs that end, in the transaction that ends them. After its commit
   `fill` gives the slots to the runs that have waited longest.
3. `sweep` does so, too: for runs that were delayed, and if a process died before its `fill`.

Whoever counts taken slots locks their queue until its transaction ends, so there are never too
many. A rerun has locked its original by then. So whoever has locked a queue never waits for a run:
it skips runs that are locked, and no two transactions wait for each other. `release` and
`wait_again` lock no queue; they only write rows.
"""

import hashlib
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from django.db import transaction

from graphs.definition.concurrency import QUEUE
from runs.core import db_errors, sql, statuses
from runs.engine import wakeup
from runs.engine.priority import head_start_of
from runs.models import RunSlot

log = logging.getLogger(__name__)
BATCH = 500  # runs that one transaction lets go on
QUEUES = 500  # that one sweep looks at
_LOCK = 0x736D  # the first key of our advisory locks
_STRIPES = 256  # of the second one: a transaction may hold only so many locks


class Wanted(NamedTuple):
    """The slot that a run needs: one of the `capacity` of its queue."""

    graph_id: int
    queue: str
    capacity: int
    at_limit: str = QUEUE


# --- counting ------------------------------------------------------------------------------------


@dataclass
class Use:
    """What the runs of a queue have now. `waits`: whether a run waits that asks for a slot now."""

    taken: int = 0
    waits: bool = False


def lock(queues: Iterable[str]) -> None:
    """Keep other transactions from giving away slots of these queues until this one ends.

    On SQLite a transaction that writes is alone anyway.
    """
    if sql.postgres():
        stripes = sorted({_stripe(queue) for queue in queues})
        sql.run("SELECT pg_advisory_xact_lock(%s, n) FROM unnest(%s::int[]) n", [_LOCK, stripes])


def _stripe(queue: str) -> int:
    return hashlib.blake2b(queue.encode(), digest_size=1).digest()[0] % _STRIPES


@sql.statement
def _use_statement() -> str:
    return f"""
        SELECT v.queue,
            (SELECT count(*) FROM statemanager_runs_runslot s
             WHERE s.queue = v.queue AND s.taken_at IS NOT NULL),
            EXISTS (SELECT 1 FROM statemanager_runs_runslot s
             WHERE s.queue = v.queue AND s.taken_at IS NULL AND s.available_at <= {sql.now()})
        FROM {sql.rows("v", queue="text")}
    """


def use_of(queues: Collection[str]) -> dict[str, Use]:
    """What the runs of each queue have now. It stays so if the queues are locked."""
    rows = sql.run(_use_statement(), sql.values([[queue] for queue in queues]))
    return {queue: Use(taken, bool(waits)) for queue, taken, waits in rows}


# --- waiting -------------------------------------------------------------------------------------


@sql.statement
def _hold_back_statement() -> str:
    """Let no worker claim the states of these runs. Questions to people keep what they are."""
    return f"""
        UPDATE statemanager_runs_state SET due_at = NULL
        WHERE {sql.among("run_id", "bigint")} AND status = 'CREATED' AND due_at IS NOT NULL
    """


def hold_back(runs: Collection[int]) -> None:
    """Let these runs wait: none of their states is due until they have a slot."""
    if runs:
        sql.send(_hold_back_statement(), [sql.choices(sorted(runs))])


def keep_back(run: int) -> None:
    """Hold back states that were just added to a run, or became due, if the run waits."""
    if RunSlot.objects.filter(run=run, taken_at=None).exists():
        hold_back([run])


def wait_again(run: int, slot: Wanted) -> None:
    """Let a run that had ended ask for a slot, unless it has one. Called under the run's lock."""
    if RunSlot.objects.filter(run=run).exists():
        keep_back(run)
        return
    columns = {"graph_id": slot.graph_id, "queue": slot.queue, "capacity": slot.capacity}
    RunSlot.objects.create(run_id=run, available_at=sql.clock(), **columns)
    hold_back([run])
    _fill_after_commit([slot.queue])


# --- giving back ---------------------------------------------------------------------------------


@sql.statement
def _release_statement() -> str:
    return f"""
        DELETE FROM statemanager_runs_runslot
        WHERE {sql.among("run_id", "bigint")} RETURNING queue, taken_at IS NOT NULL
    """


def release(runs: Collection[int]) -> None:
    """Give back the slots of runs that end now, in the same transaction."""
    rows = sql.run(_release_statement(), [sql.choices(sorted(runs))])
    _fill_after_commit({queue for queue, taken in rows if taken})


def _fill_after_commit(queues: Iterable[str]) -> None:
    for queue in queues:
        # If it fails, `sweep` does it.
        transaction.on_commit(partial(fill, queue), robust=True)


# --- giving --------------------------------------------------------------------------------------


def fill(queue: str) -> int:
    """Let the runs of the queue that have waited longest go on; return how many.

    Runs that something else has locked are left to the next sweep.
    """
    total = 0
    while (gone_on := _fill_once(queue)) == BATCH:
        total += gone_on
    return total + gone_on


def _fill_once(queue: str) -> int:
    with transaction.atomic():
        lock([queue])
        return fill_locked(queue)


def fill_locked(queue: str) -> int:
    """Let at most BATCH runs of a queue go on that the caller's transaction has locked."""
    waiting = RunSlot.objects.filter(
        queue=queue, taken_at=None, available_at__lte=sql.clock()
    ).order_by("available_at", "pk")
    taken = use_of([queue])[queue].taken
    runs: list[int] = []
    for run, capacity in waiting.values_list("run_id", "capacity")[:BATCH]:
        if taken + len(runs) >= capacity:
            break
        runs.append(run)
    if not runs:
        return 0
    active = [pk for (pk,) in sql.run(_lock_runs_statement(), [sql.choices(runs)])]
    if active:
        RunSlot.objects.filter(run__in=active).update(taken_at=sql.clock())
        sql.send(_go_on_statement(), [sql.choices(active)])
        wakeup.hint()
    return len(active)


@sql.statement
def _lock_runs_statement() -> str:
    active = ", ".join(f"'{status}'" for status in statuses.ACTIVE_RUNS)
    return f"""
        SELECT id FROM statemanager_runs_run
        WHERE {sql.among("id", "bigint")} AND status IN ({active})
        ORDER BY id{sql.lock(skip_locked=True)}
    """


@sql.statement
def _go_on_statement() -> str:
    """Let workers claim the states of these runs, by the priorities of the runs.

    A state that is delayed for longer than its run has waited keeps its time.
    """
    head_start = sql.earlier(sql.now(), head_start_of("r.priority"))
    return f"""
        UPDATE statemanager_runs_state AS s
        SET due_at = CASE WHEN s.claim_at > {sql.now()} THEN s.claim_at ELSE {sql.now()} END,
            claim_at = CASE WHEN s.claim_at > {sql.now()} THEN s.claim_at ELSE {head_start} END
        FROM statemanager_runs_run AS r
        WHERE r.id = s.run_id AND {sql.among("s.run_id", "bigint")}
          AND s.status = 'CREATED' AND s.due_at IS NULL AND s.waiting_for IS NULL
    """


# --- sweeping ------------------------------------------------------------------------------------


class Sweeper:
    """Gives slots to runs that wait for them, some queues at a time, one round after the other."""

    def __init__(self) -> None:
        self._after = ""

    def sweep(self) -> int:
        """Look at the next queues; return how many runs go on. Raises errors of the database."""
        queues = [row[0] for row in sql.run(_queues_statement(), [self._after])]
        self._after = queues[-1] if len(queues) == QUEUES else ""
        if not queues:
            return 0
        waiting = [queue for queue, use in use_of(queues).items() if use.waits]
        return sum(map(_fill_safely, waiting))


def _fill_safely(queue: str) -> int:
    try:
        return fill(queue)
    except Exception as error:
        if db_errors.is_away(error):
            raise
        if not db_errors.is_contention(error):
            log.exception("the slots of %s could not be given away", queue)
        return 0


@sql.statement
def _queues_statement() -> str:
    """The queues with waiting runs after a name, each found by one descent of the index."""
    following = """(
            SELECT min(queue) FROM statemanager_runs_runslot
            WHERE taken_at IS NULL AND queue > {}
        )"""
    return f"""
        WITH RECURSIVE q(queue) AS (
            SELECT {following.format("%s")}
            UNION ALL SELECT {following.format("q.queue")} FROM q WHERE q.queue IS NOT NULL
        )
        SELECT queue FROM q WHERE queue IS NOT NULL LIMIT {QUEUES}
    """


@sql.statement
def _forget_statement() -> str:
    """Delete rows of runs that have ended or are gone: a release before this one deletes none."""
    ended = ", ".join(f"'{status}'" for status in statuses.ENDED_RUNS)
    return f"""
        DELETE FROM statemanager_runs_runslot WHERE id IN (
            SELECT s.id FROM statemanager_runs_runslot s
            LEFT JOIN statemanager_runs_run r ON r.id = s.run_id
            WHERE r.id IS NULL OR r.status IN ({ended})
            LIMIT {BATCH}
        ) RETURNING queue
    """


def forget_ended() -> None:
    """Give back slots that nobody gave back: those of runs that an old version ended."""
    queues: Sequence[str] = [row[0] for row in sql.run(_forget_statement())]
    for queue in set(queues):
        _fill_safely(queue)
