"""What the dashboard shows. It is cached for some seconds, because many users look at it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Avg, Count, F, Q, QuerySet
from django.db.models.functions import TruncHour

from graphs.auth.callers import Caller
from graphs.web.ttl_cache import cached
from runs.core import sql, statuses
from runs.engine import wakeup
from runs.models import Cluster, Run, State
from runs.queries import lists, search

CACHE_SECONDS = 5.0
HOURS = 24
MAX_GRAPHS = 10
MAX_CLUSTERS = 20
MAX_UNRECOVERED = 10_000
STUCK_AFTER = timedelta(minutes=5)

StatusCounts = dict[str, int]  # the number of runs in each status


@dataclass(frozen=True)
class GraphRow:
    """A graph's runs of the last day; `seconds` is the mean duration of the completed ones."""

    name: str
    runs: int
    failed: int
    seconds: float | None

    @property
    def failure_rate(self) -> int:
        """In percent."""
        return round(100 * self.failed / self.runs) if self.runs else 0


@dataclass(frozen=True)
class Overview:
    """Numbers of the runs that are not archived, and of the clusters.

    `counts` are of all runs, `unrecovered`, `hours` and `graphs` of the runs of the last 24 hours.
    `waiting` runs wait for an answer; `stuck` states lost their lease more than 5 minutes ago.
    """

    counts: StatusCounts
    unrecovered: int
    oldest_queued: datetime | None
    waiting: int
    stuck: int
    hours: list[tuple[datetime, StatusCounts]]
    graphs: list[GraphRow]
    clusters: list[Cluster]
    hints: int
    at: datetime


def overview(caller: Caller) -> Overview:
    """The overview of what the caller sees, at most CACHE_SECONDS old."""
    key = ("overview", caller.namespaces)
    return cached(key, lambda: _read(caller), seconds=CACHE_SECONDS)


def _read(caller: Caller) -> Overview:
    now = sql.clock()
    runs = Run.objects.visible_to(caller).filter(archived_at=None)
    day = runs.filter(created_at__gte=now - timedelta(hours=HOURS))
    return Overview(
        counts=lists.by_status(runs, f"tabs {caller.namespaces}"),
        unrecovered=lists.total_up_to(
            day.filter(search.recovered_or_not("no")),
            MAX_UNRECOVERED,
            f"unrecovered {caller.namespaces}",
        ),
        oldest_queued=_oldest_queued(runs),
        waiting=runs.filter(status=statuses.PAUSED, waiting_count__gt=0).count(),
        stuck=_stuck(caller, now),
        hours=_hours(day, now),
        graphs=_graphs(day),
        clusters=list(Cluster.objects.alive().order_by("name")[:MAX_CLUSTERS]),
        hints=wakeup.waiting_hints(),
        at=now,
    )


def _oldest_queued(runs: QuerySet[Run]) -> datetime | None:
    queued = runs.filter(status=statuses.RUN_QUEUED, version__isnull=False).order_by("id")
    return queued.values_list("created_at", flat=True).first()


def _stuck(caller: Caller, now: datetime) -> int:
    states = State.objects.filter(status=statuses.QUEUED, lease_expires_at__lt=now - STUCK_AFTER)
    if caller.namespaces is not None:
        states = states.filter(run__namespace__in=caller.namespaces)
    return states.count()


def _hours(day: QuerySet[Run], now: datetime) -> list[tuple[datetime, StatusCounts]]:
    """The runs of each of the last hours by status; hours without runs are included."""
    counts: dict[datetime, StatusCounts] = {}
    grouped = (
        day.order_by()
        .annotate(hour=TruncHour("created_at"))
        .values_list("hour", "status")
        .annotate(Count("pk"))
    )
    for hour, status, number in grouped:
        counts.setdefault(hour, {})[status] = number
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    hours = [this_hour - timedelta(hours=age) for age in reversed(range(HOURS))]
    return [(hour, counts.get(hour, {})) for hour in hours]


def _graphs(day: QuerySet[Run]) -> list[GraphRow]:
    failed = Q(status__in=statuses.UNSUCCESSFUL)
    completed = Q(status=statuses.COMPLETED)
    rows = (
        day.filter(graph__isnull=False)
        .order_by()
        .values("graph__name")
        .annotate(
            runs=Count("pk"),
            failed=Count("pk", filter=failed),
            duration=Avg(F("finished_at") - F("started_at"), filter=completed),
        )
        .order_by("-runs", "graph__name")
    )
    return [
        GraphRow(
            row["graph__name"],
            row["runs"],
            row["failed"],
            row["duration"].total_seconds() if row["duration"] else None,
        )
        for row in rows[:MAX_GRAPHS]
    ]
