"""How times and lengths of time are shown, on every page and in every message."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe


def moment(value: datetime | None, pattern: str = "%Y-%m-%d %H:%M") -> SafeString | str:
    """A time in the current zone; the exact one in UTC on hover."""
    if value is None:
        return "–"
    exact = value.isoformat(timespec="milliseconds")
    text = f'<time datetime="{exact}" title="{exact}">{timezone.localtime(value).strftime(pattern)}</time>'
    return mark_safe(text)  # noqa: S308 -- a time holds no markup, and patterns are ours


def length(span: timedelta | None) -> str:
    """A length of time for people: 85 ms, 12.3 s, 4 min 05 s, 3 h 20 min, 2 d 4 h."""
    if span is None:
        return "–"
    seconds = max(0.0, span.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, part, sign, small in (
        (86400, 3600, "d", "h"),
        (3600, 60, "h", "min"),
        (60, 1, "min", "s"),
    ):
        if whole >= unit:
            return f"{whole // unit} {sign} {whole % unit // part:02d} {small}"
    return f"{whole} s"


def took(run: Any) -> timedelta | None:
    """How long a run or a state ran, or has been running."""
    return (run.finished_at or timezone.now()) - run.started_at if run.started_at else None
