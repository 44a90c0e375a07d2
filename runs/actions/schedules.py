"""Firing schedules: those that start graphs, and those that rerun runs.

Several hosts may fire them: moving a schedule to its next time and starting the run are one
transaction, so each due time starts one run. Due times that passed while no host was running are
not made up for: the newest one fires, and the schedule and the run say how many were missed.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F

from graphs.auth.callers import SYSTEM
from graphs.definition import cron, errors
from graphs.definition.types import JsonObject
from graphs.models import CronTrigger, Graph, Schedule
from runs.actions.rerun import RerunOptions, rerun
from runs.core import db_errors, sql
from runs.engine import counters
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import LogLine, RecurringRerun, Run

log = logging.getLogger(__name__)
BATCH = 100
PAUSE_AFTER_ERROR = timedelta(hours=1)
MAX_ERROR_LENGTH = 2000


@dataclass(frozen=True)
class Kind:
    """What is done for the due times of a kind of schedule.

    `lock` locks what the schedule belongs to, and returns whether it could; `start` starts a run
    for a due time that has passed after so many others.
    """

    model: type[Schedule]
    related: tuple[str, ...]
    lock: Callable[[Any], bool]
    start: Callable[[Any, int], Run]


def fire_due(now: datetime | None = None) -> int:
    """Fire the schedules whose time has come. Returns the number of runs started."""
    now = now or sql.clock()
    return sum(_fire_safely(kind, schedule, now) for kind, schedule in _due(now))


def _due(now: datetime) -> Iterator[tuple[Kind, Schedule]]:
    for kind in KINDS:
        due = kind.model._default_manager.filter(enabled=True, next_at__lte=now)
        for schedule in due.order_by("next_at").select_related(*kind.related)[:BATCH]:
            yield kind, schedule


def _fire_safely(kind: Kind, schedule: Schedule, now: datetime) -> bool:
    """Fire a schedule. One that breaks is paused, and does not keep the others from firing."""
    try:
        return _fire(kind, schedule, now)
    except Exception as error:
        if db_errors.is_away(error):
            raise
        if db_errors.is_contention(error):
            return False  # the next round tries again
        log.exception("schedule %s %s could not be fired", schedule.pk, schedule)
        unchanged = kind.model._default_manager.filter(pk=schedule.pk, next_at=schedule.next_at)
        message = f"{type(error).__name__}: {error}"[:MAX_ERROR_LENGTH]
        unchanged.update(next_at=now + PAUSE_AFTER_ERROR, error=message)
        return False


def _fire(kind: Kind, schedule: Schedule, now: datetime) -> bool:
    """Fire a schedule for its due time. Returns whether this call started a run.

    If no run can start, the schedule gets the error and waits for its next time.
    """
    assert schedule.next_at is not None
    missed, next_at = cron.passed(schedule.expression, schedule.time_zone, schedule.next_at, now)
    rows = kind.model._default_manager.filter(pk=schedule.pk)
    with transaction.atomic():
        # What a schedule belongs to is locked before it, as when that is deleted. Otherwise the two
        # could wait for each other.
        # If something else has locked it, the next round tries again.
        if not kind.lock(schedule):
            return False
        unchanged = rows.filter(enabled=True, next_at=schedule.next_at)
        if not unchanged.update(
            next_at=next_at, last_fired_at=now, missed=F("missed") + missed, error=""
        ):
            return False
        try:
            with transaction.atomic():
                run = kind.start(schedule, missed)
        except errors.StateManagerError as error:
            log.warning("schedule %s %s could not start a run: %s", schedule.pk, schedule, error)
            rows.update(error=str(error)[:MAX_ERROR_LENGTH])
            return False
        if missed:
            _note_missed(run, schedule, missed)
    return True


def _note_missed(run: Run, schedule: Schedule, missed: int) -> None:
    times = "1 earlier due time" if missed == 1 else f"{missed:,} earlier due times"
    message = f"{times} of {schedule} passed without a run; they are not made up for"
    LogLine.objects.create(run=run, level="warning", message=message)
    Run.objects.filter(pk=run.pk).update(log_count=F("log_count") + 1)


def _reason(schedule: Schedule, missed: int) -> JsonObject:
    """Why the run was started."""
    assert schedule.next_at is not None
    return {"trigger": str(schedule), "due_at": schedule.next_at.isoformat(), "missed": missed}


# --- the kinds ------------------------------------------------------------------------------------


def _lock_graph(trigger: CronTrigger) -> bool:
    return bool(list(Graph.objects.lock(trigger.graph_id, skip_locked=True)))


def _start_graph(trigger: CronTrigger, missed: int) -> Run:
    options = RunOptions(metadata=_reason(trigger, missed))
    return start_run(trigger.graph, options, trigger="schedule")


def _lock_run(recurring: RecurringRerun) -> bool:
    return bool(counters.lock([recurring.run_id], skip_locked=True))


def _rerun(recurring: RecurringRerun, missed: int) -> Run:
    options = RerunOptions(
        inputs=recurring.inputs, newest=recurring.newest, schedule=_reason(recurring, missed)
    )
    return rerun(recurring.run, SYSTEM, options)


KINDS = (
    Kind(CronTrigger, ("graph__namespace", "graph__current"), _lock_graph, _start_graph),
    Kind(RecurringRerun, ("run",), _lock_run, _rerun),
)
