"""When schedules are due, by the clock of the database."""

from datetime import datetime

from graphs.definition import cron, errors
from runs.core import sql


def first_time(expression: str, time_zone: str) -> datetime:
    """The first due time from now on. Raises Malformed for what is no schedule."""
    return first_times(expression, time_zone, 1)[0]


def first_times(expression: str, time_zone: str, number: int) -> list[datetime]:
    """The first due times from now on. Raises Malformed for what is no schedule."""
    try:
        cron.check(expression, time_zone)
    except ValueError as error:
        raise errors.Malformed(f"{error}.") from None
    return cron.next_times(expression, time_zone, sql.clock(), number)
