"""Cron expressions with time zones: which are valid, and when they are due. Pure.

An expression has five fields, as in crontab(5): minute, hour, day of month, month, day of week.
Times are those of a wall clock in the time zone. When clocks go forward, a time that does not
exist is due right after the gap. When they go back, a time in the repeated hour is due once,
unless the hour field is a wildcard.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from croniter import CroniterError, croniter

MAX_LENGTH = 200
MAX_MISSED = 1000

# croniter takes n-n for every value; crontab(5) means n only.
_SINGLE_RANGE = re.compile(r"\b(\w+)-\1\b(/\d+)?")


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def check(expression: str, zone: str) -> None:
    """Raise ValueError with a message if the expression or the time zone is invalid.

    An expression that is never due, such as 30 February, is invalid, too.
    """
    if zone not in _zones():
        raise ValueError(f"{zone!r:.80} is not a time zone; use a name like Europe/Berlin")
    refusal = f"{expression!r:.80} is not a valid cron expression"
    if len(expression) > MAX_LENGTH or len(expression.split()) != 5:
        raise ValueError(
            f"{refusal}: it needs five fields (minute hour day-of-month month day-of-week)"
        )
    if any(field[:1].upper() in ("R", "H") for field in expression.split()):
        raise ValueError(f"{refusal}: random and hashed fields are not supported")
    try:
        _times(expression, datetime(2024, 1, 1)).get_next(datetime)
    except (CroniterError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"{refusal}: {error}") from None


def _times(expression: str, after: datetime) -> croniter:
    return croniter(_SINGLE_RANGE.sub(r"\1", expression), after)


def next_time(expression: str, zone: str, after: datetime) -> datetime:
    """The first due time after an aware moment, in UTC."""
    times = _times(expression, after.astimezone(ZoneInfo(zone)))
    due = times.get_next(datetime)
    while due.fold and not expression.split()[1].startswith("*"):
        due = times.get_next(datetime)
    return due.astimezone(UTC)


def passed(expression: str, zone: str, due: datetime, now: datetime) -> tuple[int, datetime]:
    """How many due times passed after `due` until now, and the first one after now.

    At most MAX_MISSED are counted.
    """
    missed = 0
    at = next_time(expression, zone, due)
    while at <= now and missed < MAX_MISSED:
        missed += 1
        at = next_time(expression, zone, at)
    return missed, at if at > now else next_time(expression, zone, now)
