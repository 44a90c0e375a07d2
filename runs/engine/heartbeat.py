"""Signs of life while nodes run: renewed leases, log lines and progress, all behind the fence.

1. `Reporter.tick` decides when a process reports, and on which of the states that it runs.
2. `renew_leases` locks the runs, renews the leases whose fence holds, and stores lines and
   progress for those states only. It waits for no lock: of runs that something else has locked
   only the leases are renewed.
3. A state that is no longer the worker's is told to stop. So is every state whose lease may end
   while the database is away.
"""

import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from django.db import transaction
from django.db.models.functions import Now

from runs.core import db_errors, sql
from runs.core.failpoints import failpoint
from runs.core.node_counts import KNOWN
from runs.engine import counters, log_lines
from runs.engine.counters import RunCounters
from runs.engine.types import Claimed, Line
from runs.models import Cluster
from statemanager.conf import conf

if TYPE_CHECKING:
    from runs.engine.node_context import NodeContext
    from runs.engine.node_threads import NodeThread

FLUSH_SECONDS = 0.4
SIGN_OF_CLUSTER_SECONDS = 1.0
FORGET_CLUSTER_SECONDS = 24 * 3600
# The share of a lease for which a node goes on without a sign from the database.
SAFE_SHARE = 0.8


class SignOfLife(NamedTuple):
    """A running state, its new log lines, and how far it is (0 to 1), if that is known."""

    state: Claimed
    lines: Sequence[Line]
    fraction: float | None


# --- renewing leases -----------------------------------------------------------------------------


class Renewed(NamedTuple):
    """The ids of the states that are still the caller's, and of those whose lines were not stored
    because something else has locked their runs.
    """

    held: set[str]
    unstored: set[str]


def renew_leases(
    signs: Sequence[SignOfLife], lease_seconds: float, skip_locked: bool = True
) -> Renewed:
    """Renew the leases of these states and store their lines and progress.

    Without `skip_locked`, wait for whatever has locked their runs.
    """
    runs = {sign.state.run.pk: sign.state.run for sign in signs}
    plans = {pk: run.plan for pk, run in runs.items()}
    with transaction.atomic():
        counters_by_run = counters.lock(runs, plans, skip_locked)
        table = [(sign.state.id, sign.state.attempt, sign.fraction) for sign in signs]
        rows = sql.run(_renew_statement(), [lease_seconds, *sql.values(table)])
        renewed = {sql.key(row[0]) for row in rows}
        accepted = [
            sign
            for sign in signs
            if sign.state.id in renewed and sign.state.run.pk in counters_by_run
        ]

        statements = sql.Statements()
        log_lines.insert(log_lines.rows_of(_lines(accepted)), statements)
        for sign in accepted:
            _count_sign(sign, counters_by_run[sign.state.run.pk])
        touched = {sign.state.run.pk: counters_by_run[sign.state.run.pk] for sign in accepted}
        for run_counters in touched.values():
            run_counters.update_status()
            log_lines.drop_oldest(run_counters, statements)
        counters.store(touched.values(), statements)
        statements.flush()
        failpoint("in-heartbeat")
    failpoint("after-heartbeat-commit")
    stored = {sign.state.id for sign in accepted}
    return Renewed(renewed, renewed - stored)


@sql.statement
def _renew_statement() -> str:
    """Renew leases, where the fence holds. Returns the ids of the states whose lease was renewed.

    Parameters: the lease, then the (state, attempt, progress) rows.
    """
    return f"""
        UPDATE statemanager_runs_state AS s
        SET lease_expires_at = {sql.later("%s")}, progress = coalesce(v.progress, s.progress)
        FROM {sql.rows("v", state="uuid", attempt="int", progress="float8")}
        WHERE s.id = v.state
          AND s.status IN ('QUEUED', '')
          AND (v.attempt IS NULL OR s.attempt = v.attempt)
        RETURNING id
    """


def _lines(signs: Iterable[SignOfLife]) -> list[tuple[Claimed, Line]]:
    lines: list[tuple[Claimed, Line]] = []
    for sign in signs:
        lines += [(sign.state, line) for line in sign.lines]
    return lines


def _count_sign(sign: SignOfLife, run_counters: RunCounters) -> None:
    identifier = sign.state.identifier
    run_counters.log_count += len(sign.lines)
    run_counters.current_node = identifier
    if sign.fraction is not None:
        known = run_counters.node_counts.get(identifier, [1])[KNOWN] or 1
        run_counters.update_progress(running=sign.fraction / known)


# --- reporting -----------------------------------------------------------------------------------


class Reporter:
    """Reports what a process runs, and that its cluster lives."""

    def __init__(self, worker: str, cluster: str) -> None:
        self.worker = worker
        self.cluster = cluster
        self.stopping = False
        self._flushed = 0.0
        self._renewed = 0.0
        self._cluster_seen = 0.0

    def alive(self) -> None:
        """Show that the cluster lives, at most once a second, and learn whether it is to stop."""
        if not self.cluster or monotonic() - self._cluster_seen < SIGN_OF_CLUSTER_SECONDS:
            return
        self._cluster_seen = monotonic()
        rows = sql.run(_cluster_seen_statement(), [self.cluster])
        self.stopping = bool(rows and rows[0][0])

    def tick(self, threads: Iterable["NodeThread"], deferred: Sequence[SignOfLife] = ()) -> None:
        """Report on the states that these threads run, if it is time to.

        `deferred` are the signs of states whose outcomes wait; their leases are renewed, too.
        """
        now = monotonic()
        if now - self._flushed < FLUSH_SECONDS:
            return
        self._flushed = now
        renew = now - self._renewed >= conf.HEARTBEAT_SECONDS
        contexts: dict[str, NodeContext] = {}
        signs: list[SignOfLife] = list(deferred) if renew else []
        for thread in threads:
            current = thread.current
            if current:
                state, context = current
                contexts[state.id] = context
                signs += _sign_of(state, context, renew)
        if signs:
            self._report(signs, contexts, now)
        if renew:
            self._renewed = now
        self.alive()

    def _report(
        self, signs: Sequence[SignOfLife], contexts: "dict[str, NodeContext]", now: float
    ) -> None:
        """Report. While that fails, lines are kept for the next time.

        A node whose lease may be over soon is told to give up: another worker may get its state.
        """
        try:
            renewed = renew_leases(signs, conf.LEASE_SECONDS)
        except db_errors.ERRORS:
            for sign in signs:
                if sign.state.id in contexts:
                    contexts[sign.state.id].keep_lines(sign.lines)
            for context in contexts.values():
                if now - context.heard > SAFE_SHARE * conf.LEASE_SECONDS:
                    context.give_up()
            raise
        for sign in signs:
            own = contexts.get(sign.state.id)
            if own is None:
                continue
            if sign.state.id not in renewed.held:
                own.cancel()
                continue
            own.heard = now
            if sign.state.id in renewed.unstored:
                own.keep_lines(sign.lines)


def _sign_of(state: Claimed, context: "NodeContext", renew: bool) -> list[SignOfLife]:
    """The sign of a running state; none if its lease needs no renewal and there is no news."""
    lines = context.take_lines()
    moved = context.fraction != context.reported or not context.announced
    if not (renew or lines or moved):
        return []
    sign = SignOfLife(state, lines, context.fraction)
    context.reported = context.fraction
    context.announced = True
    return [sign]


# --- clusters ------------------------------------------------------------------------------------


@sql.statement
def _cluster_seen_statement() -> str:
    """Note that a cluster lives. Returns whether it is to stop."""
    return f"""
        UPDATE statemanager_runs_cluster SET seen_at = {sql.now()} WHERE name = %s
        RETURNING stopping
    """


def note_cluster(name: str) -> None:
    """Note that a cluster lives, for a process that only answers a probe."""
    sql.run(_cluster_seen_statement(), [name])


def answered(name: str) -> bool:
    """Whether a cluster has shown a sign of life since it was started."""
    return Cluster.objects.answered().filter(name=name).exists()


def register(name: str, host: str, workers: int) -> None:
    """Store a cluster that is being started, with this process as its supervisor."""
    now = sql.clock()
    values = {
        "host": host,
        "pid": os.getpid(),
        "workers": workers,
        "started_at": now,
        "seen_at": now,
        "stopping": False,
    }
    Cluster.objects.update_or_create(name=name, defaults=values)


def forget_lost(own: str) -> None:
    """Delete the clusters that were silent for a day, because their supervisors were killed.

    The supervisor's `own` cluster stays: it may only have been cut off from the database.
    """
    last_seen = Now() - timedelta(seconds=FORGET_CLUSTER_SECONDS)
    Cluster.objects.exclude(name=own).filter(seen_at__lt=last_seen).delete()
