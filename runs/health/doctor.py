"""What is wrong with an installation and what to do about it, in plain sentences."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from django.db import connection

from graphs.models import RegisteredNode
from graphs.nodes.base import registry
from runs.core import sql, statuses
from runs.engine import wakeup
from runs.health import probes, recount, schema, storage, used_nodes, verify
from runs.health.probes import Finding, duration
from runs.models import BulkOperation, Cluster, Run, State
from statemanager.conf import conf

LATE = timedelta(minutes=1)
STUCK = timedelta(minutes=5)
MANY_RESTARTS = 5
RESTARTS_PER_HOUR = 3
START_WITHIN = 600.0  # seconds; a supervisor tries more often
MAX_SHOWN = 5
MAX_LINE = 300


def examine() -> list[Finding]:
    """Return everything that is wrong now, errors first. Nothing is changed."""
    findings = [*probes.versions()]
    unapplied = [*probes.migrations()]
    findings += unapplied
    if not unapplied:  # the other checks read the tables
        for check in CHECKS:
            findings += check()
    return sorted(findings, key=lambda finding: finding.level != "error")


def _queue() -> Iterator[Finding]:
    age = wakeup.oldest_hint()
    if age and age > LATE:
        yield Finding(
            "error",
            f"A wake-up has been in the queue for {duration(age)}.",
            "Check that manage.py supervise is running, and read its log.",
        )


def _clusters() -> Iterator[Finding]:
    running = Cluster.objects.alive()
    count = running.count()
    if not count:
        yield _no_cluster()
    if connection.vendor == "sqlite" and count > 1:
        yield Finding(
            "warning",
            f"{count} clusters share one SQLite file.",
            "Run a single cluster, or move to PostgreSQL (DATABASE_URL).",
        )
    restarted = running.filter(restarts__gt=MANY_RESTARTS).first()
    if restarted and restarted.restarts > RESTARTS_PER_HOUR * _hours_since(restarted.started_at):
        yield Finding(
            "warning",
            f"The cluster {restarted.name} was replaced {restarted.restarts} times.",
            "Look for the reason in its log; often a node uses too much memory.",
        )


def _starts() -> Iterator[Finding]:
    """Clusters that don't start, with the last line of what they wrote."""
    for cluster in Cluster.objects.alive(within=START_WITHIN).exclude(start_error="")[:MAX_SHOWN]:
        reason, *lines = cluster.start_error.splitlines()
        last_line = f" ({lines[-1][:MAX_LINE]})" if lines else ""
        yield Finding(
            "error",
            f"The cluster {cluster.name} does not start: {reason}{last_line}.",
            "Mend that; the supervisor tries again by itself. The page Health has more of the log.",
        )


def _no_cluster() -> Finding:
    last = Cluster.objects.order_by("-seen_at").first()
    last_seen = ""
    if last:
        age = duration(sql.clock() - last.seen_at)
        last_seen = f" The last one, {last.name}, was seen {age} ago."
    return Finding(
        "error",
        f"No cluster is running, so nothing is executed.{last_seen}",
        "Start manage.py supervise (or manage.py up) and keep it running.",
    )


def _hours_since(moment: datetime) -> float:
    return (sql.clock() - moment).total_seconds() / 3600


def _leases() -> Iterator[Finding]:
    late = timedelta(seconds=3 * conf.SWEEP_SECONDS)
    leased = State.objects.filter(status=statuses.QUEUED, run__version__isnull=False)
    expired = leased.filter(lease_expires_at__lt=sql.clock() - late).count()
    if expired:
        yield Finding(
            "error",
            f"Expired leases that were not recovered: {expired:,}.",
            "Start manage.py supervise, whose sweeper recovers leases.",
        )


def _ready() -> Iterator[Finding]:
    """States that have been ready for too long without being claimed."""
    stuck = State.objects.filter(
        status=statuses.CREATED, paused=False, due_at__lt=sql.clock() - STUCK
    ).order_by("due_at")
    builtin = stuck.filter(worker_namespace=None).first()
    if builtin:
        yield _unclaimed_builtin(builtin)
    external = stuck.filter(worker_namespace__isnull=False).first()
    if external:
        yield _unclaimed_external(external)


def _unclaimed_builtin(state: State) -> Finding:
    if state.node not in registry:
        return Finding(
            "error",
            f"States of the node {state.node!r} are ready, but no installed app has this node.",
            "Put the app back into APPS, or cancel the runs.",
        )
    return Finding(
        "warning",
        f"A state of {state.node!r} has been ready for {_ready_for(state)}.",
        "Add workers or clusters if that is too long."
        " If no state is executed at all, read the cluster's log.",
    )


def _unclaimed_external(state: State) -> Finding:
    is_registered = RegisteredNode.objects.filter(
        namespace=state.worker_namespace, name=state.node
    ).exists()
    return Finding(
        "warning",
        f"A state of the external node {state.node!r} has been ready for {_ready_for(state)}.",
        "Start a worker that claims it."
        if is_registered
        else "No worker has registered the node. Start the program that does.",
    )


def _ready_for(state: State) -> str:
    return duration(sql.clock() - (state.due_at or state.created_at))


def _runs() -> Iterator[Finding]:
    stuck = Run.objects.active().filter(version__isnull=False, pending_count=0).count()
    if stuck:
        yield Finding(
            "error",
            f"Runs that are active although they have no pending states: {stuck:,}.",
            "Run manage.py verify --fix.",
        )
    abandoned = BulkOperation.objects.filter(
        status="running", lease_expires_at__lt=sql.clock() - LATE
    ).count()
    if abandoned:
        yield Finding(
            "warning",
            f"Bulk operations that have lost their runner: {abandoned:,}.",
            "Start a cluster if none is running; it continues them automatically.",
        )


def _orphans() -> Iterator[Finding]:
    for finding in verify.sample():
        yield Finding(
            "warning",
            f"Among the oldest and the newest {verify.SAMPLE_SIZE:,} rows of their table are"
            f" {finding.label}: {finding.count:,}.",
            "Run manage.py verify --fix, which checks all rows.",
        )


def _drift() -> Iterator[Finding]:
    drifted = list(recount.drifted_recently())
    if drifted:
        run_ids = Run.objects.filter(pk__in=drifted[: verify.MAX_EXAMPLES]).order_by("pk")
        examples = ", ".join(run_ids.values_list("run_id", flat=True))
        yield Finding(
            "error",
            f"The counters don't match the states in {len(drifted)} of the newest"
            f" {recount.RECENT_RUNS} runs: {examples}.",
            "Run manage.py verify --fix, which counts all runs.",
        )


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _queue,
    _clusters,
    _starts,
    _leases,
    _ready,
    _runs,
    _orphans,
    _drift,
    *probes.CHECKS,
    storage.findings,
    schema.findings,
    used_nodes.findings,
)
