"""Checks of what an installation runs on: versions, the database, clocks, the disk, the settings.

`runs.health.doctor` collects their findings.
"""

import shutil
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import django
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from graphs.models import DatasetTable
from graphs.services import secrets
from runs.core import sql
from runs.models import Artifact, Cluster
from statemanager.conf import conf
from statemanager.file_storage import file_storage

MAX_SKEW_SECONDS = 2.0
MIN_FREE_BYTES = 500 * 2**20
MIN_BUSY_TIMEOUT_MS = 20_000
MIN_TIMEOUT_MS = 10_000
RECENT_FILES = 100
FULL = 0.8  # the share of PostgreSQL's connections that may be in use
EXTRA_CONNECTIONS = 4  # per cluster, in addition to its workers: the supervisor and django-q2
MIN_VERSIONS = {
    "Python": (3, 11),
    "Django": (5, 2),
    "django-q2": (1, 11, 1),
    "SQLite": (3, 35),
    "PostgreSQL": (14,),
}
TESTED_VERSIONS = {"Django": (5, 2), "django-q2": (1, 11)}
_UPDATES = {
    "Python": "Create the virtual environment again with a newer Python.",
    "SQLite": "Use a Python that has a newer SQLite, or move to PostgreSQL (DATABASE_URL).",
    "PostgreSQL": "Upgrade the PostgreSQL server.",
}

# The connections in use, how many the server allows, and how many of them it reserves.
CONNECTIONS = """
    SELECT
        count(*),
        current_setting('max_connections')::int,
        current_setting('superuser_reserved_connections')::int
            + coalesce(current_setting('reserved_connections', true), '0')::int
    FROM pg_stat_activity
    WHERE backend_type = 'client backend'
"""

# The transactions of this database that have been open for more than a minute, oldest first.
OLD_TRANSACTIONS = """
    SELECT pid, application_name, extract(epoch FROM now() - xact_start)::float8
    FROM pg_stat_activity
    WHERE xact_start < now() - interval '1 minute' AND datname = current_database()
    ORDER BY xact_start
    LIMIT 3
"""


# What holds for this connection; times are in milliseconds.
ROLE_SETTINGS = """
    SELECT name, setting
    FROM pg_settings
    WHERE name IN (
        'default_transaction_isolation', 'transaction_read_only', 'statement_timeout',
        'idle_in_transaction_session_timeout'
    )
"""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, and how to fix it.

    `level` is "error" if work has stopped or is in danger, else "warning".
    """

    level: str
    message: str
    fix: str

    def to_dict(self) -> dict[str, str]:
        """Return the finding as the API shows it."""
        return {"level": self.level, "said": self.message, "fix": self.fix}


def duration(age: timedelta) -> str:
    """Return a duration for people to read, in one unit."""
    seconds = int(age.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h"


# --- software -----------------------------------------------------------------------------------


def versions() -> Iterator[Finding]:
    """Find versions that are too old, or newer than any that the project was tested with."""
    for name, version in _installed_versions().items():
        fix = _UPDATES.get(name, "Install the versions of requirements.txt.")
        minimum = MIN_VERSIONS[name]
        tested = TESTED_VERSIONS.get(name, version)
        if version < minimum:
            yield Finding(
                "error",
                f"{name} {_dotted(version)} is too old; {_dotted(minimum)} or newer is required.",
                fix,
            )
        elif version[:2] > tested:
            yield Finding(
                "warning",
                f"{name} is {_dotted(version)}; the project is tested with {_dotted(tested)}.",
                fix,
            )


def _installed_versions() -> dict[str, tuple[int, ...]]:
    queue = metadata.version("django-q2").split(".")
    installed: dict[str, tuple[int, ...]] = {
        "Python": sys.version_info[:3],
        "Django": django.VERSION[:3],
        "django-q2": tuple(int(part) for part in queue if part.isdigit()),
    }
    if connection.vendor == "sqlite":
        installed["SQLite"] = sqlite3.sqlite_version_info
    else:
        connection.ensure_connection()
        installed["PostgreSQL"] = divmod(connection.pg_version, 10_000)  # type: ignore[attr-defined]
    return installed


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def migrations() -> Iterator[Finding]:
    """Find migrations that were not applied."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        yield Finding(
            "error",
            f"Migrations that are not applied: {len(plan)}; the first is {plan[0][0]}.",
            "Run manage.py migrate.",
        )


# --- databases and hosts ------------------------------------------------------------------------


def _clock() -> Iterator[Finding]:
    before = timezone.now()
    skew = (sql.clock() - before).total_seconds()
    if abs(skew) > MAX_SKEW_SECONDS:
        direction = "behind" if skew > 0 else "ahead of"
        yield Finding(
            "warning",
            f"The clock of this host is {abs(skew):.0f} s {direction} the database's.",
            "Run a time service (NTP) on both hosts.",
        )


def _connections() -> Iterator[Finding]:
    """Check that PostgreSQL can serve all workers of the running clusters, connected or not."""
    if connection.vendor != "postgresql":
        return
    used, maximum, reserved = sql.run(CONNECTIONS)[0]
    workers = list(Cluster.objects.alive().values_list("workers", flat=True))
    needed = sum(workers) + EXTRA_CONNECTIONS * len(workers)
    fix = (
        f"The running clusters need {needed} (one for each worker, and {EXTRA_CONNECTIONS} each);"
        " each thread of a web server needs one more."
        " Raise max_connections in postgresql.conf and restart PostgreSQL, or lower WORKERS."
    )
    if needed > maximum - reserved:
        yield Finding(
            "error",
            f"PostgreSQL has {maximum - reserved} connections for clients (max_connections is"
            f" {maximum}); that is too few for the clusters.",
            fix,
        )
    elif used > FULL * maximum:
        yield Finding("warning", f"{used} of {maximum} connections are in use.", fix)
    elif needed > FULL * maximum:
        yield Finding("warning", f"The clusters may use {needed} of {maximum} connections.", fix)


def _postgres() -> Iterator[Finding]:
    if connection.vendor != "postgresql":
        return
    for pid, name, seconds in sql.run(OLD_TRANSACTIONS):
        age = duration(timedelta(seconds=seconds))
        yield Finding(
            "warning",
            f"A transaction of {name or 'an application'} (pid {pid}) has been open for {age};"
            " until it ends, dead rows can't be removed.",
            f"Find out what it does. SELECT pg_terminate_backend({int(pid)}) ends it.",
        )
    if sql.run("SELECT current_setting('autovacuum')")[0][0] != "on":
        yield Finding(
            "error",
            "Autovacuum is off, so the tables will grow and become slow.",
            "Set autovacuum = on in postgresql.conf.",
        )


def _sqlite() -> Iterator[Finding]:
    if connection.vendor != "sqlite":
        return
    for pragma, expected in {"journal_mode": "wal", "foreign_keys": 1}.items():
        value = sql.run(f"PRAGMA {pragma}")[0][0]
        if value != expected:
            yield Finding(
                "error",
                f"SQLite's {pragma} is {value}; it must be {expected}.",
                "Restore DATABASES as the project's settings define it,"
                " and don't use a network file system.",
            )
    timeout = sql.run("PRAGMA busy_timeout")[0][0]
    if timeout < MIN_BUSY_TIMEOUT_MS:
        yield Finding(
            "warning",
            f"SQLite waits only {timeout / 1000:g} s for another process that writes.",
            "Restore DATABASES as the project's settings define it, with a timeout of 20 s.",
        )


def _role() -> Iterator[Finding]:
    """Find settings of the database's role under which batches fail."""
    if connection.vendor != "postgresql":
        return
    values: dict[str, str] = dict(sql.run(ROLE_SETTINGS))
    isolation = values["default_transaction_isolation"]
    if isolation != "read committed":
        yield Finding(
            "error",
            f"Transactions of the database role are {isolation}, so batches fail again and again.",
            "ALTER ROLE … SET default_transaction_isolation = 'read committed'.",
        )
    if values["transaction_read_only"] == "on":
        yield Finding(
            "error",
            "The database may only be read: it is a standby, or the role is read-only.",
            "Let DATABASE_URL lead to the primary, with a role that may write.",
        )
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        milliseconds = int(values[name])
        if 0 < milliseconds < MIN_TIMEOUT_MS:
            yield Finding(
                "warning",
                f"The role's {name} is {milliseconds / 1000:g} s; large batches take longer, and"
                " their states fail.",
                f"ALTER ROLE … SET {name} = '{MIN_TIMEOUT_MS // 1000}s', or more.",
            )


def _disk() -> Iterator[Finding]:
    for folder in _folders():
        free = shutil.disk_usage(folder).free
        if free < MIN_FREE_BYTES:
            yield Finding(
                "error",
                f"Only {free // 2**20:,} MB are free where files are stored ({folder}).",
                "Free some space, for example by deleting old runs in the Run Manager.",
            )


def _folders() -> set[Path]:
    """The folders on this host in which the installation stores something."""
    folders = {Path(conf.FILES_DIR)} if conf.FILES_DIR else set()
    database = Path(str(connection.settings_dict["NAME"]))
    if connection.vendor == "sqlite" and database.exists():
        folders.add(database.parent)
    return folders


def _files() -> Iterator[Finding]:
    """Find a storage that isn't the one in which the newest files were stored."""
    names = [
        *Artifact.objects.order_by("-pk").values_list("file", flat=True)[:RECENT_FILES],
        *DatasetTable.objects.order_by("-pk").values_list("file", flat=True)[:RECENT_FILES],
    ]
    missing = [name for name in names if not file_storage.exists(name)]
    if missing:
        yield Finding(
            "error",
            f"{len(missing):,} of the newest {len(names):,} files are not in the storage, such as"
            f" {missing[0]}.",
            f"Check that FILES_DIR ({conf.FILES_DIR}) is the folder in which they were stored.",
        )


def _secrets() -> Iterator[Finding]:
    unreadable = secrets.unreadable()
    if unreadable:
        yield Finding(
            "error",
            f"No key of SECRETS_KEYS opens {len(unreadable):,} secrets, such as {unreadable[0]};"
            " nodes that need them fail.",
            "Add the key with which they were stored to SECRETS_KEYS, or store them again.",
        )


def _settings() -> Iterator[Finding]:
    if settings.DEBUG:
        yield Finding(
            "warning",
            "DEBUG is on: error pages show the code, and memory use grows.",
            "Unset DEBUG.",
        )


CHECKS = (_clock, _connections, _postgres, _role, _sqlite, _disk, _files, _secrets, _settings)
