"""Firing cron triggers. Each due time starts one run however many hosts look, because the move to the next time and the start are one transaction.

Due times that passed while nobody looked are not caught up: the newest one fires, and the trigger and its run say how many were missed.
"""

import logging
from datetime import datetime

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from graphs import cron, errors
from graphs.models import CronTrigger
from runs.models import LogLine, Run
from runs.starting import RunOptions, start_run

log = logging.getLogger(__name__)
BATCH = 100


def fire_due(now: datetime | None = None) -> int:
    """Start the graphs whose time has come; how many runs that made."""
    now = now or timezone.now()
    due = CronTrigger.objects.filter(enabled=True, next_at__lte=now).order_by("next_at").select_related("graph__namespace", "graph__current")
    return sum(_fire(trigger, now) for trigger in due[:BATCH])


def _fire(trigger: CronTrigger, now: datetime) -> bool:
    """Whether this call fired the due time; a run is made unless the graph can't start, which the trigger then says."""
    assert trigger.next_at is not None
    missed, following = cron.passed(trigger.expression, trigger.time_zone, trigger.next_at, now)
    with transaction.atomic():
        mine = CronTrigger.objects.filter(pk=trigger.pk, enabled=True, next_at=trigger.next_at)
        if not mine.update(next_at=following, last_fired_at=now, missed=F("missed") + missed, error=""):
            return False
        try:
            with transaction.atomic():
                run = start_run(trigger.graph, RunOptions(metadata=_why(trigger, missed)), trigger="schedule")
        except errors.StateManagerError as error:
            log.warning("trigger %s of %s could not start a run: %s", trigger, trigger.graph, error)
            CronTrigger.objects.filter(pk=trigger.pk).update(error=str(error)[:2000])
            return False
        if missed:
            message = f"{missed:,} earlier due times of {trigger} were missed; they are not caught up"
            LogLine.objects.create(run=run, level="warning", message=message)
            Run.objects.filter(pk=run.pk).update(log_count=F("log_count") + 1)
    return True


def _why(trigger: CronTrigger, missed: int) -> dict[str, object]:
    assert trigger.next_at is not None
    return {"trigger": str(trigger), "due_at": trigger.next_at.isoformat(), "missed": missed}
