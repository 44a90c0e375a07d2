"""How times and durations are shown on every page and in every message."""

from datetime import datetime, timedelta
from typing import Protocol

from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

MISSING = "–"
ZERO = timedelta()
DAY = timedelta(days=1)
AHEAD_SECONDS = 5
RELATIVE_UNITS = ((3600, "h"), (60, "min"), (1, "s"))
# Seconds of a unit and of the next smaller one, and their symbols.
UNITS = ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s"))


class Timed(Protocol):
    """A run or a state."""

    @property
    def started_at(self) -> datetime | None: ...

    @property
    def finished_at(self) -> datetime | None: ...


def moment(value: datetime | None, pattern: str = "") -> SafeString | str:
    """A time in the zone of the user, as HTML that shows the exact time and the zone on hover.

    Without a pattern, a time that is less than a day away is relative, as in "5 min ago". A script
    keeps such times up to date.
    """
    if value is None:
        return MISSING
    local = timezone.localtime(value)
    zone = timezone.get_current_timezone_name()
    title = f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d} {local:%Z} ({zone})"
    away = timezone.now() - value
    is_relative = not pattern and abs(away) < DAY
    text = relative(away) if is_relative else local.strftime(pattern or "%Y-%m-%d %H:%M")
    html = (
        f'<time datetime="{value.isoformat(timespec="milliseconds")}" title="{title}"'
        f"{' data-relative' if is_relative else ''}>{text}</time>"
    )
    return mark_safe(html)  # noqa: S308 -- neither times nor the names of zones contain markup


def relative(age: timedelta) -> str:
    """How long ago something was, or when it will be: "now", "5 min ago", "in 3 h".

    The clocks of hosts differ a little, so what is just ahead is now.
    """
    seconds = abs(age.total_seconds())
    if -AHEAD_SECONDS < age.total_seconds() < 0:
        return "now"
    for unit, symbol in RELATIVE_UNITS:
        if seconds >= unit:
            text = f"{seconds // unit:.0f} {symbol}"
            return f"{text} ago" if age > ZERO else f"in {text}"
    return "now"


def exact(value: datetime | None) -> str:
    """A time for a sentence, in the zone of the user: 2026-11-30 17:39:13 UTC."""
    return MISSING if value is None else f"{timezone.localtime(value):%Y-%m-%d %H:%M:%S %Z}"


def clock_time(value: datetime) -> str:
    """A time as a clock of its own zone shows it: Mon 2026-11-30 17:39 CET."""
    return f"{value:%a %Y-%m-%d %H:%M %Z}"


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
