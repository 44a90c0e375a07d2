"""The timeline of a run: when each state waited and ran, as a drawing and as numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from uuid import UUID

from django.utils.safestring import SafeString, mark_safe

from graphs.web.formats import length
from runs.core import sql, statuses
from runs.models import Run, State
from runs.queries.attempts import LostLease, lost_leases

ROWS = 200
LABEL, WIDTH, ROW, TOP = 220, 760, 22, 24  # of the drawing, in pixels
RIGHT, BOTTOM = 90, 8  # margins for the last duration and the last row
MAX_LABEL = 32
TICKS = (0, 0.25, 0.5, 0.75, 1)
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


@dataclass(frozen=True)
class Bar:
    """The bar of one state.

    `critical` marks the chain of states that led to the one that ended last. `lost` are the
    attempts that lost their workers.
    """

    state: State
    waited: str
    ran: str
    critical: bool
    lost: Sequence[LostLease] = ()


@dataclass(frozen=True)
class Timeline:
    """A page of bars. `last` is the last state's id, after which the next page begins."""

    bars: Sequence[Bar]
    drawing: SafeString
    more: bool
    last: UUID | None = None


def timeline_of(run: Run, after: str = "") -> Timeline:
    """A page of the run's states in the order in which they were created."""
    matching = run.states.order_by("pk").only(*FIELDS)
    if after:
        matching = matching.filter(pk__gt=after)
    page = list(matching[: ROWS + 1])
    states, now = page[:ROWS], sql.clock()
    critical = _critical(states)
    lost = lost_leases(run, [state.pk for state in states if state.lost_leases])
    bars = [_bar(state, now, state.pk in critical, lost.get(state.pk, ())) for state in states]
    return Timeline(
        bars,
        Drawing(run, bars, now).svg(),
        more=len(page) > ROWS,
        last=states[-1].pk if states else None,
    )


def _bar(state: State, now: datetime, critical: bool, lost: Sequence[LostLease]) -> Bar:
    ready = lost[-1].found_at if lost else state.created_at
    began = state.started_at or state.finished_at or now
    ran = length((state.finished_at or now) - state.started_at) if state.started_at else "–"
    return Bar(state, length(began - ready), ran, critical, lost)


def _critical(states: Sequence[State]) -> set[UUID]:
    """The ids of the chain of states that led to the one that ended last."""
    by_id = {state.pk: state for state in states}
    ended = [state for state in states if state.finished_at and state.started_at]
    state = max(ended, key=lambda state: (state.finished_at, state.pk), default=None)
    chain: set[UUID] = set()
    while state is not None and state.pk not in chain:
        chain.add(state.pk)
        state = by_id.get(state.parent) if state.parent else None
    return chain


class Drawing:
    """The bars as SVG, with time from left to right."""

    def __init__(self, run: Run, bars: Sequence[Bar], now: datetime) -> None:
        states = [bar.state for bar in bars]
        ends = [state.finished_at or now for state in states if state.started_at]
        self.bars, self.now = bars, now
        self.begin = min((state.created_at for state in states), default=run.created_at)
        self.end = max([*ends, self.begin] if ends else [run.finished_at or now, self.begin])
        self.seconds = max((self.end - self.begin).total_seconds(), 0.001)
        self.height = TOP + ROW * len(bars) + BOTTOM

    def svg(self) -> SafeString:
        width = LABEL + WIDTH + RIGHT
        rows = [self._row(bar, TOP + ROW * number) for number, bar in enumerate(self.bars)]
        opening = (
            f'<svg class="rm-timeline" viewBox="0 0 {width} {self.height}" width="{width}"'
            f' height="{self.height}" role="img"'
            ' aria-label="Timeline; the table below has the numbers">'
        )
        parts = [opening, *map(self._tick, TICKS), *rows, "</svg>"]
        return mark_safe("".join(parts))  # noqa: S308 -- every text in it is escaped

    def _x(self, moment: datetime) -> float:
        share = (moment - self.begin).total_seconds() / self.seconds
        return LABEL + WIDTH * min(1.0, max(0.0, share))

    def _tick(self, share: float) -> str:
        """A vertical line with its time since the begin."""
        x = LABEL + WIDTH * share
        label = escape(length((self.end - self.begin) * share))
        return (
            f'<path class="rm-grid" d="M{x:g},{TOP - 4}V{self.height}"/>'
            f'<text class="rm-tick" x="{x:g}" y="14">{label}</text>'
        )

    def _row(self, bar: Bar, y: int) -> str:
        """The label, the lost attempts, the wait and the work of one state."""
        state = bar.state
        label = f"{state.identifier} [{state.path}]" if state.path else state.identifier
        short = label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 1]}…"
        began = self._x(state.started_at or state.finished_at or self.now)
        ended = self._x(state.finished_at or self.now)
        lost, ready = self._lost_attempts(bar, label, began, y)
        css_class = f"rm-ran rm-{CLASSES.get(state.status, 'failed')}"
        if bar.critical:
            css_class += " rm-critical"
        title = f"{label}: {state.status}, waited {bar.waited}, ran {bar.ran}"
        return (
            f'<g><title>{escape(title)}</title><text x="0" y="{y + 14}">{escape(short)}</text>'
            f"{lost}{_rect('rm-waited', ready, began, y + 4, ROW - 10, 0)}"
            f"{_rect(css_class, began, ended, y + 2, ROW - 6, 2)}"
            f'<text class="rm-tick" x="{ended + 4:.1f}" y="{y + 14}">{escape(bar.ran)}</text></g>'
        )

    def _lost_attempts(self, bar: Bar, label: str, began: float, y: int) -> tuple[str, float]:
        """A dashed bar for each attempt that lost its worker, and where the last one ends."""
        start = self._x(bar.state.created_at)
        parts = ""
        for lease in bar.lost:
            end = min(self._x(lease.found_at), began)
            start = min(self._x(lease.since), end) if lease.since else start
            title = f"{escape(label)}: attempt {lease.attempt} lost its worker"
            parts += _rect("rm-ran rm-lost", start, end, y + 2, ROW - 6, 2, title)
            start = end
        return parts, start


def _rect(
    css_class: str, x: float, end: float, y: int, height: int, least: int, title: str = ""
) -> str:
    """A bar from `x` to `end`, at least `least` pixels wide. The title must be escaped."""
    width = max(end - x, least)
    opening = f'<rect class="{css_class}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}"'
    return f"{opening}><title>{title}</title></rect>" if title else f"{opening}/>"
