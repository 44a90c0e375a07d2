"""Ending runs whose time is over.

A run may have to start within some time (`start_by`), and may have to end some time after its start
(`timeout`). Runs with such limits have a row, `RunDeadline`. Starting a run writes nothing to it:
the sweep looks at the rows whose time may be over, and moves that time on for runs that wait.
"""

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from time import monotonic
from typing import TypeVar, cast

from django.db import DatabaseError, transaction
from django.db.models import Max, Min, Q, QuerySet

from graphs.definition.plan import Plan
from runs.core import db_errors, sql, statuses
from runs.engine import counters
from runs.engine.new_run import RunOptions, TimeLimits
from runs.engine.store import cancel_unfinished
from runs.models import AnswerDeadline, LogLine, Run, RunDeadline, RunSlot, State
from statemanager.conf import conf

log = logging.getLogger(__name__)
BATCH = 100
Deadline = TypeVar("Deadline", RunDeadline, AnswerDeadline)
ROUND_SECONDS = 2.0
PAUSE_AFTER_ERROR = timedelta(minutes=1)

# --- the limits of a run -------------------------------------------------------------------------


def has_limits(options: RunOptions, plan: Plan) -> bool:
    """Whether a run that is started with these options has a time limit."""
    return any(limit is not None for limit in _limits(options, plan))


def _limits(options: RunOptions, plan: Plan) -> TimeLimits:
    """The limits of the options, by default those of the graph."""
    return TimeLimits(
        plan.timeout if options.timeout is None else options.timeout,
        plan.start_by if options.start_by is None else options.start_by,
    )


def store(run: Run, options: RunOptions) -> None:
    """Store the limits of a run that was just inserted, in the same transaction."""
    store_many([(run, options)])


def store_many(runs: Iterable[tuple[Run, RunOptions]]) -> None:
    """Store the limits of several runs."""
    limited = [
        (run, options)
        for run, options in runs
        if run.version and has_limits(options, run.version.plan)
    ]
    if limited:
        now = sql.clock()
        rows = [_row(run, options, now) for run, options in limited]
        RunDeadline.objects.bulk_create(rows, batch_size=1000)


def _row(run: Run, options: RunOptions, now: datetime) -> RunDeadline:
    assert run.version
    timeout, start_within = _limits(options, run.version.plan)
    ready_at = now + timedelta(seconds=options.delay)
    first = min(limit for limit in (start_within, timeout) if limit is not None)
    return RunDeadline(
        run=run,
        start_within=start_within,
        start_by=None if start_within is None else ready_at + timedelta(seconds=start_within),
        timeout=timeout,
        at=ready_at + timedelta(seconds=first),
    )


def limits_of(run: Run) -> TimeLimits:
    """The limits with which a rerun of the run starts.

    They are None where the graph's version had the same: the rerun has those of its own version.
    """
    deadline = RunDeadline.objects.filter(run=run).first()
    if deadline is None or run.version is None:
        return TimeLimits()
    plan = run.version.plan
    return TimeLimits(
        None if deadline.timeout == plan.timeout else deadline.timeout,
        None if deadline.start_within == plan.start_by else deadline.start_within,
    )


def restart(run: Run) -> None:
    """Let the time of a run that is retried count again. Called in the transaction that does it."""
    deadline = RunDeadline.objects.filter(run=run).first()
    if deadline is None:
        return
    now = sql.clock()
    deadline.retried_at = now
    if deadline.start_within is not None:
        deadline.start_by = now + timedelta(seconds=deadline.start_within)
    limits = [limit for limit in (deadline.start_within, deadline.timeout) if limit is not None]
    deadline.at = now + timedelta(seconds=min(limits))
    deadline.save(update_fields=["retried_at", "start_by", "at"])


# --- watching ------------------------------------------------------------------------------------


def sweep() -> int:
    """End the runs whose time is over, for at most ROUND_SECONDS. Returns how many.

    Runs that something else has locked are left to the next round.
    """
    now = sql.clock()
    until = monotonic() + ROUND_SECONDS
    rows = RunDeadline.objects.filter(at__lte=now)
    if not rows.exists():
        return 0
    _pass_over_the_others(now)
    ended = 0
    for deadline in in_batches(rows):
        ended += _judge_safely(deadline, now)
        if monotonic() > until:
            break
    return ended


def in_batches(rows: QuerySet[Deadline]) -> Iterator[Deadline]:
    """The rows in the order of their times, each once, however they change meanwhile."""
    rows = rows.order_by("at", "pk")
    batch = list(rows[:BATCH])
    while batch:
        yield from batch
        last = batch[-1]
        batch = list(rows.filter(Q(at__gt=last.at) | Q(at=last.at, pk__gt=last.pk))[:BATCH])


def _pass_over_the_others(now: datetime) -> None:
    """Move on, all at once, the rows of runs that have ended or that still may wait.

    If something is in the way, they are judged one by one.
    """
    try:
        ended = RunDeadline.objects.filter(at__lte=now, run__status__in=statuses.ENDED_RUNS)
        ended.update(at=None)
        sql.send(_wait_on_statement(), [conf.SWEEP_SECONDS] * 2)
    except DatabaseError as error:
        if not db_errors.is_contention(error):
            raise


@sql.statement
def _wait_on_statement() -> str:
    """Move on the rows of runs that wait: each may start now, and then has its whole timeout.

    Parameters: the least number of seconds until the next look, twice.
    """
    longest = "greatest" if sql.postgres() else "max"
    next_look = sql.later(f"{longest}(timeout, %s)")
    return f"""
        UPDATE statemanager_runs_rundeadline
        SET at = CASE
            WHEN timeout IS NULL OR start_by < {next_look} THEN start_by
            ELSE {next_look}
        END
        WHERE at <= {sql.now()} AND (start_by IS NULL OR start_by > {sql.now()})
          AND run_id IN (SELECT id FROM statemanager_runs_run WHERE status = 'queued')
    """


def _judge_safely(deadline: RunDeadline, now: datetime) -> bool:
    """Whether this call has ended the run. A limit that breaks doesn't keep the others back."""
    try:
        with transaction.atomic():
            return _judge(deadline.pk, now)
    except Exception as error:
        if db_errors.is_away(error):
            raise
        if db_errors.is_contention(error):
            return False
        log.exception("the time limit of run %s could not be applied", deadline.run_id)
        _look_again(deadline, now + PAUSE_AFTER_ERROR)
        return False


def _judge(pk: int, now: datetime) -> bool:
    deadline = RunDeadline.objects.filter(pk=pk).first()
    if deadline is None:
        return False
    run = Run.objects.filter(pk=deadline.run_id).select_related("version").first()
    if run is None:
        deadline.delete()
        return False
    plans = {run.pk: run.version.plan} if run.version else {}
    run_counters = counters.lock([run.pk], plans, skip_locked=True).get(run.pk)
    if run_counters is None:  # something else has locked it
        return False
    run.refresh_from_db(fields=["started_at"])
    deadline.refresh_from_db()  # a retry may have moved it before the run was locked
    if deadline.at is None or deadline.at > now:
        return False
    if not run_counters.open:
        return _look_again(deadline, None)
    slot = RunSlot.objects.filter(run=run).first()
    waits = slot is not None and slot.taken_at is None
    # A run that was retried waits for a slot again: its time counts from the slot on.
    started_at = None if waits else _first_start(run)
    over_at = _over_at(deadline, started_at, slot.taken_at if slot else None)
    if over_at is None or over_at > now:
        may_start_now = started_at is None and deadline.timeout is not None
        latest = now + timedelta(seconds=deadline.timeout or 0) if may_start_now else None
        return _look_again(deadline, min((at for at in (over_at, latest) if at), default=None))
    reason = _reason(deadline, started_at)
    run_counters.stop(reason)
    cancel_unfinished(run_counters)
    LogLine.objects.create(run=run, level="error", message=f"Execution stopped: {reason}")
    run_counters.log_count += 1
    run_counters.update_status()
    counters.store([run_counters])
    _look_again(deadline, None)
    return True


def _first_start(run: Run) -> datetime | None:
    """When a state of the run was first claimed; None if none was.

    The run itself says "started" when a person has paused it, too. A state says when it was last
    claimed; if that was not the first time, the run knows better.
    """
    claimed = State.objects.filter(run=run, attempt__gt=0, started_at__isnull=False)
    found = claimed.aggregate(first=Min("started_at"), attempts=Max("attempt"))
    if found["first"] and found["attempts"] > 1 and run.started_at:
        return min(found["first"], run.started_at)
    return cast(datetime | None, found["first"])


def _over_at(
    deadline: RunDeadline, started_at: datetime | None, slot_since: datetime | None
) -> datetime | None:
    """When the limit is over that holds now; None if none does."""
    if started_at is None:
        return deadline.start_by
    if deadline.timeout is None:
        return None
    latest = max(started_at, deadline.retried_at or started_at, slot_since or started_at)
    return latest + timedelta(seconds=deadline.timeout)


def _reason(deadline: RunDeadline, started_at: datetime | None) -> str:
    if started_at is None:
        return f"the run had not started by {deadline.start_by:%Y-%m-%d %H:%M:%S} UTC (start_by)"
    return f"the run took longer than {deadline.timeout:g} s (timeout)"


def _look_again(deadline: RunDeadline, at: datetime | None) -> bool:
    RunDeadline.objects.filter(pk=deadline.pk).update(at=at)
    return False
