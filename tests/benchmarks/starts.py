"""Starting 10,000 runs at once: `python -m tests.benchmarks.starts [--sqlite]`.

It measures `start_many` beside what the database alone needs to copy the same rows into tables with
the same indexes and checks (on PostgreSQL without foreign keys), and the firing of 10,000 cron
triggers that are due together. No cluster runs. The figures are medians of three rounds, in
seconds.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from time import perf_counter
from zoneinfo import available_timezones

from tests.benchmarks.__main__ import environment
from tests.postgres import Server

RUNS = 10_000
GRAPHS = 25  # of the cron triggers
ROUNDS = 3
TABLES = ("statemanager_runs_run", "statemanager_runs_state", "statemanager_runs_logline")


def seconds(call: Callable[[], object]) -> float:
    began = perf_counter()
    call()
    return perf_counter() - began


def measure() -> dict[str, float]:
    """The figures on the database that DATABASE_URL names, which is empty."""
    from tests.benchmarks import one_database  # sets Django up

    one_database.prepare()
    rounds = [(*_start(number), _fire(number)) for number in range(ROUNDS)]
    names = ("start_many", "copy", "cron triggers")
    return dict(zip(names, map(statistics.median, zip(*rounds, strict=True)), strict=True))


def _start(number: int) -> tuple[float, float]:
    """The seconds of starting the runs, and of copying their rows."""
    from graphs.models import Graph
    from runs.engine.new_run import RunOptions
    from runs.engine.start_many import start_many
    from runs.models import Run

    graph = Graph.objects.with_version().get(name="chain")
    start_many(graph, [RunOptions()])  # reads the definition
    last = Run.objects.latest("pk").pk
    options = [RunOptions(run_id=f"{number}-{at}") for at in range(RUNS)]
    taken = seconds(lambda: start_many(graph, options))
    _make_copies()
    return taken, seconds(lambda: _copy_rows(last))


def _fire(number: int) -> float:
    """The seconds of firing cron triggers that are due together."""
    from graphs.models import CronTrigger
    from runs.actions import schedules
    from runs.core import sql
    from runs.models import Run
    from tests.benchmarks import one_database

    now = sql.clock()
    node = {"id": "a", "kind": "noop"}
    graphs = [one_database.publish(f"g{number}-{at}", [node], []) for at in range(GRAPHS)]
    due = {"expression": "* * * * *", "next_at": now - timedelta(seconds=1)}
    zones = sorted(available_timezones())[: RUNS // GRAPHS]
    CronTrigger.objects.bulk_create(
        CronTrigger(graph=graph, time_zone=zone, **due) for graph in graphs for zone in zones
    )
    before = Run.objects.count()

    def fire() -> None:
        while schedules.fire_due(now):
            pass

    taken = seconds(fire)
    assert Run.objects.count() == before + RUNS
    return taken


def _copy_rows(last: int) -> None:
    """Copy the rows of the runs after this one."""
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        for table in TABLES:
            column = "id" if table == TABLES[0] else "run_id"
            rows = f"SELECT * FROM {table} WHERE {column} > %s"
            cursor.execute(f"INSERT INTO copy_{table} {rows}", [last])


def _make_copies() -> None:
    """Make empty tables for the copies."""
    from django.db import connection

    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"DROP TABLE IF EXISTS copy_{table}")
            if connection.vendor == "postgresql":
                cursor.execute(f"CREATE TABLE copy_{table} (LIKE {table} INCLUDING ALL)")
            else:
                _copy_table(cursor, table)


def _copy_table(cursor: object, table: str) -> None:
    """An SQLite table with the same columns, constraints and indexes."""
    cursor.execute(
        "SELECT type, sql FROM sqlite_master WHERE tbl_name = %s AND sql NOT NULL", [table]
    )
    for kind, text in cursor.fetchall():
        text = text.replace(f'"{table}"', f'"copy_{table}"')
        if kind == "index":
            text = text.replace('INDEX "', 'INDEX "copy_', 1)
        cursor.execute(text.replace("%", "%%"))


def main() -> None:
    with tempfile.TemporaryDirectory() as files:
        server = None if "--sqlite" in sys.argv else Server(quick=False)
        try:
            os.environ.update(environment(files, server.url if server else None))
            figures = measure()
        finally:
            if server:
                server.stop()
    ratio = figures["start_many"] / figures["copy"]
    print(f"{RUNS:,} runs by start_many: {figures['start_many']:.2f} s")
    print(f"the same rows copied by the database: {figures['copy']:.2f} s ({ratio:.1f} times less)")
    print(f"{RUNS:,} cron triggers fired: {figures['cron triggers']:.2f} s")


if __name__ == "__main__":
    main()
