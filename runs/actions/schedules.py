"""Firing cron triggers. Each due time starts one run however many hosts look, because the move to the next time and the start are one transaction.

Due times that passed while nobody looked are not caught up: the newest one fires, and the trigger and its run say how many were missed.
"""

import logging
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F

from graphs.definition import cron, errors
from graphs.models import CronTrigger, Graph
from runs.core import sql
from runs.engine.start import RunOptions, start_run
from runs.models import LogLine, Run

log = logging.getLogger(__name__)
BATCH = 100
PAUSE = timedelta(hours=1)  # before a trigger that broke is looked at again


def fire_due(now: datetime | None = None) -> int:
    """Start the graphs whose time has come; how many runs that made."""
    now = now or sql.clock()
    due = (
        CronTrigger.objects.filter(enabled=True, next_at__lte=now)
        .order_by("next_at")
        .select_related("graph__namespace", "graph__current")
    )
    return sum(_alone(trigger, now) for trigger in due[:BATCH])


def _alone(trigger: CronTrigger, now: datetime) -> bool:
    """One trigger that can't be fired must not keep the others from it."""
    try:
        return _fire(trigger, now)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        log.exception("trigger %s of %s could not be fired", trigger, trigger.graph)
        later = CronTrigger.objects.filter(pk=trigger.pk, next_at=trigger.next_at)
        later.update(next_at=now + PAUSE, error=f"{type(error).__name__}: {error}"[:2000])
        return False


def _fire(trigger: CronTrigger, now: datetime) -> bool:
    """Whether this call fired the due time; a run is made unless the graph can't start, which the trigger then says."""
    assert trigger.next_at is not None
    missed, following = cron.passed(trigger.expression, trigger.time_zone, trigger.next_at, now)
    with transaction.atomic():
        list(
            Graph.objects.select_for_update(no_key=True).filter(pk=trigger.graph_id)
        )  # before its trigger, as who deletes the graph does
        mine = CronTrigger.objects.filter(pk=trigger.pk, enabled=True, next_at=trigger.next_at)
        if not mine.update(
            next_at=following, last_fired_at=now, missed=F("missed") + missed, error=""
        ):
            return False
        try:
            with transaction.atomic():
                run = start_run(
                    trigger.graph, RunOptions(metadata=_why(trigger, missed)), trigger="schedule"
                )
        except errors.StateManagerError as error:
            log.warning("trigger %s of %s could not start a run: %s", trigger, trigger.graph, error)
            CronTrigger.objects.filter(pk=trigger.pk).update(error=str(error)[:2000])
            return False
        if missed:
            message = (
                f"{missed:,} earlier due times of {trigger} were missed; they are not caught up"
            )
            LogLine.objects.create(run=run, level="warning", message=message)
            Run.objects.filter(pk=run.pk).update(log_count=F("log_count") + 1)
    return True


def _why(trigger: CronTrigger, missed: int) -> dict[str, object]:
    assert trigger.next_at is not None
    return {"trigger": str(trigger), "due_at": trigger.next_at.isoformat(), "missed": missed}
