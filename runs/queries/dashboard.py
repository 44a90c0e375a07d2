"""What the dashboard shows of all runs that a caller sees; kept for some seconds, because many people look at once."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Avg, Count, F, Q
from django.db.models.functions import TruncHour
from django.utils import timezone

from graphs.auth.callers import Caller
from graphs.web.ttl_cache import cached
from runs.core import statuses
from runs.engine import wakeup
from runs.models import Cluster, Run, State
from runs.queries import lists, search

KEPT_SECONDS = 5.0
HOURS = 24
GRAPHS = 10
STUCK = timedelta(minutes=5)


@dataclass(frozen=True)
class GraphRow:
    """A graph's runs of the last day."""

    name: str
    runs: int
    failed: int
    seconds: float | None

    @property
    def failure_rate(self) -> int:
        return round(100 * self.failed / self.runs) if self.runs else 0


@dataclass(frozen=True)
class Overview:
    """Counts of runs by status, those of the last day, its hours as (hour, {status: runs}), its graphs, and how the clusters are."""

    counts: dict[str, int]
    unrecovered: int
    oldest_queued: datetime | None
    waiting: int
    stuck: int
    hours: list[tuple[datetime, dict[str, int]]]
    graphs: list[GraphRow]
    clusters: list[Cluster]
    hints: int
    at: datetime


def overview(caller: Caller) -> Overview:
    """The overview for what this caller sees, at most some seconds old."""
    return cached(("overview", caller.namespaces), lambda: _look(caller), seconds=KEPT_SECONDS)


def _look(caller: Caller) -> Overview:
    now = timezone.now()
    runs = Run.objects.visible_to(caller).filter(archived_at=None)
    day = runs.filter(created_at__gte=now - timedelta(hours=HOURS))
    queued = (
        runs.filter(status=statuses.RUN_QUEUED, version__isnull=False)
        .order_by("id")
        .values_list("created_at", flat=True)
        .first()
    )
    leased = State.objects.filter(status=statuses.QUEUED, lease_expires_at__lt=now - STUCK)
    return Overview(
        counts=lists.by_status(runs, f"tabs {caller.namespaces}"),
        unrecovered=lists.total_up_to(
            day.filter(search.recovered_or_not("no")), 10_000, f"unrecovered {caller.namespaces}"
        ),
        oldest_queued=queued,
        waiting=runs.filter(status=statuses.PAUSED, waiting_count__gt=0).count(),
        stuck=leased.count()
        if caller.namespaces is None
        else leased.filter(run__namespace__in=caller.namespaces).count(),
        hours=_hours(day, now),
        graphs=_graphs(day),
        clusters=list(Cluster.objects.alive().order_by("name")[:20]),
        hints=wakeup.waiting_hints(),
        at=now,
    )


def _hours(day: Any, now: datetime) -> list[tuple[datetime, dict[str, int]]]:
    counted: dict[datetime, dict[str, int]] = {}
    for hour, status, number in (
        day.order_by()
        .annotate(hour=TruncHour("created_at"))
        .values_list("hour", "status")
        .annotate(Count("pk"))
    ):
        counted.setdefault(hour, {})[status] = number
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)
    return [
        (hour, counted.get(hour, {}))
        for hour in (first + timedelta(hours=at) for at in range(HOURS))
    ]


def _graphs(day: Any) -> list[GraphRow]:
    bad = Q(status__in=(statuses.FAILED, statuses.PARTIAL))
    took = Avg(F("finished_at") - F("started_at"), filter=Q(status=statuses.COMPLETED))
    rows = (
        day.filter(graph__isnull=False)
        .order_by()
        .values("graph__name")
        .annotate(runs=Count("pk"), failed=Count("pk", filter=bad), took=took)
    )
    return [
        GraphRow(
            row["graph__name"],
            row["runs"],
            row["failed"],
            row["took"].total_seconds() if row["took"] else None,
        )
        for row in rows.order_by("-runs", "graph__name")[:GRAPHS]
    ]
