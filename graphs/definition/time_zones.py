"""The time zones that there are. Pure."""

from functools import cache
from zoneinfo import available_timezones


@cache
def names() -> frozenset[str]:
    return frozenset(available_timezones())


def check(name: str) -> None:
    """Raise ValueError with a message for a name that is not that of a time zone."""
    if name not in names():
        raise ValueError(f"{name!r:.80} is not a time zone; use a name like Europe/Berlin")
