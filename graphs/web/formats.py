"""How times and durations are shown on every page and in every message."""

from datetime import datetime, timedelta
from typing import Protocol

from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

MISSING = "–"
ZERO = timedelta()
# Seconds of a unit and of the next smaller one, and their symbols.
UNITS = ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s"))


class Timed(Protocol):
    """A run or a state."""

    @property
    def started_at(self) -> datetime | None: ...

    @property
    def finished_at(self) -> datetime | None: ...


def moment(value: datetime | None, pattern: str = "%Y-%m-%d %H:%M") -> SafeString | str:
    """A time in the current time zone, as HTML that shows the exact time in UTC on hover."""
    if value is None:
        return MISSING
    exact = value.isoformat(timespec="milliseconds")
    text = timezone.localtime(value).strftime(pattern)
    html = f'<time datetime="{exact}" title="{exact}">{text}</time>'
    return mark_safe(html)  # noqa: S308  (a time contains no markup, and the patterns are constants)


def length(span: timedelta | None) -> str:
    """A duration in its two largest units: 85 ms, 12.3 s, 4 min 05 s, 3 h 20 min, 2 d 04 h."""
    if span is None:
        return MISSING
    seconds = max(0.0, span.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"

    rounded = round(seconds)
    for unit, smaller_unit, symbol, smaller_symbol in UNITS:
        if rounded >= unit:
            rest = rounded % unit // smaller_unit
            return f"{rounded // unit} {symbol} {rest:02d} {smaller_symbol}"
    return f"{rounded} s"


def seconds(number: float | None) -> str:
    """A duration in seconds, as `length` shows it."""
    return length(None if number is None else timedelta(seconds=number))


def percent(share: float) -> str:
    """A share from 0 to 1 in percent."""
    return f"{100 * share:.1f} %"


def took(timed: Timed) -> timedelta | None:
    """How long a run or a state took, or has taken so far. None if it has not started."""
    if timed.started_at is None:
        return None
    # The clock of this host may be behind the one that wrote the time.
    return max(ZERO, (timed.finished_at or timezone.now()) - timed.started_at)
