"""How long runs and their nodes take and how often they fail, from the stored states. Durations are seconds."""

from typing import Any

from django.db.models import Avg, Count, F, Q, QuerySet, Window
from django.db.models.functions import RowNumber

from runs.core import statuses
from runs.models import Run, State

RUNS_OF_A_GRAPH = 100
_TOOK = F("finished_at") - F("started_at")


def of_run(run: Run) -> dict[str, Any]:
    """The run's duration, and for each node its states, failures and durations."""
    took = (
        (run.finished_at - run.started_at).total_seconds()
        if run.finished_at and run.started_at
        else None
    )
    failed = run.errored_count + run.cancelled_count
    ended = run.success_count + failed
    return {
        "duration_seconds": took,
        "states": ended + run.retried_count + run.pending_count,
        "failed": failed,
        "failure_rate": failed / ended if ended else 0.0,
        "nodes": of_states(State.objects.filter(run=run)),
    }


def of_graph(runs: QuerySet[Run]) -> dict[str, Any]:
    """The same over the newest runs of a graph."""
    newest = list(
        runs.order_by("-created_at", "-id").values_list(
            "pk", "status", "started_at", "finished_at"
        )[:RUNS_OF_A_GRAPH]
    )
    ended = [row for row in newest if row[1] in statuses.ENDED_RUNS]
    failed = [row for row in ended if row[1] != statuses.COMPLETED]
    took = sorted((row[3] - row[2]).total_seconds() for row in ended if row[2] and row[3])
    return {
        "runs": len(newest),
        "failed": len(failed),
        "failure_rate": len(failed) / len(ended) if ended else 0.0,
        "p50_seconds": _nearest(took, 0.5),
        "p95_seconds": _nearest(took, 0.95),
        "nodes": of_states(State.objects.filter(run__in=[row[0] for row in newest])),
    }


def _nearest(ordered: list[float], share: float) -> float | None:
    return ordered[_rank(len(ordered), share) - 1] if ordered else None


def _rank(count: int, share: float) -> int:
    """The nearest rank, from 1."""
    return -(-count * round(share * 100) // 100)


def of_states(states: QuerySet[State]) -> list[dict[str, Any]]:
    """For each node: its states by outcome, and the mean, median and 95th percentile (nearest rank) of how long attempts took."""
    success = (statuses.SUCCESS, statuses.PRUNED)
    counts = states.values("identifier").annotate(
        states=Count("pk"),
        succeeded=Count("pk", filter=Q(status__in=success)),
        failed=Count("pk", filter=Q(status__in=statuses.RETRYABLE)),
        retried=Count("pk", filter=Q(status=statuses.RETRY_CREATED)),
    )
    timed = states.filter(started_at__isnull=False, finished_at__isnull=False)
    measured: dict[str, Any] = {
        row["identifier"]: dict(row)
        for row in timed.values("identifier").annotate(n=Count("pk"), mean=Avg(_TOOK))
    }
    durations = _durations(
        timed, {_rank(row["n"], share) for row in measured.values() for share in (0.5, 0.95)}
    )
    return [
        _node(dict(row), measured.get(row["identifier"]), durations)
        for row in counts.order_by("identifier")
    ]


def _node(
    row: dict[str, Any], measured: dict[str, Any] | None, durations: dict[tuple[str, int], float]
) -> dict[str, Any]:
    name, n = row["identifier"], measured["n"] if measured else 0
    ended = row["succeeded"] + row["failed"]
    return {
        **row,
        "failure_rate": row["failed"] / ended if ended else 0.0,
        "mean_seconds": measured["mean"].total_seconds() if measured else None,
        "p50_seconds": durations.get((name, _rank(n, 0.5))),
        "p95_seconds": durations.get((name, _rank(n, 0.95))),
    }


def _durations(timed: QuerySet[State], ranks: set[int]) -> dict[tuple[str, int], float]:
    """The durations at these ranks of each node."""
    ranked = timed.annotate(
        took=_TOOK,
        rank=Window(RowNumber(), partition_by="identifier", order_by=[_TOOK.asc(), F("pk").asc()]),
    )
    found = ranked.filter(rank__in=ranks).values_list("identifier", "rank", "took")
    return {(name, rank): took.total_seconds() for name, rank, took in found}
