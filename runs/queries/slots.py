"""What the runs of a graph with a concurrency limit hold and wait for."""

from datetime import datetime
from typing import TypedDict

from django.db.models import Count, F, Min, Q, Window
from django.db.models.functions import RowNumber

from graphs.definition import redaction
from graphs.models import Graph
from runs.core import sql
from runs.models import RunSlot
from runs.models.run_slot import key_of

MAX_KEYS = 50  # those with most runs that wait
MAX_RUNS = 20_000  # that are counted
MAX_NAMED = 5  # of the active runs of a key
TAKEN = Q(taken_at__isnull=False)


class ActiveRun(TypedDict):
    id: int
    run_id: str


class KeyUse(TypedDict):
    """The runs with one value of the key; "" without a key."""

    key: str
    active: int
    waiting: int
    waiting_since: datetime | None
    active_runs: list[ActiveRun]


class ConcurrencyUse(TypedDict):
    """A graph's concurrency limit, None without one, and the use of its slots."""

    limit: int | None
    key: str
    at_limit: str
    keys: list[KeyUse]
    more: bool


def of_graph(graph: Graph, payloads: bool) -> ConcurrencyUse:
    """The limit of the graph's current version, and the keys with most runs that wait.

    Without `payloads` the values of the key are hidden, which come from inputs and labels.
    """
    waiting = Q(taken_at=None, available_at__lte=sql.clock())
    plan = graph.current.plan if graph.current and not graph.current.problems else None
    limit = plan.concurrency if plan else None
    first = RunSlot.objects.filter(graph=graph).order_by("pk").values("pk")[:MAX_RUNS]
    counted = (
        RunSlot.objects.filter(pk__in=first)
        .filter(TAKEN | waiting)  # the others are delayed, and ask for a slot when they are due
        .values("queue")
        .annotate(
            active=Count("pk", filter=TAKEN),
            waiting=Count("pk", filter=waiting),
            waiting_since=Min("available_at", filter=waiting),
        )
        .order_by("-waiting", "-active", "queue")
    )
    rows = list(counted[: MAX_KEYS + 1])
    named = _active_runs([row["queue"] for row in rows[:MAX_KEYS]])
    keys: list[KeyUse] = [
        {
            "key": _shown(row["queue"], payloads),
            "active": row["active"],
            "waiting": row["waiting"],
            "waiting_since": row["waiting_since"],
            "active_runs": named.get(row["queue"], []),
        }
        for row in rows[:MAX_KEYS]
    ]
    return {
        "limit": limit.limit if limit else None,
        "key": limit.key.text if limit and limit.key else "",
        "at_limit": limit.at_limit if limit else "",
        "keys": keys,
        "more": len(rows) > MAX_KEYS,
    }


def _shown(queue: str, payloads: bool) -> str:
    key = key_of(queue)
    return key if payloads or not key else redaction.DOTS


def _active_runs(queues: list[str]) -> dict[str, list[ActiveRun]]:
    """The runs of each queue that have been active longest."""
    place = Window(RowNumber(), partition_by="queue", order_by=[F("taken_at"), F("pk")])
    taken = RunSlot.objects.filter(TAKEN, queue__in=queues).annotate(place=place)
    first = taken.filter(place__lte=MAX_NAMED).order_by("queue", "place")
    found: dict[str, list[ActiveRun]] = {}
    for queue, pk, run_id in first.values_list("queue", "run_id", "run__run_id"):
        found.setdefault(queue, []).append({"id": pk, "run_id": run_id})
    return found
