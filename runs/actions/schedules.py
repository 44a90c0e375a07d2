"""Firing cron triggers.

Several hosts may fire them: moving a trigger to its next time and starting the run are one
transaction, so each due time starts one run. Due times that passed while no host was running are
not made up for: the newest one fires, and the trigger and the run say how many were missed.
"""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F

from graphs.definition import cron, errors
from graphs.definition.types import JsonObject
from graphs.models import CronTrigger, Graph
from runs.core import db_errors, sql
from runs.engine.start import RunOptions, start_run
from runs.models import LogLine, Run

log = logging.getLogger(__name__)
BATCH = 100
PAUSE_AFTER_ERROR = timedelta(hours=1)
MAX_ERROR_LENGTH = 2000


def fire_due(now: datetime | None = None) -> int:
    """Fire the triggers whose time has come. Returns the number of runs started."""
    now = now or sql.clock()
    due = (
        CronTrigger.objects.filter(enabled=True, next_at__lte=now)
        .order_by("next_at")
        .select_related("graph__namespace", "graph__current")
    )
    return sum(_fire_safely(trigger, now) for trigger in due[:BATCH])


def _fire_safely(trigger: CronTrigger, now: datetime) -> bool:
    """Fire a trigger. A trigger that breaks is paused, and does not keep the others from firing."""
    try:
        return _fire(trigger, now)
    except Exception as error:
        if db_errors.is_away(error):
            raise
        if db_errors.is_contention(error):
            return False  # the next round tries again
        log.exception("trigger %s of %s could not be fired", trigger, trigger.graph)
        unchanged = CronTrigger.objects.filter(pk=trigger.pk, next_at=trigger.next_at)
        message = f"{type(error).__name__}: {error}"[:MAX_ERROR_LENGTH]
        unchanged.update(next_at=now + PAUSE_AFTER_ERROR, error=message)
        return False


def _fire(trigger: CronTrigger, now: datetime) -> bool:
    """Fire a trigger for its due time. Returns whether this call started a run.

    If the graph can't start, the trigger gets the error and waits for its next time.
    """
    assert trigger.next_at is not None
    missed, next_at = cron.passed(trigger.expression, trigger.time_zone, trigger.next_at, now)
    with transaction.atomic():
        # The graph is locked before its trigger, as in the deletion of a graph. Otherwise the two
        # could wait for each other.
        # If something else has locked it, the next round tries again.
        if not list(Graph.objects.lock(trigger.graph_id, skip_locked=True)):
            return False
        unchanged = CronTrigger.objects.filter(pk=trigger.pk, enabled=True, next_at=trigger.next_at)
        if not unchanged.update(
            next_at=next_at, last_fired_at=now, missed=F("missed") + missed, error=""
        ):
            return False
        try:
            with transaction.atomic():
                options = RunOptions(metadata=_metadata(trigger, missed))
                run = start_run(trigger.graph, options, trigger="schedule")
        except errors.StateManagerError as error:
            log.warning("trigger %s of %s could not start a run: %s", trigger, trigger.graph, error)
            message = str(error)[:MAX_ERROR_LENGTH]
            CronTrigger.objects.filter(pk=trigger.pk).update(error=message)
            return False
        if missed:
            _note_missed(run, trigger, missed)
    return True


def _note_missed(run: Run, trigger: CronTrigger, missed: int) -> None:
    times = "1 earlier due time" if missed == 1 else f"{missed:,} earlier due times"
    message = f"{times} of {trigger} passed without a run; they are not made up for"
    LogLine.objects.create(run=run, level="warning", message=message)
    Run.objects.filter(pk=run.pk).update(log_count=F("log_count") + 1)


def _metadata(trigger: CronTrigger, missed: int) -> JsonObject:
    """Why the run was started."""
    assert trigger.next_at is not None
    return {"trigger": str(trigger), "due_at": trigger.next_at.isoformat(), "missed": missed}
