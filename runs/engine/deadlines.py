"""Ending runs whose time is over.

A run may have to start within some time (`start_by`), and may have to end some time after its start
(`timeout`). Runs with such limits have a row, `RunDeadline`. The supervisor looks at the rows that
may be over. For a run that has not started, nobody knows yet when its timeout will be over; its row
comes again later, so that starting a run costs nothing more.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from graphs.definition.plan import Plan
from runs.core import db_errors, sql, statuses
from runs.engine import counters
from runs.engine.new_run import RunOptions
from runs.engine.store import cancel_unfinished
from runs.models import LogLine, Run, RunDeadline, State

log = logging.getLogger(__name__)
BATCH = 100
MAX_ROUNDS = 20


def of_run(options: RunOptions, plan: Plan) -> RunDeadline | None:
    """The limits of a new run: those that it was started with, or those of its graph."""
    timeout = plan.timeout if options.timeout is None else options.timeout
    start_by = plan.start_by if options.start_by is None else options.start_by
    if timeout is None and start_by is None:
        return None
    ready_at = sql.clock() + timedelta(seconds=options.delay)
    deadline = RunDeadline(timeout=timeout)
    if start_by is not None:
        deadline.start_by = ready_at + timedelta(seconds=start_by)
    earliest = [each for each in (timeout, start_by) if each is not None]
    deadline.at = ready_at + timedelta(seconds=min(earliest))
    return deadline


def store(run: Run, options: RunOptions) -> None:
    """Store the limits of a run that was just inserted, in the same transaction."""
    store_many([(run, options)])


def store_many(runs: Iterable[tuple[Run, RunOptions]]) -> None:
    """Store the limits of several runs."""
    rows = []
    for run, options in runs:
        deadline = of_run(options, run.version.plan) if run.version else None
        if deadline:
            deadline.run = run
            rows.append(deadline)
    RunDeadline.objects.bulk_create(rows, batch_size=1000)


def limits_of(run: Run) -> tuple[float | None, float | None]:
    """The seconds of `timeout` and `start_by` with which a rerun of the run starts."""
    deadline = RunDeadline.objects.filter(run=run).first()
    if deadline is None:
        return None, None
    start_by = None
    if deadline.start_by:
        start_by = max((deadline.start_by - run.created_at).total_seconds(), 0.001)
    return deadline.timeout, start_by


def restart(run: Run) -> None:
    """Let the time of a run that is retried count again. Called in the transaction that does it."""
    deadline = RunDeadline.objects.filter(run=run, timeout__isnull=False).first()
    if deadline and deadline.timeout:
        deadline.retried_at = sql.clock()
        deadline.at = deadline.retried_at + timedelta(seconds=deadline.timeout)
        deadline.save(update_fields=["retried_at", "at"])


# --- watching ------------------------------------------------------------------------------------


def sweep() -> int:
    """End the runs whose time is over. Returns how many.

    Runs that something else has locked are left to the next round.
    """
    now = sql.clock()
    due = RunDeadline.objects.filter(at__lte=now).order_by("at", "pk")
    batch = list(due[:BATCH])
    ended = 0
    for _ in range(MAX_ROUNDS):
        ended += sum(_judge_safely(deadline, now) for deadline in batch)
        if len(batch) < BATCH:
            break
        last = batch[-1]
        batch = list(due.filter(Q(at__gt=last.at) | Q(at=last.at, pk__gt=last.pk))[:BATCH])
    return ended


def _judge_safely(deadline: RunDeadline, now: datetime) -> bool:
    """Whether this call has ended the run. A limit that breaks doesn't keep the others back."""
    try:
        with transaction.atomic():
            return _judge(deadline, now)
    except Exception as error:
        if db_errors.is_away(error):
            raise
        if not db_errors.is_contention(error):
            log.exception("the time limit of run %s could not be applied", deadline.run_id)
        return False


def _judge(deadline: RunDeadline, now: datetime) -> bool:
    run = Run.objects.filter(pk=deadline.run_id).select_related("version").first()
    if run is None:
        deadline.delete()
        return False
    plans = {run.pk: run.version.plan} if run.version else {}
    run_counters = counters.lock([run.pk], plans, skip_locked=True).get(run.pk)
    if run_counters is None:  # something else has locked it
        return False
    run.refresh_from_db(fields=["started_at"])
    deadline.refresh_from_db()  # a retry has changed it, perhaps
    if not run_counters.open or deadline.at is None:
        return _look_again(deadline, None)
    over_at = deadline.over_at(run.started_at)
    if over_at is None or over_at > now:
        times = [each for each in (over_at, _earliest_end(deadline, run, now)) if each]
        return _look_again(deadline, min(times, default=None))
    if run.started_at is None and State.objects.filter(run=run, status=statuses.QUEUED).exists():
        return False  # its first claim found it locked; the next sweep marks it as running
    run_counters.stop(_reason(deadline, run))
    cancel_unfinished(run_counters)
    LogLine.objects.create(run=run, level="error", message=run_counters.error_message)
    run_counters.log_count += 1
    run_counters.update_status()
    counters.store([run_counters])
    _look_again(deadline, None)
    return True


def _look_again(deadline: RunDeadline, at: datetime | None) -> bool:
    RunDeadline.objects.filter(pk=deadline.pk).update(at=at)
    return False


def _earliest_end(deadline: RunDeadline, run: Run, now: datetime) -> datetime | None:
    """When the timeout of a run can be over that starts now; None if it has none to watch."""
    if run.started_at or deadline.timeout is None:
        return None
    return now + timedelta(seconds=deadline.timeout)


def _reason(deadline: RunDeadline, run: Run) -> str:
    if run.started_at is None:
        return f"the run had not started by {deadline.start_by:%Y-%m-%d %H:%M:%S} UTC (start_by)"
    return f"the run took longer than {deadline.timeout:g} s (timeout)"
