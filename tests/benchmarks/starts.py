"""Starting 10,000 runs at once: `python -m tests.benchmarks.starts [--sqlite]`.

It measures `start_many` beside what the database alone needs to copy the same rows into tables with
the same indexes and constraints, and the firing of 10,000 cron triggers that are due together. No
cluster runs. The figures are medians of three rounds, in seconds.
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
ROUNDS = 3
TABLES = ("statemanager_runs_run", "statemanager_runs_state", "statemanager_runs_logline")


def seconds(call: Callable[[], object]) -> float:
    began = perf_counter()
    call()
    return perf_counter() - began


def measure() -> dict[str, float]:
    """The figures on the database that DATABASE_URL names, which is empty."""
    from tests.benchmarks import one_database  # sets Django up

    # isort: split
    from django.db import connection, transaction

    from graphs.models import CronTrigger
    from runs.actions import schedules
    from runs.core import sql
    from runs.engine.new_run import RunOptions
    from runs.engine.start_many import start_many
    from runs.models import Run

    graph = one_database.prepare()
    graph = type(graph).objects.select_related("namespace", "current").get(pk=graph.pk)
    start_many(graph, [RunOptions() for _ in range(100)])

    def copy() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            for table in TABLES:
                column = "id" if table == TABLES[0] else "run_id"
                cursor.execute(
                    f"INSERT INTO copy_{table} SELECT * FROM {table} WHERE {column} > %s", [last]
                )

    figures: dict[str, list[float]] = {"start_many": [], "copy": [], "cron triggers": []}
    for at in range(ROUNDS):
        last = Run.objects.order_by("-pk").values_list("pk", flat=True)[0]
        options = [RunOptions(run_id=f"{at}-{number}") for number in range(RUNS)]
        figures["start_many"].append(seconds(lambda options=options: start_many(graph, options)))
        with connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute(f"DROP TABLE IF EXISTS copy_{table}")
                if sql.postgres():
                    cursor.execute(f"CREATE TABLE copy_{table} (LIKE {table} INCLUDING ALL)")
                else:
                    _copy_table(cursor, table)
        figures["copy"].append(seconds(copy))

    now = sql.clock()
    zones = sorted(available_timezones())
    for at in range(ROUNDS):
        graphs = [
            one_database.publish(f"g{at}-{n}", [{"id": "a", "kind": "noop"}], []) for n in range(25)
        ]
        CronTrigger.objects.bulk_create(
            CronTrigger(
                graph=each,
                expression="* * * * *",
                time_zone=zone,
                next_at=now - timedelta(seconds=1),
            )
            for each in graphs
            for zone in zones[: RUNS // 25]
        )
        before = Run.objects.count()

        def fire() -> None:
            while schedules.fire_due(now):
                pass

        figures["cron triggers"].append(seconds(fire))
        assert Run.objects.count() == before + RUNS
    return {name: statistics.median(values) for name, values in figures.items()}


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
