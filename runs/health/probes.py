"""What an installation stands on: versions, the database and its clock, the disk, the settings. `runs.health.doctor` asks for it."""

import shutil
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from typing import Any

import django
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from runs.core import sql
from runs.models import Cluster

SKEW_SECONDS = 2.0
FREE_BYTES = 500 * 2**20
FULL = 0.8
BESIDE_WORKERS = 4  # connections of a cluster that are not its workers': of its supervisor, and of what takes and hands out hints
LEAST = {
    "Python": (3, 11),
    "Django": (5, 2),
    "django-q2": (1, 11, 1),
    "SQLite": (3, 35),
    "PostgreSQL": (14,),
}
TESTED = {"Django": (5, 2), "django-q2": (1, 11)}
_UPDATE = {
    "Python": "Make the environment anew with a newer Python.",
    "SQLite": "Take a Python that brings a newer SQLite, or move to PostgreSQL (DATABASE_URL).",
    "PostgreSQL": "Move the database to a newer PostgreSQL.",
}


@dataclass(frozen=True)
class Finding:
    """`level` is error (work stands still or is in danger) or warning."""

    level: str
    said: str
    fix: str


def versions() -> Iterator[Finding]:
    """What is too old, and what is newer than anybody has tried."""
    for name, found in _found().items():
        fix = _UPDATE.get(name, "Install requirements.txt as it is.")
        if found < LEAST[name]:
            yield Finding(
                "error",
                f"{name} {_dotted(found)} is too old: {_dotted(LEAST[name])} or newer is needed.",
                fix,
            )
        elif found[:2] > TESTED.get(name, found):
            yield Finding(
                "warning",
                f"{name} is {_dotted(found)}; the project is tested with {_dotted(TESTED[name])}.",
                fix,
            )


def _found() -> dict[str, tuple[int, ...]]:
    queue = tuple(int(part) for part in metadata.version("django-q2").split(".") if part.isdigit())
    found = {"Python": sys.version_info[:3], "Django": django.VERSION[:3], "django-q2": queue}
    if connection.vendor == "sqlite":
        return found | {"SQLite": sqlite3.sqlite_version_info}
    connection.ensure_connection()
    return found | {"PostgreSQL": divmod(connection.pg_version, 10_000)}  # type: ignore[attr-defined]


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    if waiting := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        yield Finding(
            "error",
            f"{len(waiting)} migrations are not applied; the first is {waiting[0][0]}.",
            "Run manage.py migrate.",
        )


def _clock() -> Iterator[Finding]:
    before = timezone.now()
    found = sql.moment(sql.run(f"SELECT {sql.now()}")[0][0])
    skew = (found - before).total_seconds() if found else 0.0
    if abs(skew) > SKEW_SECONDS:
        yield Finding(
            "warning",
            f"The clock of this host is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the database's.",
            "Run a time service (NTP) on both.",
        )


_CONNECTIONS = """
    SELECT count(*), current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int
        + coalesce(current_setting('reserved_connections', true), '0')::int
    FROM pg_stat_activity WHERE backend_type = 'client backend'
"""


def _connections() -> Iterator[Finding]:
    """Whether all living clusters can be served, though not all of their workers may be connected now."""
    if connection.vendor != "postgresql":
        return
    used, most, reserved = sql.run(_CONNECTIONS)[0]
    workers = list(Cluster.objects.alive().values_list("workers", flat=True))
    need = sum(workers) + BESIDE_WORKERS * len(workers)
    why = f"The living clusters need {need} (their workers and {BESIDE_WORKERS} each), each thread of a web server one more."
    fix = f"{why} Raise max_connections in postgresql.conf, which takes a restart of PostgreSQL, or lower WORKERS."
    if need > most - reserved:
        yield Finding(
            "error",
            f"PostgreSQL gives {most - reserved} connections (max_connections is {most}), too few for the clusters.",
            fix,
        )
    elif used > FULL * most:
        yield Finding("warning", f"{used} of {most} connections are in use.", fix)
    elif need > FULL * most:
        yield Finding("warning", f"The clusters may take {need} of {most} connections.", fix)


def _postgres() -> Iterator[Finding]:
    if connection.vendor != "postgresql":
        return
    old = "SELECT pid, application_name, extract(epoch FROM now() - xact_start)::float8 FROM pg_stat_activity WHERE xact_start < now() - interval '1 minute'"
    for pid, name, seconds in sql.run(
        f"{old} AND datname = current_database() ORDER BY xact_start LIMIT 3"
    ):
        said = f"A transaction of {name or 'an application'} (pid {pid}) has been open for {lasting(timedelta(seconds=seconds))}; dead rows can't be cleaned up."
        yield Finding(
            "warning",
            said,
            f"Find out what it does; SELECT pg_terminate_backend({int(pid)}) ends it.",
        )
    if sql.run("SELECT current_setting('autovacuum')")[0][0] != "on":
        yield Finding(
            "error",
            "autovacuum is off; the tables will grow and slow down.",
            "Set autovacuum = on.",
        )


def _sqlite() -> Iterator[Finding]:
    if connection.vendor != "sqlite":
        return
    for pragma, wanted in {"journal_mode": "wal", "foreign_keys": 1}.items():
        if (found := sql.run(f"PRAGMA {pragma}")[0][0]) != wanted:
            yield Finding(
                "error",
                f"SQLite's {pragma} is {found}; it has to be {wanted}.",
                "Take DATABASES as the project sets it; no network file system.",
            )
    if (wait := sql.run("PRAGMA busy_timeout")[0][0]) < 20_000:
        yield Finding(
            "warning",
            f"SQLite gives up after {wait / 1000:g} s when another process writes.",
            "Take DATABASES as the project sets it: 20 s.",
        )


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(settings.VAR).free
    if free < FREE_BYTES:
        yield Finding(
            "error",
            f"{free // 2**20:,} MB are free where files are kept ({settings.VAR}).",
            "Make room; delete old runs in the Run Manager.",
        )


def _settings() -> Iterator[Finding]:
    if settings.DEBUG:
        yield Finding(
            "warning", "DEBUG is on: errors show the code, and memory grows.", "Unset DEBUG."
        )


CHECKS = (_clock, _connections, _postgres, _sqlite, _disk, _settings)


def lasting(age: Any) -> str:
    seconds = int(age.total_seconds())
    return (
        f"{seconds} s"
        if seconds < 120
        else f"{seconds // 60} min"
        if seconds < 7200
        else f"{seconds // 3600} h"
    )
