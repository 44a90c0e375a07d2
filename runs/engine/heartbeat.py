"""Signs of life while nodes still run: lease renewals, log lines and progress, fenced like every other write of a worker."""

import os
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction

from runs.core import sql
from runs.core.failpoints import failpoint
from runs.core.node_counts import KNOWN
from runs.engine import counters, store
from runs.engine.types import Claimed, Line

if TYPE_CHECKING:
    from runs.engine.node_context import NodeContext
    from runs.engine.node_threads import NodeThread

FLUSH_SECONDS = 0.4
ALIVE_SECONDS = 1.0
LOST_SECONDS = 24 * 3600
SAFE_SHARE = 0.8  # of a lease: so long a node goes on without a sign from the database
Report = tuple[
    Claimed, list[Line], float | None
]  # the state, its new lines, how far it is, if that is known

_RENEW = """
    UPDATE statemanager_runs_state SET lease_expires_at = {lease}, progress = coalesce(v.progress, statemanager_runs_state.progress) FROM {v}
    WHERE statemanager_runs_state.id = v.id AND statemanager_runs_state.status {queued} AND (v.attempt IS NULL OR statemanager_runs_state.attempt = v.attempt) RETURNING statemanager_runs_state.id
"""


def report(reports: Sequence[Report], lease_seconds: float) -> set[str]:
    """Renew the leases and store what the nodes said; the answer holds the ids that are still the caller's."""
    runs = {state.run.pk: state.run for state, _, _ in reports}
    with transaction.atomic():
        counters_by_run = counters.lock(runs, {pk: run.plan for pk, run in runs.items()})
        table = [[state.id, state.attempt, fraction] for state, _, fraction in reports]
        statement = sql.statement(
            _RENEW, lease="%s", v={"id": "uuid", "attempt": "int", "progress": "float8"}
        )
        alive = {sql.key(row[0]) for row in sql.run(statement, [lease_seconds, *sql.values(table)])}
        mine = [
            each for each in reports if each[0].id in alive and each[0].run.pk in counters_by_run
        ]
        statements = sql.Statements()
        said = [(state, line) for state, lines, _ in mine for line in lines]
        store.insert_lines(store.line_rows(said), statements)
        for state, _ in said:
            counters_by_run[state.run.pk].log_count += 1
        touched = {state.run.pk for state, _, _ in mine}
        for state, _, fraction in mine:
            run_counters = counters_by_run[state.run.pk]
            run_counters.current_node = state.identifier
            if fraction is None:
                continue
            known = run_counters.node_counts.get(state.identifier, [1])[KNOWN] or 1
            run_counters.progress = max(
                run_counters.progress, min(run_counters.share(fraction / known), 99)
            )
        for pk in touched:
            counters_by_run[pk].close()
            store.drop_oldest_lines(counters_by_run[pk], statements)
        counters.store((counters_by_run[pk] for pk in touched), statements)
        statements.flush()
        failpoint("in-heartbeat")
    failpoint("after-heartbeat-commit")
    return alive


class Reporter:
    """Decides when a process reports on what it runs, and tells its cluster that it lives."""

    def __init__(self, worker: str, cluster: str) -> None:
        self.worker, self.cluster = worker, cluster
        self.stopping = False
        self._flushed = self._renewed = self._seen = 0.0

    def alive(self) -> None:
        """Set the cluster's `seen_at`, at most once a second, and learn whether it is to stop."""
        if not self.cluster or monotonic() - self._seen < ALIVE_SECONDS:
            return
        self._seen = monotonic()
        rows = sql.run(
            f"UPDATE statemanager_runs_cluster SET seen_at = {sql.now()} WHERE name = %s RETURNING stopping",
            [self.cluster],
        )
        self.stopping = bool(rows and rows[0][0])

    def tick(self, threads: Iterable["NodeThread"]) -> None:
        """Report the states that are being run, when it is time to."""
        now = monotonic()
        if now - self._flushed < FLUSH_SECONDS:
            return
        self._flushed = now
        running = [current for thread in threads if (current := thread.current)]
        renew = now - self._renewed >= settings.HEARTBEAT_SECONDS
        news: list[Report] = []
        for state, context in running:
            lines = context.take_lines()
            if renew or lines or context.fraction != context.reported or not context.announced:
                news.append((state, lines, context.fraction))
                context.reported, context.announced = context.fraction, True
        if news:
            self._report(news, {state.id: context for state, context in running}, now)
        if renew:
            self._renewed = now
        self.alive()

    def _report(
        self, news: Sequence[Report], contexts: "dict[str, NodeContext]", now: float
    ) -> None:
        """Report; while that fails the lines are kept, and a node whose lease may be over soon is told to stop: somebody else may have its state."""
        try:
            mine = report(news, settings.LEASE_SECONDS)
        except (OperationalError, InterfaceError):
            for state, lines, _ in news:
                contexts[state.id].keep_lines(lines)
            for context in contexts.values():
                if now - context.heard > SAFE_SHARE * settings.LEASE_SECONDS:
                    context.give_up()
            raise
        for state, _, _ in news:
            if state.id in mine:
                contexts[state.id].heard = now
            else:
                contexts[state.id].cancel()


def silent(name: str, seconds: float) -> bool:
    """Whether a cluster showed no sign of life for so long, by the database's clock."""
    return not sql.run(
        f"SELECT 1 FROM statemanager_runs_cluster WHERE name = %s AND seen_at > {sql.later('%s')}",
        [name, -seconds],
    )


def answered(name: str) -> bool:
    """Whether a cluster answered a probe since it was started."""
    return bool(
        sql.run(
            "SELECT 1 FROM statemanager_runs_cluster WHERE name = %s AND seen_at > started_at",
            [name],
        )
    )


def register(name: str, host: str, workers: int) -> None:
    """Note a starting cluster."""
    from runs.models import Cluster

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
    """Remove clusters that were silent for a day: their supervisors were killed. Never one's `own`, which may only have been away."""
    sql.send(
        f"DELETE FROM statemanager_runs_cluster WHERE name <> %s AND seen_at < {sql.later(str(-LOST_SECONDS))}",
        [own],
    )
