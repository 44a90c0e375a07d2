"""The block on the admin's index page: active and failed runs, the last day, and the clusters."""

from dataclasses import dataclass
from datetime import datetime
from html import escape

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_GET

from graphs.definition.types import JsonObject
from graphs.web import formats
from graphs.web.page_guard import caller_of, staff_page
from runs.actions import bulk
from runs.core import statuses
from runs.models import Run, SavedView
from runs.queries.dashboard import Overview, overview

WIDTH, HEIGHT, GAP = 28, 120, 4  # of the chart's bars, in pixels
LABEL_HEIGHT = 18
OWN_RUNS, OPERATIONS, VIEWS = 5, 3, 5
STACK = (
    statuses.COMPLETED,
    statuses.RUNNING,
    statuses.RUN_QUEUED,
    statuses.PAUSED,
    statuses.RUN_CANCELLED,
    statuses.PARTIAL,
    statuses.FAILED,
)


@dataclass(frozen=True)
class Tile:
    """A number that links to the runs that it counts. `detail` is shown beside it."""

    label: str
    number: int
    link: str
    detail: str = ""


@require_GET
@staff_page()
def dashboard(request: HttpRequest) -> HttpResponse:
    """The block alone, for a page that refreshes it."""
    return render(request, "run_manager/_dashboard.html", context_for(request))


def context_for(request: HttpRequest) -> JsonObject:
    """The context of the block."""
    caller = caller_of(request)
    view = overview(caller)
    own_runs = Run.objects.visible_to(caller).filter(username=caller.username, user=caller.user)
    newest_own = own_runs.order_by("-created_at", "-id")
    return {
        "overview": view,
        "tiles": _tiles(view),
        "chart": _chart(view.hours),
        "own_runs": newest_own.only("pk", "run_id", "name", "status", "created_at")[:OWN_RUNS],
        "operations": bulk.seen_by(caller).order_by("-pk")[:OPERATIONS],
        "views": SavedView.objects.filter(owner=request.user.pk)[:VIEWS],
        "empty": not view.counts,
    }


def _tiles(view: Overview) -> list[Tile]:
    url = reverse("run_manager")
    active = sum(view.counts.get(status, 0) for status in statuses.ACTIVE_RUNS)
    age = view.at - view.oldest_queued if view.oldest_queued else None
    return [
        Tile("Active", active, f"{url}?status={','.join(statuses.ACTIVE_RUNS)}"),
        Tile(
            "Queued",
            view.counts.get(statuses.RUN_QUEUED, 0),
            f"{url}?status=queued",
            f"oldest {formats.length(age)}" if age else "",
        ),
        Tile(
            "Failed today, not recovered",
            view.unrecovered,
            f"{url}?status=failed,partial&recovered=no&since=24h",
        ),
        Tile("Waiting for an answer", view.waiting, f"{url}?status=paused"),
        Tile("Completed", view.counts.get(statuses.COMPLETED, 0), f"{url}?status=completed"),
        Tile("Leases long expired", view.stuck, f"{url}?status=running"),
    ]


def _chart(hours: list[tuple[datetime, dict[str, int]]]) -> SafeString:
    """A bar for each of the last hours, stacked by status, as SVG."""
    totals = [sum(counts.values()) for _, counts in hours]
    largest = max(*totals, 1)
    bars = [
        _bar(position * WIDTH, hour, counts, HEIGHT / largest)
        for position, (hour, counts) in enumerate(hours)
    ]
    svg = (
        f'<svg class="rm-chart" viewBox="0 0 {len(hours) * WIDTH} {HEIGHT + LABEL_HEIGHT}"'
        ' role="img" aria-label="Runs of the last 24 hours; the table has the numbers">'
        f"{''.join(bars)}</svg>"
    )
    return mark_safe(svg)  # noqa: S308 -- every text in it is escaped


def _bar(x: int, hour: datetime, counts: dict[str, int], scale: float) -> str:
    """The bar of one hour. `scale` is the height of one run in pixels."""
    numbers = ", ".join(f"{number} {status}" for status, number in counts.items())
    title = escape(f"{formats.exact(hour)}: {numbers or 'none'}")
    pieces = [f"<g><title>{title}</title>"]
    bottom = float(HEIGHT)
    for status in STACK:
        number = counts.get(status, 0)
        if not number:
            continue
        height = max(scale * number, 1.5)
        bottom -= height
        pieces.append(
            f'<rect class="rm-bar-{status}" x="{x + GAP / 2:g}" y="{bottom:.1f}"'
            f' width="{WIDTH - GAP}" height="{height:.1f}"/>'
        )
    label = f"{timezone.localtime(hour):%H}"
    pieces.append(f'<text x="{x + WIDTH / 2:g}" y="{HEIGHT + 14}">{label}</text></g>')
    return "".join(pieces)
