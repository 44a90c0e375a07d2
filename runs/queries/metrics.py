"""How long runs and their nodes take, and how often they fail. Durations are in seconds."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TypedDict

from django.db.models import Avg, Count, F, Q, QuerySet, Window
from django.db.models.functions import RowNumber

from runs.core import statuses
from runs.engine.concurrency import is_skipped
from runs.models import Run, State
from runs.models.run import STATE_COUNTS

RUNS_OF_A_GRAPH = 100
MAX_STATES = 50_000  # that are read for the metrics of a run or a graph
MEDIAN = 50
P95 = 95
_DURATION = F("finished_at") - F("started_at")


class NodeMetrics(TypedDict):
    """The states of a node by outcome, and the durations of its attempts."""

    identifier: str
    states: int
    succeeded: int
    failed: int
    retried: int
    failure_rate: float
    mean_seconds: float | None
    p50_seconds: float | None
    p95_seconds: float | None


class RunMetrics(TypedDict):
    duration_seconds: float | None
    states: int
    failed: int
    failure_rate: float
    nodes: list[NodeMetrics]


class GraphMetrics(TypedDict):
    """Metrics of the newest runs of a graph."""

    runs: int
    failed: int
    failure_rate: float
    p50_seconds: float | None
    p95_seconds: float | None
    nodes: list[NodeMetrics]


def of_run(run: Run) -> RunMetrics:
    """The metrics of a run and its nodes."""
    duration = None
    if run.finished_at and run.started_at:
        duration = (run.finished_at - run.started_at).total_seconds()
    failed = run.errored_count + run.cancelled_count
    ended = run.success_count + failed
    return {
        "duration_seconds": duration,
        "states": ended + run.retried_count + run.pending_count,
        "failed": failed,
        "failure_rate": _share(failed, ended),
        "nodes": of_states(_some_states([run])),
    }


def of_graph(runs: QuerySet[Run]) -> GraphMetrics:
    """The metrics of the newest RUNS_OF_A_GRAPH of these runs and of their nodes.

    Runs that were skipped are left out.
    """
    columns = ("pk", "status", "error_message", "started_at", "finished_at", *STATE_COUNTS)
    found = list(runs.order_by("-created_at", "-id").only(*columns)[:RUNS_OF_A_GRAPH])
    newest = [run for run in found if not is_skipped(run)]  # those never started
    ended = [run for run in newest if run.ended]
    failed = sum(run.status != statuses.COMPLETED for run in ended)
    durations = sorted(
        (run.finished_at - run.started_at).total_seconds()
        for run in ended
        if run.started_at and run.finished_at
    )
    return {
        "runs": len(newest),
        "failed": failed,
        "failure_rate": _share(failed, len(ended)),
        "p50_seconds": _percentile(durations, MEDIAN),
        "p95_seconds": _percentile(durations, P95),
        "nodes": of_states(_some_states(newest)),
    }


def _some_states(runs: Sequence[Run]) -> QuerySet[State]:
    """The states of the first of these runs, as many as have MAX_STATES together.

    Of a run that has more they are the first in the order of their nodes and paths, which is that
    of an index.
    """
    chosen: list[int] = []
    count = 0
    for run in runs:
        count += run.state_count
        if chosen and count > MAX_STATES:
            break
        chosen.append(run.pk)
    states = State.objects.filter(run__in=chosen)
    if len(chosen) == 1 and runs[0].state_count > MAX_STATES:
        first = states.order_by("run", "identifier", "path").values("pk")[:MAX_STATES]
        return State.objects.filter(pk__in=first)
    return states


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _percentile(ordered: list[float], percent: int) -> float | None:
    return ordered[_rank(len(ordered), percent) - 1] if ordered else None


def _rank(count: int, percent: int) -> int:
    """The nearest rank of a percentile among this many values, from 1."""
    return -(-count * percent // 100)


def of_states(states: QuerySet[State]) -> list[NodeMetrics]:
    """The metrics of each node that has states among these, in three statements."""
    counted = (
        states.values("identifier")
        .annotate(
            states=Count("pk"),
            succeeded=Count("pk", filter=Q(status__in=(statuses.SUCCESS, statuses.PRUNED))),
            failed=Count("pk", filter=Q(status__in=statuses.RETRYABLE)),
            retried=Count("pk", filter=Q(status=statuses.RETRY_CREATED)),
        )
        .order_by("identifier")
    )
    timed = states.filter(started_at__isnull=False, finished_at__isnull=False)
    grouped = timed.values("identifier").annotate(attempts=Count("pk"), mean=Avg(_DURATION))
    attempts = {row["identifier"]: row["attempts"] for row in grouped}
    means = {row["identifier"]: row["mean"].total_seconds() for row in grouped}
    durations = _durations_at(timed, _ranks(attempts.values()))

    metrics: list[NodeMetrics] = []
    for row in counted:
        node = row["identifier"]
        count = attempts.get(node, 0)
        metrics.append(
            {
                "identifier": node,
                "states": row["states"],
                "succeeded": row["succeeded"],
                "failed": row["failed"],
                "retried": row["retried"],
                "failure_rate": _share(row["failed"], row["succeeded"] + row["failed"]),
                "mean_seconds": means.get(node),
                "p50_seconds": durations.get((node, _rank(count, MEDIAN))),
                "p95_seconds": durations.get((node, _rank(count, P95))),
            }
        )
    return metrics


def _ranks(counts: Iterable[int]) -> set[int]:
    ranks = set()
    for count in counts:
        ranks |= {_rank(count, MEDIAN), _rank(count, P95)}
    return ranks


def _durations_at(timed: QuerySet[State], ranks: set[int]) -> dict[tuple[str, int], float]:
    """The durations at these ranks of each node.

    The database numbers the attempts of each node by duration, so only the attempts at the ranks
    are read. SQLite has no function for percentiles.
    """
    shortest_first = [_DURATION.asc(), F("pk").asc()]
    ranked = timed.annotate(
        duration=_DURATION,
        rank=Window(RowNumber(), partition_by="identifier", order_by=shortest_first),
    ).filter(rank__in=ranks)
    rows: Iterable[tuple[str, int, timedelta]]
    rows = ranked.values_list("identifier", "rank", "duration")
    return {(node, rank): duration.total_seconds() for node, rank, duration in rows}
