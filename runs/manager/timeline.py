"""When each state of a run waited and ran, as a drawing of bars with a table of the same numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from graphs.web.formats import length
from runs.core import statuses
from runs.models import Run, State

ROWS = 200
LABEL, WIDTH, ROW, TOP = 220, 760, 22, 24
CLASSES = {
    statuses.SUCCESS: "done",
    statuses.PRUNED: "done",
    statuses.QUEUED: "running",
    statuses.CREATED: "waiting",
    statuses.CANCELLED: "waiting",
}
FIELDS = (
    "id",
    "parent",
    "identifier",
    "path",
    "status",
    "attempt",
    "lost_leases",
    "retry_count",
    "created_at",
    "started_at",
    "finished_at",
)
LOST = "lost its worker in attempt"


@dataclass(frozen=True)
class Bar:
    """One state: when it was made, began and ended; `critical` when the run's end waited for it.

    `lost` says of its former attempts when their workers were given up; since when those had held it isn't kept.
    """

    state: State
    waited: str
    ran: str
    critical: bool
    lost: Sequence[datetime] = ()


@dataclass(frozen=True)
class Timeline:
    bars: Sequence[Bar]
    drawing: SafeString
    more: bool
    last: object = None


def timeline_of(run: Run, after: str = "") -> Timeline:
    """The states of a run in the order in which they were made, a page of them."""
    states = run.states.order_by("pk").only(*FIELDS)
    found = list((states.filter(pk__gt=after) if after else states)[: ROWS + 1])
    shown, now = found[:ROWS], timezone.now()
    critical = _critical(shown)
    begins = min([state.created_at for state in shown], default=run.created_at)
    ends = max(
        [state.finished_at or now for state in shown if state.started_at]
        or [run.finished_at or now]
    )
    lost = _lost(run, shown)
    bars = [_made(state, now, state.pk in critical, lost.get(state.pk, ())) for state in shown]
    return Timeline(
        bars,
        _drawing(bars, begins, max(ends, begins), now),
        len(found) > ROWS,
        shown[-1].pk if shown else None,
    )


def _made(state: State, now: datetime, critical: bool, lost: Sequence[datetime]) -> Bar:
    ready = lost[-1] if lost else state.created_at
    return Bar(
        state,
        length((state.started_at or state.finished_at or now) - ready),
        _ran(state, now),
        critical,
        lost,
    )


def _lost(run: Run, states: Sequence[State]) -> dict[object, list[datetime]]:
    """When the engine said of each state that it lost a worker."""
    found: dict[object, list[datetime]] = {}
    if wanted := [state.pk for state in states if state.lost_leases]:
        lines = run.logs.filter(state__in=wanted, level="warning", message__contains=LOST).order_by(
            "pk"
        )
        for state, at in lines.values_list("state", "created_at"):
            found.setdefault(state, []).append(at)
    return found


def _ran(state: State, now: datetime) -> str:
    return length((state.finished_at or now) - state.started_at) if state.started_at else "–"


def _critical(states: Sequence[State]) -> set[object]:
    """The chain of states that led to the one that ended last."""
    by_id = {state.pk: state for state in states}
    ended = [state for state in states if state.finished_at and state.started_at]
    at = max(ended, key=lambda state: (state.finished_at, state.pk), default=None)
    found: set[object] = set()
    while at is not None and at.pk not in found:
        found.add(at.pk)
        at = by_id.get(at.parent) if at.parent else None
    return found


def _drawing(bars: Sequence[Bar], begins: datetime, ends: datetime, now: datetime) -> SafeString:
    whole = max((ends - begins).total_seconds(), 0.001)

    def at(moment: datetime) -> float:
        return LABEL + WIDTH * min(1.0, max(0.0, (moment - begins).total_seconds() / whole))

    height = TOP + ROW * len(bars) + 8
    parts = [f'<svg class="rm-timeline" viewBox="0 0 {LABEL + WIDTH + 90} {height}" width="{LABEL + WIDTH + 90}" height="{height}" role="img"'
             f' aria-label="Timeline; the table below has the numbers">']  # fmt: skip
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = LABEL + WIDTH * share
        parts.append(
            f'<path class="rm-grid" d="M{x:g},{TOP - 4}V{height}"/><text class="rm-tick" x="{x:g}" y="14">{escape(length((ends - begins) * share))}</text>'
        )
    for row, bar in enumerate(bars):
        parts.append(_bar(bar, TOP + ROW * row, at, now))
    return mark_safe("".join([*parts, "</svg>"]))  # noqa: S308 -- every text in it is escaped above and below


def _bar(bar: Bar, y: float, at: object, now: datetime) -> str:
    assert callable(at)
    state = bar.state
    label = f"{state.identifier}{f' [{state.path}]' if state.path else ''}"
    made, began, ended = (
        at(state.created_at),
        at(state.started_at or state.finished_at or now),
        at(state.finished_at or now),
    )
    tries = ""
    for number, moment in enumerate(bar.lost, 1):
        until = min(at(moment), began)
        tries += f'<rect class="rm-ran rm-lost" x="{made:.1f}" y="{y + 2:g}" width="{max(until - made, 2):.1f}" height="{ROW - 6}">'
        tries += f"<title>{escape(label)}: attempt {number} lost its worker</title></rect>"
        made = until
    kind = CLASSES.get(state.status, "failed")
    text = escape(label if len(label) <= 32 else f"{label[:31]}…")
    return (
        f"<g><title>{escape(label)}: {escape(state.status)}, waited {escape(bar.waited)}, ran {escape(bar.ran)}</title>"
        f'<text x="0" y="{y + 14:g}">{text}</text>'
        f'{tries}<rect class="rm-waited" x="{made:.1f}" y="{y + 4:g}" width="{max(began - made, 0):.1f}" height="{ROW - 10}"/>'
        f'<rect class="rm-ran rm-{kind}{" rm-critical" if bar.critical else ""}" x="{began:.1f}" y="{y + 2:g}"'
        f' width="{max(ended - began, 2):.1f}" height="{ROW - 6}"/>'
        f'<text class="rm-tick" x="{ended + 4:.1f}" y="{y + 14:g}">{escape(bar.ran)}</text></g>'
    )
