"""How statuses, ids, times and lengths of time look on every page: never colour alone, and the exact value on hover."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from runs.core import statuses
from runs.models import Run

RUN_ICONS = {
    statuses.RUN_QUEUED: "…",
    statuses.RUNNING: "▶",
    statuses.PAUSED: "‖",
    statuses.COMPLETED: "✓",
    statuses.PARTIAL: "◐",
    statuses.FAILED: "✗",
    statuses.RUN_CANCELLED: "⊘",
}
STATE_ICONS = {
    statuses.CREATED: "…",
    statuses.QUEUED: "▶",
    statuses.SUCCESS: "✓",
    statuses.PRUNED: "✂",
    statuses.RETRY_CREATED: "↻",
    statuses.CANCELLED: "⊘",
    **dict.fromkeys(statuses.FAILED_STATES, "✗"),
}


def _badge(kind: str, icon: str, word: str) -> SafeString:
    return format_html('<span class="rm-badge rm-{}"><span aria-hidden="true">{}</span> {}</span>', kind, icon, word)


_RUN_BADGES = {status: _badge(status, icon, statuses.RESULT_WORDS[status]) for status, icon in RUN_ICONS.items()}
_UNKNOWN = _badge("unknown", "?", "unknown")


def run_badge(status: str) -> SafeString:
    """A run's status as seed 001 names it; what it doesn't know is grey."""
    return _RUN_BADGES.get(status, _UNKNOWN)


def state_badge(status: str) -> SafeString:
    return _badge(f"state-{status.lower()}", STATE_ICONS.get(status, "?"), status)


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
    for unit, part, sign, small in ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= unit:
            return f"{whole // unit} {sign} {whole % unit // part:02d} {small}"
    return f"{whole} s"


def took(run: Any) -> timedelta | None:
    """How long a run or a state ran, or has been running."""
    return (run.finished_at or timezone.now()) - run.started_at if run.started_at else None


def progress(run: Run) -> SafeString:
    share = int(run.progress)
    return mark_safe(f'<progress max="100" value="{share}" aria-label="Progress">{share} %</progress> {share} %')  # noqa: S308 -- a number
