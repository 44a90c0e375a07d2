"""Deleting old runs once a day.

The deletion is a bulk operation: it can be watched, stopped and audited like any other.
"""

import uuid
from dataclasses import replace
from datetime import datetime, timedelta

from graphs.auth.callers import SYSTEM
from runs.actions import bulk
from runs.actions.delete import DELETABLE
from runs.core import sql
from runs.models import BulkOperation, Run
from statemanager.conf import conf

# The idempotency key of a day's operation is made from this and the date. So the supervisors of
# several hosts ask for the same operation, and only the first request makes one.
_KEYS_OF_DAYS = uuid.UUID("4d1a8c1e-6a0f-4f0e-9a52-5f4b8d1c7e20")


def delete_old(now: datetime | None = None) -> BulkOperation | None:
    """Start the deletion of runs that have ended and were created RETENTION_DAYS days ago.

    Runs that are rerun on a schedule are kept: with them the schedule would be gone. Returns None
    if there are no runs to delete, or if RETENTION_DAYS is 0.
    """
    now = now or sql.clock()
    if not conf.RETENTION_DAYS:
        return None
    oldest_to_keep = now - timedelta(days=conf.RETENTION_DAYS)
    before = oldest_to_keep.replace(minute=0, second=0, microsecond=0)
    old = Run.objects.filter(created_at__lt=before, status__in=DELETABLE, recurring_reruns=None)
    if not old.exists():
        return None
    filters = {
        "status": [",".join(DELETABLE)],
        "created_before": [before.isoformat()],
        "archived": ["yes,no"],
        "search": ["-has:schedule"],
    }
    return bulk.ask(
        "delete",
        filters,
        replace(SYSTEM, label="retention", via="command"),
        reason=f"older than {conf.RETENTION_DAYS} days",
        idempotency_key=uuid.uuid5(_KEYS_OF_DAYS, now.date().isoformat()),
    )
