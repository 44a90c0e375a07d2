"""When schedules are due, by the clock of the database."""

from datetime import datetime

from graphs.definition import cron, errors
from graphs.models import Schedule
from runs.core import sql


def first_time(expression: str, time_zone: str) -> datetime:
    """The first due time from now on. Raises Malformed for what is no schedule."""
    return first_times(expression, time_zone, 1)[0]


def reschedule(
    schedule: Schedule, enabled: bool | None, expression: str | None, time_zone: str | None
) -> None:
    """Pause a schedule, resume it, or give it other times; None keeps what it has.

    It is due at its first time from now on: what became due while it was paused is not made up for.
    Raises Malformed for what is no schedule.
    """
    schedule.enabled = schedule.enabled if enabled is None else enabled
    schedule.expression = schedule.expression if expression is None else expression
    schedule.time_zone = schedule.time_zone if time_zone is None else time_zone
    schedule.next_at = first_time(schedule.expression, schedule.time_zone)
    schedule.error = ""


def first_times(expression: str, time_zone: str, number: int) -> list[datetime]:
    """The first due times from now on. Raises Malformed for what is no schedule."""
    try:
        cron.check(expression, time_zone)
    except ValueError as error:
        raise errors.Malformed(f"{error}.") from None
    return cron.next_times(expression, time_zone, sql.clock(), number)
