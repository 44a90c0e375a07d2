"""Deleting runs that ended long ago, once a day, as a bulk operation that is seen, stopped and audited like any other."""

import uuid
from dataclasses import replace
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from graphs.auth.callers import SYSTEM
from runs.actions import bulk
from runs.core import statuses
from runs.models import BulkOperation, Run

_DAYS = uuid.UUID(
    "4d1a8c1e-6a0f-4f0e-9a52-5f4b8d1c7e20"
)  # names the operation of each day, so that many supervisors ask for one


def delete_old(now: datetime | None = None) -> BulkOperation | None:
    """Ask for the deletion of the runs that were made more than RETENTION_DAYS ago and have ended; none when there are none, or days are 0."""
    now = now or timezone.now()
    if not settings.RETENTION_DAYS:
        return None
    before = (now - timedelta(days=settings.RETENTION_DAYS)).replace(
        minute=0, second=0, microsecond=0
    )
    if not Run.objects.filter(created_at__lt=before, status__in=statuses.ENDED_RUNS).exists():
        return None
    query = {
        "status": [",".join(statuses.ENDED_RUNS)],
        "created_before": [before.isoformat()],
        "archived": ["yes,no"],
    }
    caller = replace(SYSTEM, label="retention", via="command")
    return bulk.ask(
        "delete",
        query,
        caller,
        reason=f"older than {settings.RETENTION_DAYS} days",
        idempotency_key=uuid.uuid5(_DAYS, now.date().isoformat()),
    )
