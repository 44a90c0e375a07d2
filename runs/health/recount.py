"""The kept counts of runs, counted anew: finding those that drifted from their states, and writing them right."""

from collections.abc import Iterator
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Q

from runs.core import node_counts, sql, statuses
from runs.core.node_counts import BAD, DONE, KNOWN
from runs.engine import counters
from runs.engine.counters import RunCounters
from runs.models import LogLine, Run, State

CHUNK = 2000
LATELY, SMALL = 100, 1000  # of the newest runs those with so many states and log lines at most
_WORDS = {
    "pending_count": statuses.UNFINISHED,
    "success_count": (statuses.SUCCESS, statuses.PRUNED),
    "errored_count": statuses.FAILED_STATES,
    "retried_count": (statuses.RETRY_CREATED,),
    "cancelled_count": (statuses.CANCELLED,),
}
_WAITS = "s.status = 'CREATED' AND s.waiting_for IS NOT NULL AND s.due_at IS NULL"
_STARTED = "s.reused IS NULL AND (s.status <> 'SUCCESS' OR s.attempt > 0)"  # neither taken over nor a further output of a fan-out
_TALLIED = {
    "known": "s.status <> 'RETRY_CREATED'",
    "done": f"s.status IN {_WORDS['success_count']}",
    "bad": f"s.status IN {statuses.FAILED_STATES}",
}


def _statement() -> str:
    """The runs of the engine among some: whether their counts differ from those of their states, the kept node_counts and the counted one.

    One statement, so one moment.
    """
    counts = {
        name: f"s.status IN ({', '.join(map(repr, words))})" for name, words in _WORDS.items()
    }
    counts |= {"waiting_count": _WAITS, "started_count": _STARTED}
    counted = ", ".join(
        f"count(*) FILTER (WHERE {condition}) AS {name}"
        for name, condition in (counts | _TALLIED).items()
    )
    differ = " OR ".join(f"coalesce(sum(c.{name}), 0) <> r.{name}" for name in counts)
    ended = ", ".join(map(repr, statuses.ENDED_RUNS))
    rows = (
        "json_agg(json_build_array({0}))" if sql.postgres() else "json_group_array(json_array({0}))"
    )
    return f"""
        WITH c AS (SELECT s.run_id, s.identifier, {counted} FROM statemanager_runs_state s WHERE {sql.among("s.run_id", "bigint")} GROUP BY s.run_id, s.identifier)
        SELECT r.id, {differ} OR (r.status IN ({ended})) <> (coalesce(sum(c.pending_count), 0) = 0)
            OR r.log_count <> (SELECT count(*) FROM statemanager_runs_logline l WHERE l.run_id = r.id),
            r.node_counts, {rows.format("c.identifier, c.known, c.done, c.bad")} FILTER (WHERE c.known > 0)
        FROM statemanager_runs_run r LEFT JOIN c ON c.run_id = r.id
        WHERE r.version_id IS NOT NULL AND {sql.among("r.id", "bigint")} GROUP BY r.id ORDER BY r.id
    """


def drifted() -> Iterator[int]:
    """The runs whose counters don't agree with their rows."""
    last = 0
    while pks := list(
        Run.objects.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:CHUNK]
    ):
        yield from _differing(pks)
        last = pks[-1]


def drifted_lately() -> Iterator[int]:
    """Those of the newest runs, without the big ones: what it costs doesn't grow with the tables."""
    small = " AND ".join(
        f"(SELECT count(*) FROM (SELECT 1 FROM {table} t WHERE t.run_id = r.id LIMIT {SMALL + 1}) few) <= {SMALL}"
        for table in ("statemanager_runs_state", "statemanager_runs_logline")
    )
    newest = f"(SELECT id FROM statemanager_runs_run ORDER BY id DESC LIMIT {LATELY})"
    return _differing([row[0] for row in sql.run(f"SELECT r.id FROM {newest} r WHERE {small}")])


def _differing(pks: list[int]) -> Iterator[int]:
    with (
        connection.cursor() as cursor
    ):  # planned for these runs, where `sql.run` would take a plan for any
        cursor.execute(_statement(), [sql.choices(pks)] * 2)
        found = cursor.fetchall()
    for pk, differs, kept, counted in found:
        if differs or node_counts.load(kept) != {
            identifier: counts for identifier, *counts in sql.loads(counted) or ()
        }:
            yield pk


def recount(pk: int) -> None:
    """Write the counters of a run as its rows give them, under its lock. A run that ended with unfinished states goes on; one without any ends."""
    with transaction.atomic():
        run = Run.objects.select_related("version").filter(pk=pk).first()
        run_counters = counters.lock(
            [pk], {pk: run.version.plan} if run and run.version else {}
        ).get(pk)
        if run is None or run_counters is None:
            return
        _count(run_counters)
        if not run_counters.open and run_counters.pending_count:
            run_counters.status, run_counters.paused, run_counters.stopping = (
                statuses.RUNNING,
                False,
                False,
            )
            Run.objects.filter(pk=pk).update(archived_at=None)
            State.objects.filter(run=pk, status=statuses.CREATED, paused=True).update(paused=False)
        run_counters.update_status()
        counters.store([run_counters])


def _count(run_counters: RunCounters) -> None:
    run_counters.node_counts, found = {}, dict.fromkeys(_WORDS, 0)
    rows: Any = (
        State.objects.filter(run=run_counters.pk)
        .values_list("identifier", "status")
        .annotate(count=Count("pk"))
        .order_by("identifier")
    )
    for identifier, status, count in rows:
        for name, words in _WORDS.items():
            found[name] += count if status in words else 0
        if status != statuses.RETRY_CREATED:
            run_counters.count(identifier, KNOWN, count)
            run_counters.count(identifier, DONE, count if status in _WORDS["success_count"] else 0)
            run_counters.count(identifier, BAD, count if status in statuses.FAILED_STATES else 0)
    for name, count in found.items():
        setattr(run_counters, name, count)
    waiting = Q(status=statuses.CREATED, waiting_for__isnull=False, due_at=None)
    run_counters.waiting_count = State.objects.filter(waiting, run=run_counters.pk).count()
    run_counters.started_count = State.objects.filter(
        ~Q(status=statuses.SUCCESS) | Q(attempt__gt=0), run=run_counters.pk, reused=None
    ).count()
    run_counters.log_count = LogLine.objects.filter(run=run_counters.pk).count()
