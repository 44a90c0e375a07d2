"""How statuses, ids, times and lengths of time look on every page: never colour alone, and the exact value on hover."""

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
    return format_html(
        '<span class="rm-badge rm-{}"><span aria-hidden="true">{}</span> {}</span>',
        kind,
        icon,
        word,
    )


_RUN_BADGES = {
    status: _badge(status, icon, statuses.RUN_RESULTS[status]) for status, icon in RUN_ICONS.items()
}
_UNKNOWN = _badge("unknown", "?", "unknown")


def run_badge(status: str) -> SafeString:
    """A run's status as seed 001 names it; what it doesn't know is grey."""
    return _RUN_BADGES.get(status, _UNKNOWN)


def state_badge(status: str) -> SafeString:
    return _badge(f"state-{status.lower()}", STATE_ICONS.get(status, "?"), status)


def progress(run: Run) -> SafeString:
    share = int(run.progress)
    return mark_safe(
        f'<progress max="100" value="{share}" aria-label="Progress">{share} %</progress> {share} %'
    )  # noqa: S308 -- a number
