"""The database's clock, the one that all hosts share.

A time that another host wrote is compared with it and never with the clock of this host: hosts
disagree. In a condition of a queryset, use Django's `Now`.
"""

from datetime import UTC, datetime, timedelta
from time import monotonic

from django.db import connection

_POSTGRES = "SELECT statement_timestamp()"
_SQLITE = "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')"

ASK_EVERY = 60.0  # seconds
_asked: tuple[float, datetime] | None = None  # when, by the monotonic clock, and the answer


def now() -> datetime:
    """The database's time."""
    with connection.cursor() as cursor:
        cursor.execute(_POSTGRES if connection.vendor == "postgresql" else _SQLITE)
        value = cursor.fetchone()[0]
    if isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value).replace(tzinfo=UTC)


def estimate() -> datetime:
    """The database's time, for what each request compares: the database is asked once a minute.

    What has passed since is measured by the monotonic clock, which nobody sets.
    """
    global _asked
    asked = _asked
    if asked is None or monotonic() - asked[0] > ASK_EVERY:
        asked = _asked = monotonic(), now()
    return asked[1] + timedelta(seconds=monotonic() - asked[0])
