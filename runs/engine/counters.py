"""The counters of a run: its counts and status, read under its lock and written once at the end of the same transaction.

Whoever changes states of a run locks it first; runs are locked in the order of their ids.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from graphs.definition.plan import Plan
from runs.core import node_counts, sql, statuses
from runs.core.node_counts import BAD, DONE, KNOWN, NodeCounts

_TYPES = {
    "status": "text", "paused": "boolean", "stopping": "boolean", "current_node": "text", "current_step": "int", "progress": "int",
    "started_count": "int", "pending_count": "int", "waiting_count": "int", "success_count": "int", "errored_count": "int",
    "retried_count": "int", "cancelled_count": "int", "emitted": "bigint", "log_count": "int", "error_message": "text", "node_counts": "text",
}  # fmt: skip


@dataclass(slots=True)
class RunCounters:
    """The changing columns of one locked run."""

    pk: int
    status: str
    paused: bool
    stopping: bool
    current_node: str
    current_step: int
    progress: int
    started_count: int
    pending_count: int
    waiting_count: int
    success_count: int
    errored_count: int
    retried_count: int
    cancelled_count: int
    emitted: int
    log_count: int
    error_message: str
    node_counts: NodeCounts
    revision: int = 0
    max_steps: int | None = None
    version_id: int | None = None
    plan: Plan | None = field(default=None, compare=False)

    @property
    def open(self) -> bool:
        return self.status in statuses.ACTIVE_RUNS

    def appear(self, identifier: str, retry: bool = False) -> None:
        """A state that is to be started was made."""
        self.started_count += 1
        self.pending_count += 1
        if not retry:
            self.count(identifier, KNOWN)

    def sibling(self, identifier: str) -> None:
        """One more output of a fan-out."""
        self.success_count += 1
        self.count(identifier, KNOWN)
        self.count(identifier, DONE)

    def finish(self, identifier: str, status: str) -> None:
        """A pending state reached a final status."""
        self.pending_count -= 1
        if status in (statuses.SUCCESS, statuses.PRUNED):
            self.success_count += 1
            self.count(identifier, DONE)
        elif status == statuses.RETRY_CREATED:
            self.retried_count += 1
        elif status == statuses.CANCELLED:
            self.cancelled_count += 1
        else:
            self.errored_count += 1
            self.count(identifier, BAD)

    def count(self, identifier: str, what: int, by: int = 1) -> None:
        self.node_counts.setdefault(identifier, [0, 0, 0])[what] += by

    def close(self) -> None:
        """The status and progress that follow from the counts."""
        if not self.open:
            return
        if self.version_id is None:  # its program says where it is; a person may pause it
            self.status = (
                statuses.PAUSED
                if self.paused
                else statuses.RUNNING
                if self.status == statuses.PAUSED
                else self.status
            )
            return
        self.current_step = self.success_count
        if self.pending_count:
            waits = self.paused or self.waiting_count == self.pending_count
            self.status = statuses.PAUSED if waits else statuses.RUNNING
        else:
            self.status = self._verdict()
        self.progress = (
            100 if self.status == statuses.COMPLETED else max(self.progress, min(self.share(), 99))
        )

    def _verdict(self) -> str:
        if not self.errored_count and not self.stopping:
            return statuses.COMPLETED
        stops = self.plan is not None and self.plan.stop_at_failure and self.errored_count
        return statuses.FAILED if stops or not self.success_count else statuses.PARTIAL

    def share(self, running: float = 0.0) -> int:
        """Percent: the mean over the plan's nodes of succeeded (and running) by known states."""
        if self.plan is None:
            return 0
        ended = self.pending_count == 0
        skipped = set(self.skipped()) if ended else set()
        done = sum(
            counts[DONE] / counts[KNOWN] for counts in self.node_counts.values() if counts[KNOWN]
        )
        return int(100 * (done + running + len(skipped)) / len(self.plan.order))

    def skipped(self) -> list[str]:
        """Nodes that never ran, because something before them failed or their branch wasn't taken."""
        return (
            [node for node in self.plan.order if node not in self.node_counts] if self.plan else []
        )

    def stop(self, reason: str) -> None:
        if not self.stopping:
            self.stopping, self.error_message = True, f"Execution stopped: {reason}"


_READ = [each.name for each in fields(RunCounters) if each.name != "plan"]
_LOCK = f"SELECT {', '.join({'pk': 'id'}.get(name, name) for name in _READ)} FROM statemanager_runs_run WHERE {{among}} ORDER BY id"
_SETS = ", ".join(f"{name} = v.{name}" for name in _TYPES)
_STORE = f"""
    UPDATE statemanager_runs_run SET {_SETS}, revision = statemanager_runs_run.revision + 1, updated_at = {{now}},
        started_at = CASE WHEN v.status = 'queued' THEN statemanager_runs_run.started_at ELSE coalesce(statemanager_runs_run.started_at, {{now}}) END,
        finished_at = CASE WHEN v.status IN ('queued', 'running', 'paused') THEN NULL ELSE coalesce(statemanager_runs_run.finished_at, {{now}}) END
    FROM {{v}} WHERE statemanager_runs_run.id = v.id
"""

_STORE_KNOWN = f"""{_STORE} AND statemanager_runs_run.revision = v.revision AND %s = (
        SELECT count(*) FROM {{h}} JOIN statemanager_runs_state s ON s.id = h.id AND s.status {{queued}} AND (h.attempt IS NULL OR s.attempt = h.attempt))
    RETURNING statemanager_runs_run.id
"""


def lock(run_ids: Iterable[int], plans: dict[int, Plan] | None = None) -> dict[int, RunCounters]:
    """Lock these runs and read their counters; runs that are gone are missing from the answer."""
    found = sql.run(
        sql.statement(_LOCK, among=("id", "bigint")) + sql.lock(),
        [sql.choices(sorted(set(run_ids)))],
    )
    counters_by_run = {row[0]: RunCounters(*row) for row in found}
    for run_counters in counters_by_run.values():
        run_counters.node_counts, run_counters.paused, run_counters.stopping = (
            node_counts.load(str(run_counters.node_counts)),
            bool(run_counters.paused),
            bool(run_counters.stopping),
        )
        run_counters.plan = (plans or {}).get(run_counters.pk)
    return counters_by_run


def store_known(
    run_counters: RunCounters, fences: Sequence[Sequence[Any]], statements: sql.Statements
) -> None:
    """Write counters that were not locked, if they still have the known revision and all these (state, attempt) fences hold.

    Then the batch answers with a row. Who moves a fence raises the revision in the same transaction, so seeing both at once is enough.
    """
    statement = sql.statement(
        _STORE_KNOWN,
        v={"id": "bigint", **_TYPES, "revision": "bigint"},
        h={"id": "uuid", "attempt": "int"},
    )
    statements.add(
        statement,
        [
            *sql.values([[*_row(run_counters), run_counters.revision]]),
            len(fences),
            *sql.values(fences),
        ],
        answers=True,
    )
    run_counters.revision += 1


def store(counters_by_run: Iterable[RunCounters], statements: sql.Statements | None = None) -> None:
    """Write the counters back, with the batch if one is given; the revision rises by one."""
    counters_by_run = list(counters_by_run)
    if not counters_by_run:
        return
    table = [_row(run_counters) for run_counters in counters_by_run]
    for run_counters in counters_by_run:
        run_counters.revision += 1
    statement, params = sql.statement(_STORE, v={"id": "bigint", **_TYPES}), sql.values(table)
    if statements is None:
        sql.send(statement, params)
    else:
        statements.add(statement, params)


def _row(run_counters: RunCounters) -> list[Any]:
    return [run_counters.pk, *(_value(run_counters, name) for name in _TYPES)]


def _value(run_counters: RunCounters, name: str) -> Any:
    return (
        node_counts.dump(run_counters.node_counts)
        if name == "node_counts"
        else getattr(run_counters, name)
    )
