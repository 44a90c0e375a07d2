"""Statuses and progress as every page shows them. A status is never shown by its colour alone."""

from collections.abc import Mapping
from itertools import islice

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from runs.core import statuses
from runs.models import Run

MAX_LABELS = 50  # that a page shows
MAX_LABEL = 60  # characters
MAX_TITLE = 300
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


def _badge(css_class: str, icon: str, label: str) -> SafeString:
    return format_html(
        '<span class="rm-badge rm-{}"><span aria-hidden="true">{}</span> {}</span>',
        css_class,
        icon,
        label,
    )


_RUN_BADGES = {
    status: _badge(status, icon, statuses.RUN_RESULTS[status]) for status, icon in RUN_ICONS.items()
}
_UNKNOWN = _badge("unknown", "?", "unknown")


def run_badge(status: str) -> SafeString:
    """The badge of a run's status. A status that isn't known gets a grey one."""
    return _RUN_BADGES.get(status, _UNKNOWN)


def state_badge(status: str) -> SafeString:
    """The badge of a state's status."""
    return _badge(f"state-{status.lower()}", STATE_ICONS.get(status, "?"), status)


def progress(run: Run) -> SafeString:
    """A bar with the percentage of a run that is done."""
    percent = int(run.progress)
    bar = f'<progress max="100" value="{percent}" aria-label="Progress">{percent} %</progress>'
    return mark_safe(f"{bar} {percent} %")  # noqa: S308 -- a number needs no escaping


def labels(values: Mapping[str, str], most: int = MAX_LABELS) -> SafeString:
    """The first labels, shortened, and how many more there are."""
    shown = [_label(f"{key}={value}") for key, value in islice(values.items(), most)]
    if len(values) > most:
        shown.append(f'<span class="rm-quiet">+{len(values) - most:,}</span>')
    return mark_safe(" ".join(shown))  # noqa: S308 -- the labels are escaped


def _label(text: str) -> str:
    if len(text) <= MAX_LABEL:
        return f'<span class="rm-label">{escape(text)}</span>'
    # Of a very long label, which no door accepts now, the whole text would fill the page.
    whole, short = escape(text[:MAX_TITLE]), escape(f"{text[: MAX_LABEL - 1]}…")
    return f'<span class="rm-label" title="{whole}">{short}</span>'
