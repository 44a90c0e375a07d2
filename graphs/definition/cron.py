"""Cron expressions with time zones: which are valid, and when they are due. Pure.

An expression has five fields, as in crontab(5): minute, hour, day of month, month, day of week.
Times are those of a wall clock in the time zone. When clocks go forward, a time that does not
exist is due right after the gap. When they go back, a time in the repeated hour is due once,
unless the hour field is a wildcard.
"""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

from graphs.definition import time_zones

MAX_LENGTH = 200
MAX_MISSED = 1000
_SECOND = timedelta(seconds=1)
_LONGEST_REPEAT = timedelta(hours=3)  # more than any clock goes back, which is two hours

_RANGE = re.compile(r"\b(\w+)-(\w+)\b(/\d+)?")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_NUMBERS = {name: number for number, name in enumerate(_MONTHS, 1)} | {
    name: number for number, name in enumerate(_DAYS)
}


def check(expression: str, zone: str) -> None:
    """Raise ValueError with a message if the expression or the time zone is invalid.

    An expression that is never due, such as 30 February, is invalid, too.
    """
    time_zones.check(zone)
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
    fields = expression.split()
    fields = [_with_single_values(field, place == 4) for place, field in enumerate(fields)]
    # A day must fit both of its fields, unless both are restricted: then one is enough.
    is_either = not any(field.startswith("*") for field in (fields[2], fields[4]))
    return croniter(" ".join(fields), after, day_or=is_either)


def _with_single_values(field: str, is_weekday: bool) -> str:
    """The field with n instead of n-n. croniter takes that for every value."""

    def number(text: str) -> int | str:
        return _NUMBERS.get(text.lower(), int(text) if text.isdecimal() else text)

    def single(match: re.Match[str]) -> str:
        begin, end, _ = match.groups()
        is_sunday = is_weekday and (number(begin), number(end)) == (7, 0)
        return begin if is_sunday or number(begin) == number(end) else match[0]

    return _RANGE.sub(single, field)


def next_time(expression: str, zone: str, after: datetime) -> datetime:
    """The first due time after an aware moment, in UTC.

    croniter only finds the times of the wall clock, and knows no zone: its own changes of clocks
    are those by whole hours.
    """
    clock = ZoneInfo(zone)
    after = after.astimezone(UTC)
    every_hour = expression.split()[1].startswith("*")
    times = _times(expression, after.astimezone(clock).replace(tzinfo=None))
    due = after
    while due <= after:
        moments = _moments(times.get_next(datetime), clock)
        due = moments[0]
        if due <= after and every_hour:
            due = moments[-1]
    again = _first_repeated(expression, clock, after) if every_hour else None
    return min(due, again) if again else due


def next_times(expression: str, zone: str, after: datetime, number: int) -> list[datetime]:
    """The first due times after an aware moment, in UTC."""
    times: list[datetime] = []
    for _ in range(number):
        after = next_time(expression, zone, after)
        times.append(after)
    return times


def _moments(time: datetime, clock: ZoneInfo) -> list[datetime]:
    """When a clock shows this time: once; twice when it goes back then. A time that it leaves out
    counts as shown at the end of the gap.
    """
    first = time.replace(tzinfo=clock).astimezone(UTC)
    second = time.replace(tzinfo=clock, fold=1).astimezone(UTC)
    if first <= second:
        return [first] if first == second else [first, second]
    return [_change(clock, second, first)]


def _change(clock: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The moment at which the clock is changed, which is after `before` and not after `after`."""
    old = before.astimezone(clock).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        if middle.astimezone(clock).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def _first_repeated(expression: str, clock: ZoneInfo, after: datetime) -> datetime | None:
    """The first due time that the clock shows again, if it goes back soon after this moment."""
    soon = after + _LONGEST_REPEAT
    old, new = after.astimezone(clock).utcoffset(), soon.astimezone(clock).utcoffset()
    if old is None or new is None or new >= old:
        return None
    change = _change(clock, after, soon)
    begins = change.astimezone(clock).replace(tzinfo=None)
    time = _times(expression, begins - _SECOND).get_next(datetime)
    if time >= begins + (old - new):
        return None
    return time.replace(tzinfo=clock, fold=1).astimezone(UTC)


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
