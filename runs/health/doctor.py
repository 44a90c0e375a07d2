"""What is wrong with an installation, in sentences, each with what to do about it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from graphs.models import RegisteredNode
from graphs.nodes.base import registry
from runs.core import statuses
from runs.engine import wakeup
from runs.health import probes, recount, verify
from runs.health.probes import Finding, lasting
from runs.models import BulkOperation, Cluster, Run, State

LATE, STUCK = timedelta(minutes=1), timedelta(minutes=5)


def examine() -> list[Finding]:
    """Everything that is wrong now, errors first. Nothing is changed."""
    found = [*probes.versions(), *probes.migrations()]
    if not any("migrations" in finding.said for finding in found):  # the rest needs the tables
        found += [finding for check in CHECKS for finding in check()]
    return sorted(found, key=lambda finding: finding.level != "error")


def _queue() -> Iterator[Finding]:
    """Rules that django-q2 breaks work without (docs/architecture.md)."""
    queue: dict[str, Any] = settings.Q_CLUSTER
    wanted = {
        "max_attempts": 1,
        "ack_failures": True,
        "save_limit": -1,
        "scheduler": False,
        "guard_cycle": 0.5,
        "bulk": 1,
    }
    for name, value in wanted.items():
        if queue.get(name) != value:
            yield Finding(
                "error",
                f"Q_CLUSTER's {name} is {queue.get(name)!r}; it has to be {value!r}.",
                "Take Q_CLUSTER as the project sets it.",
            )
    if not queue["retry"] > queue["timeout"] > settings.NODE_TIMEOUT_SECONDS:
        yield Finding(
            "error",
            "Q_CLUSTER's retry isn't above its timeout, or that not above NODE_TIMEOUT_SECONDS.",
            "Take Q_CLUSTER as the project sets it.",
        )
    if (age := wakeup.oldest_hint()) and age > LATE:
        yield Finding(
            "error",
            f"A wake-up has waited for {lasting(age)} in the queue.",
            "Look whether manage.py supervise runs, and at its log.",
        )


def _clusters() -> Iterator[Finding]:
    now = timezone.now()
    alive = Cluster.objects.alive().count()
    if not alive:
        last = Cluster.objects.order_by("-seen_at").first()
        since = f"; {last.name} was the last, {lasting(now - last.seen_at)} ago" if last else ""
        yield Finding(
            "error",
            f"No cluster lives{since}. Nothing is executed.",
            "Start manage.py supervise (or manage.py up) and keep it running.",
        )
    if connection.vendor == "sqlite" and alive > 1:
        yield Finding(
            "warning",
            f"{alive} clusters share one SQLite file.",
            "Run one cluster, or move to PostgreSQL (DATABASE_URL).",
        )
    restless = Cluster.objects.alive().filter(restarts__gt=5).first()
    if restless and restless.restarts > 3 * (now - restless.started_at).total_seconds() / 3600:
        yield Finding(
            "warning",
            f"The cluster {restless.name} was replaced {restless.restarts} times.",
            "Its log says why; often a node takes too much memory.",
        )


def _leases() -> Iterator[Finding]:
    late = timedelta(seconds=3 * settings.SWEEP_SECONDS)
    ours = State.objects.filter(status=statuses.QUEUED, run__version__isnull=False)
    expired = ours.filter(lease_expires_at__lt=timezone.now() - late).count()
    if expired:
        yield Finding(
            "error",
            f"{expired:,} states are held by workers whose lease is over, and nobody takes them back.",
            "Start manage.py supervise; it sweeps.",
        )


def _ready() -> Iterator[Finding]:
    """Work that nobody comes for."""
    waiting = State.objects.filter(
        status=statuses.CREATED, paused=False, due_at__lt=timezone.now() - STUCK
    )
    ours: Any = waiting.filter(worker_namespace=None).order_by("due_at").first()
    if ours and ours.node not in registry:
        yield Finding(
            "error",
            f"States of node {ours.node!r} are ready, which no installed app has.",
            "Put the app back into APPS, or cancel their runs.",
        )
    elif ours:
        said = (
            f"A state of {ours.node!r} has been ready for {lasting(timezone.now() - ours.due_at)}."
        )
        yield Finding(
            "warning",
            said,
            "Add workers or clusters if that is too long; if nothing moves at all, look at the cluster's log.",
        )
    theirs: Any = waiting.filter(worker_namespace__isnull=False).order_by("due_at").first()
    if theirs:
        known = RegisteredNode.objects.filter(
            namespace=theirs.worker_namespace, name=theirs.node
        ).exists()
        fix = (
            "Start a worker that claims it."
            if known
            else "No worker has registered it; start its runtime."
        )
        yield Finding(
            "warning",
            f"A state of the external node {theirs.node!r} has waited for {lasting(timezone.now() - theirs.due_at)}.",
            fix,
        )


def _runs() -> Iterator[Finding]:
    stuck = Run.objects.active().filter(version__isnull=False, pending_count=0).count()
    if stuck:
        yield Finding(
            "error",
            f"{stuck:,} runs are active with nothing left to do.",
            "Run manage.py verify --fix.",
        )
    forgotten = BulkOperation.objects.filter(
        status="running", lease_expires_at__lt=timezone.now() - LATE
    ).count()
    if forgotten:
        yield Finding(
            "warning",
            f"{forgotten} bulk operations wait for somebody to go on with them.",
            "A living cluster takes them up by itself.",
        )


def _orphans() -> Iterator[Finding]:
    for found in verify.glance():
        said = f"Of the oldest and the newest {verify.GLANCE:,} rows of their table {found.count:,} are {found.said}."
        yield Finding("warning", said, "Run manage.py verify --fix; it looks at all rows.")


def _drift() -> Iterator[Finding]:
    if wrong := list(recount.drifted_lately()):
        named = ", ".join(
            Run.objects.filter(pk__in=wrong[: verify.SOME])
            .order_by("pk")
            .values_list("run_id", flat=True)
        )
        said = f"Of the newest {recount.LATELY} runs {len(wrong)} have counts that aren't those of their states: {named}."
        yield Finding("error", said, "Run manage.py verify --fix; it counts all runs.")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _queue,
    _clusters,
    _leases,
    _ready,
    _runs,
    _orphans,
    _drift,
    *probes.CHECKS,
)
