"""Schedules that people choose without knowing cron, and schedules in words. Pure."""

import re
from dataclasses import dataclass

KINDS = {
    "minutes": "Every few minutes",
    "hour": "Every hour",
    "day": "Every day",
    "weekdays": "Monday to Friday",
    "week": "Every week",
    "month": "Every month",
}
MINUTES = (1, 2, 5, 10, 15, 20, 30)
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MAX_DAY = 28  # which each month has

_PATTERNS = {
    "minutes": r"\*(?:/(?P<minutes>\d+))? \* \* \* \*",
    "hour": r"(?P<minute>\d+) \* \* \* \*",
    "day": r"(?P<minute>\d+) (?P<hour>\d+) \* \* \*",
    "weekdays": r"(?P<minute>\d+) (?P<hour>\d+) \* \* 1-5",
    "week": r"(?P<minute>\d+) (?P<hour>\d+) \* \* (?P<weekday>\d)",
    "month": r"(?P<minute>\d+) (?P<hour>\d+) (?P<day>\d+) \* \*",
}


@dataclass(frozen=True)
class Preset:
    """A schedule of one of KINDS. What its kind doesn't use is ignored.

    `minutes` is the interval of "minutes", one of MINUTES; `minute` belongs to "hour", and `hour`
    too to the longer kinds. `weekday` is 0 (Sunday) to 6, `day` 1 to MAX_DAY.
    """

    every: str
    minutes: int = 5
    minute: int = 0
    hour: int = 6
    weekday: int = 1
    day: int = 1

    @property
    def expression(self) -> str:
        """The cron expression."""
        match self.every:
            case "minutes":
                return "* * * * *" if self.minutes == 1 else f"*/{self.minutes} * * * *"
            case "hour":
                return f"{self.minute} * * * *"
            case "weekdays":
                return f"{self.minute} {self.hour} * * 1-5"
            case "week":
                return f"{self.minute} {self.hour} * * {self.weekday}"
            case "month":
                return f"{self.minute} {self.hour} {self.day} * *"
        return f"{self.minute} {self.hour} * * *"

    @property
    def words(self) -> str:
        at = f"{self.hour:02d}:{self.minute:02d}"
        match self.every:
            case "minutes":
                return "every minute" if self.minutes == 1 else f"every {self.minutes} minutes"
            case "hour":
                return f"every hour at :{self.minute:02d}"
            case "weekdays":
                return f"Monday to Friday at {at}"
            case "week":
                return f"every {WEEKDAYS[self.weekday]} at {at}"
            case "month":
                return f"every month on day {self.day} at {at}"
        return f"every day at {at}"


def preset_of(expression: str) -> Preset | None:
    """The preset that has this expression; None if there is none."""
    text = " ".join(expression.split())
    for every, pattern in _PATTERNS.items():
        match = re.fullmatch(pattern, text, re.ASCII)
        if match:
            values = {name: int(value) for name, value in match.groupdict("1").items()}
            return Preset(every, **values) if _is_possible(values) else None
    return None


def _is_possible(values: dict[str, int]) -> bool:
    return (
        values.get("minutes", 1) in MINUTES
        and values.get("minute", 0) < 60
        and values.get("hour", 0) < 24
        and values.get("weekday", 0) < len(WEEKDAYS)
        and 1 <= values.get("day", 1) <= MAX_DAY
    )


def in_words(expression: str) -> str:
    """A schedule in words, as "every day at 06:00"; "" if there are none for it."""
    preset = preset_of(expression)
    return preset.words if preset else ""
