"""The block on the admin's first page: what runs, what failed, how the last day went, and whether clusters are there."""

from datetime import datetime
from html import escape
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_GET

from graphs.web.formats import length
from graphs.web.page_guard import caller_of, staff_page
from runs.actions import bulk
from runs.core import statuses
from runs.models import Run, SavedView
from runs.queries import dashboard as dashboard_module

WIDTH, HEIGHT, GAP = 28, 120, 4
STACK = (
    statuses.COMPLETED,
    statuses.RUNNING,
    statuses.RUN_QUEUED,
    statuses.PAUSED,
    statuses.RUN_CANCELLED,
    statuses.PARTIAL,
    statuses.FAILED,
)


@require_GET
@staff_page()
def dashboard(request: HttpRequest) -> HttpResponse:
    """The block alone, for a page that refreshes it."""
    return render(request, "run_manager/_dashboard.html", context_for(request))


def context_for(request: HttpRequest) -> dict[str, Any]:
    """What the block shows."""
    caller, url = caller_of(request), reverse("run_manager")
    seen = dashboard_module.overview(caller)

    def count(*words: str) -> int:
        return sum(seen.counts.get(word, 0) for word in words)

    oldest = f"oldest {length(timezone.now() - seen.oldest_queued)}" if seen.oldest_queued else ""
    tiles = [
        (
            "Active",
            count(*statuses.ACTIVE_RUNS),
            f"{url}?status={','.join(statuses.ACTIVE_RUNS)}",
            "",
        ),
        ("Queued", count(statuses.RUN_QUEUED), f"{url}?status=queued", oldest),
        (
            "Failed today, not recovered",
            seen.unrecovered,
            f"{url}?status=failed,partial&recovered=no&since=24h",
            "",
        ),
        ("Waiting for an answer", seen.waiting, f"{url}?status=paused", ""),
        ("Completed", count(statuses.COMPLETED), f"{url}?status=completed", ""),
        ("Leases long over", seen.stuck, f"{url}?status=running", ""),
    ]
    mine = (
        Run.objects.visible_to(caller)
        .filter(username=caller.label)
        .order_by("-created_at", "-id")
        .only("pk", "run_id", "name", "status", "created_at")
    )
    return {
        "seen": seen, "tiles": tiles, "chart": _chart(seen.hours), "mine": mine[:5], "operations": bulk.seen_by(caller).order_by("-pk")[:3],
        "views": SavedView.objects.filter(owner=request.user.pk)[:5], "empty": not seen.counts,
    }  # fmt: skip


def _chart(hours: list[tuple[datetime, dict[str, int]]]) -> SafeString:
    """Bars of the last hours, stacked by status."""
    most = max([sum(counts.values()) for _, counts in hours] + [1])
    parts = [
        f'<svg class="rm-chart" viewBox="0 0 {len(hours) * WIDTH} {HEIGHT + 18}" role="img" aria-label="Runs of the last 24 hours; the table has the numbers">'
    ]
    for at, (hour, counts) in enumerate(hours):
        bottom, said = (
            float(HEIGHT),
            ", ".join(f"{number} {status}" for status, number in counts.items()) or "none",
        )
        parts.append(f"<g><title>{escape(f'{hour:%H:%M} UTC: {said}')}</title>")
        for status in STACK:
            if number := counts.get(status, 0):
                tall = max(HEIGHT * number / most, 1.5)
                bottom -= tall
                parts.append(
                    f'<rect class="rm-bar-{status}" x="{at * WIDTH + GAP / 2:g}" y="{bottom:.1f}" width="{WIDTH - GAP}" height="{tall:.1f}"/>'
                )
        parts.append(f'<text x="{at * WIDTH + WIDTH / 2:g}" y="{HEIGHT + 14}">{hour:%H}</text></g>')
    return mark_safe("".join([*parts, "</svg>"]))  # noqa: S308 -- every text in it is escaped
