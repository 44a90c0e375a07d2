"""Cron expressions with time zones: what is one, and when it is due. Pure.

Five fields, as in crontab(5): minute, hour, day of month, month, day of week. Times are those of the wall clock in the time zone: when
clocks go forward, a time that does not exist is due right after; when they go back, a time within the repeated hour is due once, unless the
hour field is a wildcard.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from croniter import CroniterError, croniter

LONGEST = 200
_ONE_LONG = re.compile(
    r"\b(\w+)-\1\b(/\d+)?"
)  # croniter takes n-n for the whole circle; crontab(5) means n


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def check(expression: str, zone: str) -> None:
    """Raises ValueError with a sentence when the expression or the time zone is none, or when it is never due."""
    if zone not in _zones():
        raise ValueError(f"{zone!r:.80} is no time zone; they are named like Europe/Berlin")
    if len(expression) > LONGEST or len(expression.split()) != 5:
        raise ValueError(
            f"{expression!r:.80} is no cron expression: it needs five fields (minute hour day-of-month month day-of-week)"
        )
    if any(field[:1].upper() in ("R", "H") for field in expression.split()):
        raise ValueError(
            f"{expression!r:.80} is no cron expression: random and hashed fields are not taken"
        )
    try:
        _times(expression, datetime(2024, 1, 1)).get_next(datetime)
    except (CroniterError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"{expression!r:.80} is no cron expression: {error}") from None


def _times(expression: str, after: datetime) -> croniter:
    return croniter(_ONE_LONG.sub(r"\1", expression), after)


def next_time(expression: str, zone: str, after: datetime) -> datetime:
    """The first due time after an aware moment, in UTC."""
    times = _times(expression, after.astimezone(ZoneInfo(zone)))
    found = times.get_next(datetime)
    while found.fold and not expression.split()[1].startswith("*"):
        found = times.get_next(datetime)
    return found.astimezone(UTC)


def passed(expression: str, zone: str, due: datetime, now: datetime) -> tuple[int, datetime]:
    """How many due times passed after `due` until now, at most 1,000 counted, and the first one after now."""
    missed, at = 0, next_time(expression, zone, due)
    while at <= now and missed < 1000:
        missed, at = missed + 1, next_time(expression, zone, at)
    return missed, at if at > now else next_time(expression, zone, now)
