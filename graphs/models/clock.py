"""The database's clock, the one that all hosts share.

A time that another host wrote is compared with it and never with the clock of this host: hosts
disagree. In a condition of a queryset, use Django's `Now`.
"""

from datetime import UTC, datetime

from django.db import connection

_POSTGRES = "SELECT statement_timestamp()"
_SQLITE = "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')"


def now() -> datetime:
    """The database's time."""
    with connection.cursor() as cursor:
        cursor.execute(_POSTGRES if connection.vendor == "postgresql" else _SQLITE)
        value = cursor.fetchone()[0]
    if isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value).replace(tzinfo=UTC)
