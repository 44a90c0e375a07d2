"""What is wrong with an installation, in sentences, each with what to do about it."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import django
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from graphs.models import RegisteredNode
from graphs.nodes.base import registry
from runs import queueing, sql, statuses
from runs.models import BulkOperation, Cluster, Run, State

SILENT, LATE, STUCK = timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=5)
SKEW_SECONDS = 2.0
FREE_BYTES = 500 * 2**20
FULL = 0.8


@dataclass(frozen=True)
class Finding:
    """`level` is error (work stands still or is in danger) or warning."""

    level: str
    said: str
    fix: str


def examine() -> list[Finding]:
    """Everything that is wrong now, errors first. Nothing is changed."""
    found = [*_versions(), *_migrations()]
    if not any("migrations" in finding.said for finding in found):  # the rest needs the tables
        found += [finding for check in CHECKS for finding in check()]
    return sorted(found, key=lambda finding: finding.level != "error")


def _versions() -> Iterator[Finding]:
    if django.VERSION[:2] != (5, 2):
        yield Finding("warning", f"Django is {django.get_version()}; the project is tested with 5.2.", "Install requirements.txt as it is.")
    if connection.vendor == "postgresql" and connection.pg_version < 140000:  # type: ignore[attr-defined]
        yield Finding("error", f"PostgreSQL is {connection.pg_version // 10000}.", "Move to PostgreSQL 14 or newer.")  # type: ignore[attr-defined]


def _migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    if waiting := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        yield Finding("error", f"{len(waiting)} migrations are not applied; the first is {waiting[0][0]}.", "Run manage.py migrate.")


def _queue() -> Iterator[Finding]:
    """Rules that django-q2 breaks work without (docs/architecture.md)."""
    queue: dict[str, Any] = settings.Q_CLUSTER
    wanted = {"max_attempts": 1, "ack_failures": True, "save_limit": -1, "scheduler": False, "guard_cycle": 0.5, "bulk": 1}
    for name, value in wanted.items():
        if queue.get(name) != value:
            yield Finding("error", f"Q_CLUSTER's {name} is {queue.get(name)!r}; it has to be {value!r}.", "Take Q_CLUSTER as the project sets it.")
    if not queue["retry"] > queue["timeout"] > settings.NODE_TIMEOUT_SECONDS:
        yield Finding("error", "Q_CLUSTER's retry isn't above its timeout, or that not above NODE_TIMEOUT_SECONDS.", "Take Q_CLUSTER as the project sets it.")
    if (age := queueing.oldest_hint()) and age > LATE:
        yield Finding("error", f"A wake-up has waited for {_long(age)} in the queue.", "Look whether manage.py supervise runs, and at its log.")


def _clusters() -> Iterator[Finding]:
    now = timezone.now()
    alive = Cluster.objects.filter(seen_at__gt=now - SILENT).count()
    if not alive:
        last = Cluster.objects.order_by("-seen_at").first()
        since = f"; {last.name} was the last, {_long(now - last.seen_at)} ago" if last else ""
        yield Finding("error", f"No cluster lives{since}. Nothing is executed.", "Start manage.py supervise (or manage.py up) and keep it running.")
    if connection.vendor == "sqlite" and alive > 1:
        yield Finding("warning", f"{alive} clusters share one SQLite file.", "Run one cluster, or move to PostgreSQL (DATABASE_URL).")
    restless = Cluster.objects.filter(seen_at__gt=now - SILENT, restarts__gt=5).first()
    if restless and restless.restarts > 3 * (now - restless.started_at).total_seconds() / 3600:
        yield Finding(
            "warning", f"The cluster {restless.name} was replaced {restless.restarts} times.", "Its log says why; often a node takes too much memory."
        )


def _leases() -> Iterator[Finding]:
    late = timedelta(seconds=3 * settings.SWEEP_SECONDS)
    ours = State.objects.filter(status=statuses.QUEUED, run__version__isnull=False)
    expired = ours.filter(lease_expires_at__lt=timezone.now() - late).count()
    if expired:
        yield Finding(
            "error", f"{expired:,} states are held by workers whose lease is over, and nobody takes them back.", "Start manage.py supervise; it sweeps."
        )


def _ready() -> Iterator[Finding]:
    """Work that nobody comes for."""
    waiting = State.objects.filter(status=statuses.CREATED, held=False, due_at__lt=timezone.now() - STUCK)
    ours: Any = waiting.filter(worker_namespace=None).order_by("due_at").first()
    if ours and ours.node not in registry:
        yield Finding("error", f"States of node {ours.node!r} are ready, which no installed app has.", "Put the app back into APPS, or cancel their runs.")
    elif ours:
        said = f"A state of {ours.node!r} has been ready for {_long(timezone.now() - ours.due_at)}."
        yield Finding("warning", said, "Add workers or clusters if that is too long; if nothing moves at all, look at the cluster's log.")
    theirs: Any = waiting.filter(worker_namespace__isnull=False).order_by("due_at").first()
    if theirs:
        known = RegisteredNode.objects.filter(namespace=theirs.worker_namespace, name=theirs.node).exists()
        fix = "Start a worker that claims it." if known else "No worker has registered it; start its runtime."
        yield Finding("warning", f"A state of the external node {theirs.node!r} has waited for {_long(timezone.now() - theirs.due_at)}.", fix)


def _runs() -> Iterator[Finding]:
    stuck = Run.objects.active().filter(version__isnull=False, pending_count=0).count()
    if stuck:
        yield Finding("error", f"{stuck:,} runs are active with nothing left to do.", "Run manage.py verify --fix.")
    forgotten = BulkOperation.objects.filter(status="running", lease_expires_at__lt=timezone.now() - LATE).count()
    if forgotten:
        yield Finding("warning", f"{forgotten} bulk operations wait for somebody to go on with them.", "A living cluster takes them up by itself.")


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


def _postgres() -> Iterator[Finding]:
    if connection.vendor != "postgresql":
        return
    used, most = sql.run("SELECT count(*), current_setting('max_connections')::int FROM pg_stat_activity WHERE backend_type = 'client backend'")[0]
    need = sum(workers + 3 for workers in Cluster.objects.filter(seen_at__gt=timezone.now() - SILENT).values_list("workers", flat=True)) + 1
    if used > FULL * most:
        fix = f"Raise max_connections, or start fewer workers: the clusters need {need}, each thread of a web server one more."
        yield Finding("warning", f"{used} of {most} connections are in use.", fix)
    old = "SELECT pid, application_name, extract(epoch FROM now() - xact_start)::float8 FROM pg_stat_activity WHERE xact_start < now() - interval '1 minute'"
    for pid, name, seconds in sql.run(f"{old} AND datname = current_database() ORDER BY xact_start LIMIT 3"):
        said = f"A transaction of {name or 'an application'} (pid {pid}) has been open for {_long(timedelta(seconds=seconds))}; dead rows can't be cleaned up."
        yield Finding("warning", said, f"Find out what it does; SELECT pg_terminate_backend({int(pid)}) ends it.")
    if sql.run("SELECT current_setting('autovacuum')")[0][0] != "on":
        yield Finding("error", "autovacuum is off; the tables will grow and slow down.", "Set autovacuum = on.")


def _sqlite() -> Iterator[Finding]:
    if connection.vendor != "sqlite":
        return
    for pragma, wanted in {"journal_mode": "wal", "foreign_keys": 1}.items():
        if (found := sql.run(f"PRAGMA {pragma}")[0][0]) != wanted:
            yield Finding("error", f"SQLite's {pragma} is {found}; it has to be {wanted}.", "Take DATABASES as the project sets it; no network file system.")
    if (wait := sql.run("PRAGMA busy_timeout")[0][0]) < 20_000:
        yield Finding("warning", f"SQLite gives up after {wait / 1000:g} s when another process writes.", "Take DATABASES as the project sets it: 20 s.")


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(settings.VAR).free
    if free < FREE_BYTES:
        yield Finding("error", f"{free // 2**20:,} MB are free where files are kept ({settings.VAR}).", "Make room; delete old runs in the Run Manager.")


def _settings() -> Iterator[Finding]:
    if settings.DEBUG:
        yield Finding("warning", "DEBUG is on: errors show the code, and memory grows.", "Unset DEBUG.")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _queue, _clusters, _leases, _ready, _runs, _clock, _postgres, _sqlite, _disk, _settings,
)  # fmt: skip


def _long(age: Any) -> str:
    seconds = int(age.total_seconds())
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
