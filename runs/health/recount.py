"""The counters of runs, counted again: finding runs whose counters drifted, and correcting them."""

from collections.abc import Iterator, Mapping, Sequence

from django.db import connection, transaction
from django.db.models import Count, Q

from graphs.definition.types import Json
from runs.core import node_counts, sql, statuses
from runs.core.node_counts import BAD, DONE, KNOWN
from runs.engine import counters
from runs.engine.counters import RunCounters
from runs.models import LogLine, Run, State

BATCH = 2000
RECENT_RUNS = 100
MAX_ROWS = 1000  # states and log lines of a run that `drifted_recently` counts

_COUNTED_STATUSES: dict[str, tuple[str, ...]] = {
    "pending_count": statuses.UNFINISHED,
    "success_count": (statuses.SUCCESS, statuses.PRUNED),
    "errored_count": statuses.FAILED_STATES,
    "retried_count": (statuses.RETRY_CREATED,),
    "cancelled_count": (statuses.CANCELLED,),
}

# Of some runs of the engine: whether their counters differ from those of their rows, their stored
# node counts, and the same counted. It is one statement, so that all of it is read at one moment.
# `started_count` leaves out states that were taken over from another run (reused) and further
# outputs of a fan-out (SUCCESS without an attempt). A run must have ended exactly when it has
# nothing pending.
DRIFT_POSTGRESQL = """
    WITH counted AS (
        SELECT
            s.run_id,
            s.identifier,
            count(*) FILTER (WHERE s.status <> 'RETRY_CREATED') AS known,
            count(*) FILTER (WHERE s.status IN ('CREATED', 'QUEUED')) AS pending,
            count(*) FILTER (WHERE s.status IN ('SUCCESS', 'PRUNED')) AS success,
            count(*) FILTER (
                WHERE s.status IN ('ERRORED', 'NEXT_CREATED_ERROR', 'TIMEDOUT')
            ) AS errored,
            count(*) FILTER (WHERE s.status = 'RETRY_CREATED') AS retried,
            count(*) FILTER (WHERE s.status = 'CANCELLED') AS cancelled,
            count(*) FILTER (
                WHERE s.status = 'CREATED' AND s.waiting_for IS NOT NULL AND s.due_at IS NULL
            ) AS waiting,
            count(*) FILTER (
                WHERE s.reused IS NULL AND (s.status <> 'SUCCESS' OR s.attempt > 0)
            ) AS started
        FROM statemanager_runs_state s
        WHERE s.run_id = ANY(%s::bigint[])
        GROUP BY s.run_id, s.identifier
    )
    SELECT
        r.id,
        coalesce(sum(c.pending), 0) <> r.pending_count
            OR coalesce(sum(c.success), 0) <> r.success_count
            OR coalesce(sum(c.errored), 0) <> r.errored_count
            OR coalesce(sum(c.retried), 0) <> r.retried_count
            OR coalesce(sum(c.cancelled), 0) <> r.cancelled_count
            OR coalesce(sum(c.waiting), 0) <> r.waiting_count
            OR coalesce(sum(c.started), 0) <> r.started_count
            OR (r.status IN ('completed', 'partial', 'failed', 'cancelled'))
                <> (coalesce(sum(c.pending), 0) = 0)
            OR r.log_count <> (
                SELECT count(*) FROM statemanager_runs_logline l WHERE l.run_id = r.id
            ),
        r.node_counts,
        json_agg(json_build_array(c.identifier, c.known, c.success, c.errored))
            FILTER (WHERE c.known > 0)
    FROM statemanager_runs_run r
    LEFT JOIN counted c ON c.run_id = r.id
    WHERE r.version_id IS NOT NULL AND r.id = ANY(%s::bigint[])
    GROUP BY r.id
    ORDER BY r.id
"""
# SQLite spells lists of parameters and JSON arrays differently.
DRIFT_SQLITE = (
    DRIFT_POSTGRESQL.replace("= ANY(%s::bigint[])", "IN (SELECT value FROM json_each(%s))")
    .replace("json_agg(", "json_group_array(")
    .replace("json_build_array(", "json_array(")
)

# Those of the newest runs that have few rows, so that the cost doesn't grow with the tables: a
# LIMIT below the count ends the counting of a large run early.
SMALL_RECENT_RUNS = """
    SELECT r.id
    FROM (SELECT id FROM statemanager_runs_run ORDER BY id DESC LIMIT %(runs)s) r
    WHERE (
        SELECT count(*)
        FROM (
            SELECT 1 FROM statemanager_runs_state s WHERE s.run_id = r.id LIMIT %(rows)s + 1
        ) few
    ) <= %(rows)s
    AND (
        SELECT count(*)
        FROM (
            SELECT 1 FROM statemanager_runs_logline l WHERE l.run_id = r.id LIMIT %(rows)s + 1
        ) few
    ) <= %(rows)s
"""


def drifted() -> Iterator[int]:
    """Yield the primary keys of the runs whose counters don't match their rows."""
    last = 0
    while pks := list(
        Run.objects.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:BATCH]
    ):
        yield from _differing(pks)
        last = pks[-1]


def drifted_recently() -> Iterator[int]:
    """Yield those of the newest 100 runs, except large ones."""
    rows = _rows(SMALL_RECENT_RUNS, {"runs": RECENT_RUNS, "rows": MAX_ROWS})
    return _differing([pk for (pk,) in rows])


def _differing(pks: list[int]) -> Iterator[int]:
    statement = DRIFT_POSTGRESQL if sql.postgres() else DRIFT_SQLITE
    runs = sql.choices(pks)
    for pk, differs, stored, counted in _rows(statement, [runs, runs]):
        counts = {identifier: counts for identifier, *counts in sql.loads(counted) or ()}
        if differs or node_counts.load(stored) != counts:
            yield pk


def _rows(statement: str, params: Sequence[Json] | Mapping[str, int]) -> list[sql.Row]:
    """Execute a statement with a plan for these parameters; `sql.run` would use a generic one."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall()


def recount(pk: int) -> None:
    """Write the counters of a run as its rows give them, under its lock.

    A run that ended with pending states is running again; an active run without any has ended.
    """
    with transaction.atomic():
        run = Run.objects.select_related("version").filter(pk=pk).first()
        plans = {pk: run.version.plan} if run and run.version else {}
        run_counters = counters.lock([pk], plans).get(pk)
        if run is None or run_counters is None:
            return
        _count(run_counters)
        if not run_counters.open and run_counters.pending_count:
            _reopen(run_counters)
        run_counters.update_status()
        counters.store([run_counters])


def _reopen(run_counters: RunCounters) -> None:
    run_counters.status = statuses.RUNNING
    run_counters.paused = False
    run_counters.stopping = False
    Run.objects.filter(pk=run_counters.pk).update(archived_at=None)
    State.objects.filter(run=run_counters.pk, status=statuses.CREATED, paused=True).update(
        paused=False
    )


def _count(run_counters: RunCounters) -> None:
    states = State.objects.filter(run=run_counters.pk)
    _count_statuses(run_counters)
    run_counters.waiting_count = states.filter(
        status=statuses.CREATED, waiting_for__isnull=False, due_at=None
    ).count()
    run_counters.started_count = states.filter(
        ~Q(status=statuses.SUCCESS) | Q(attempt__gt=0), reused=None
    ).count()
    run_counters.log_count = LogLine.objects.filter(run=run_counters.pk).count()


def _count_statuses(run_counters: RunCounters) -> None:
    """Set the node counts, and the counters that count states of certain statuses."""
    run_counters.node_counts = {}
    totals = dict.fromkeys(_COUNTED_STATUSES, 0)
    rows = (
        State.objects.filter(run=run_counters.pk)
        .order_by("identifier")
        .values_list("identifier", "status")
        .annotate(count=Count("pk"))
    )
    for identifier, status, count in rows:
        for counter, counted in _COUNTED_STATUSES.items():
            totals[counter] += count if status in counted else 0
        if status == statuses.RETRY_CREATED:
            continue  # its retry is the state of the node
        run_counters.count(identifier, KNOWN, count)
        if status in _COUNTED_STATUSES["success_count"]:
            run_counters.count(identifier, DONE, count)
        if status in statuses.FAILED_STATES:
            run_counters.count(identifier, BAD, count)
    for counter, total in totals.items():
        setattr(run_counters, counter, total)
