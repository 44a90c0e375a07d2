"""The counters of a run: its counts, status and progress.

Every transaction that changes the states of a run uses them the same way:

1. `lock` locks the runs, in the order of their ids, and reads their counters.
2. The counters are changed in memory together with the states.
3. `update_status` derives the status and progress from the counts.
4. `store` writes the counters in one statement and raises the revision.

A worker that follows one run alone may leave out the lock: `store_known` writes counters that it
knows from its last batch, if nothing has changed since.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from graphs.definition import errors
from graphs.definition.plan import Plan
from runs.core import node_counts, sql, statuses
from runs.core.node_counts import BAD, DONE, KNOWN, NodeCounts
from runs.engine import notify, slots, status_rules
from runs.engine.types import NewState
from statemanager.conf import conf


@dataclass(slots=True)
class RunCounters:
    """The changing columns of one run. `_lock_statement` selects them in this order."""

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
    stored_bytes: int = 0
    plan: Plan | None = field(default=None, compare=False)
    # As they were when the counters were read or stored last: `runs.engine.notify` compares.
    known_status: str = field(default="", compare=False)
    known_waiting: int = field(default=0, compare=False)

    @property
    def open(self) -> bool:
        return self.status in statuses.ACTIVE_RUNS

    @property
    def gives_back_slot(self) -> bool:
        """Whether the run has ended and may have a slot (`runs.engine.slots`)."""
        if self.open or self.version_id is None:
            return False
        return self.plan is None or self.plan.concurrency is not None

    # --- counting states ---------------------------------------------------------------------

    def appear(self, identifier: str, retry: bool = False) -> None:
        """Count a new state that will be started."""
        self.started_count += 1
        self.pending_count += 1
        if not retry:
            self.count(identifier, KNOWN)

    def sibling(self, identifier: str) -> None:
        """Count one more output of a fan-out."""
        self.success_count += 1
        self.count(identifier, KNOWN)
        self.count(identifier, DONE)

    def finish(self, identifier: str, status: str) -> None:
        """Count a pending state that reached a final status."""
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

    def enter(self, state: NewState) -> None:
        """Count a state that is about to be stored, whatever its status."""
        self.stored_bytes += state.size
        if state.status == statuses.SUCCESS:
            self.sibling(state.identifier)
            return
        self.appear(state.identifier, retry=state.retry_count > 0)
        if state.status != statuses.CREATED:
            self.finish(state.identifier, state.status)
            self.note_failure(state.identifier, state.error)

    def refusal(self, size: int) -> str:
        """Why the run may not store this many bytes more; "" if it may."""
        limit = conf.MAX_RUN_BYTES
        if self.stored_bytes + size <= limit:
            return ""
        return (
            f"the run would store more than {limit:,} bytes of inputs, outputs and files;"
            " store less, or raise MAX_RUN_BYTES"
        )

    def keep(self, size: int) -> None:
        """Count bytes that are about to be stored, less those that are deleted for them.

        Raises TooLarge if the run may not store them. What was stored before runs counted their
        bytes can be deleted, too; so the counter stops at 0.
        """
        problem = self.refusal(size) if size > 0 else ""
        if problem:
            raise errors.TooLarge(f"Nothing was stored: {problem}.")
        self.stored_bytes = max(0, self.stored_bytes + size)

    def count(self, identifier: str, position: int, by: int = 1) -> None:
        self.node_counts.setdefault(identifier, [0, 0, 0])[position] += by

    def note_failure(self, identifier: str, error: str) -> None:
        """Keep the first failure as the error message of the run."""
        self.error_message = self.error_message or f"{identifier}: {error}"[:2000]

    # --- status and progress -----------------------------------------------------------------

    def update_status(self) -> None:
        """Set the status and progress that follow from the counts, unless the run has ended."""
        if not self.open:
            return
        if self.version_id is None:
            self._update_external_status()
            return
        self.current_step = self.success_count
        if self.pending_count:
            self.status = status_rules.active_status(
                self.paused, self.waiting_count, self.pending_count
            )
        else:
            stop_at_failure = self.plan is not None and self.plan.stop_at_failure
            self.status = status_rules.final_status(
                self.success_count, self.errored_count, self.stopping, stop_at_failure
            )
        self.update_progress()

    def _update_external_status(self) -> None:
        """The program reports the status of its run; only pausing and resuming are ours."""
        if self.paused:
            self.status = statuses.PAUSED
        elif self.status == statuses.PAUSED:
            self.status = statuses.RUNNING

    def update_progress(self, running: float = 0.0) -> None:
        """Set the progress. `running` is the share of one node that states report as done."""
        percent = 0
        if self.plan is not None:
            percent = status_rules.percent_of_nodes(
                self.plan.shape, self.node_counts, self.pending_count == 0, running
            )
        self.progress = status_rules.progress(self.status, percent, self.progress)

    def stop(self, reason: str) -> None:
        """Start no more states of the run. The first reason is the one that stays."""
        if not self.stopping:
            self.stopping = True
            self.error_message = f"Execution stopped: {reason}"


# --- reading -----------------------------------------------------------------------------------


@sql.statement
def _lock_statement(skip_locked: bool) -> str:
    """Lock runs and read their counters.

    All transactions lock in the order of the ids, so none of them waits for another in a circle.
    """
    return f"""
        SELECT id, status, paused, stopping, current_node, current_step, progress,
            started_count, pending_count, waiting_count, success_count, errored_count,
            retried_count, cancelled_count, emitted, log_count, error_message, node_counts,
            revision, max_steps, version_id, stored_bytes
        FROM statemanager_runs_run
        WHERE {sql.among("id", "bigint")}
        ORDER BY id{sql.lock(skip_locked=skip_locked)}
    """


def lock(
    run_ids: Iterable[int], plans: dict[int, Plan] | None = None, skip_locked: bool = False
) -> dict[int, RunCounters]:
    """Lock these runs and read their counters. Runs that no longer exist are left out.

    With `skip_locked`, so are the runs that something else has locked.
    """
    rows = sql.run(_lock_statement(skip_locked), [sql.choices(sorted(set(run_ids)))])
    counters_by_run = {row[0]: RunCounters(*row) for row in rows}
    for run_counters in counters_by_run.values():
        run_counters.node_counts = node_counts.load(str(run_counters.node_counts))
        run_counters.paused = bool(run_counters.paused)
        run_counters.stopping = bool(run_counters.stopping)
        run_counters.plan = (plans or {}).get(run_counters.pk)
        run_counters.known_status = run_counters.status
        run_counters.known_waiting = run_counters.waiting_count
    return counters_by_run


def existing(run_ids: Iterable[int]) -> set[int]:
    """Those of these runs that exist, locked or not."""
    statement = f"SELECT id FROM statemanager_runs_run WHERE {sql.among('id', 'bigint')}"
    return {row[0] for row in sql.run(statement, [sql.choices(run_ids)])}


# --- writing -----------------------------------------------------------------------------------

# The columns that both statements write, with their types.
_COLUMNS = {
    "status": "text",
    "paused": "boolean",
    "stopping": "boolean",
    "current_node": "text",
    "current_step": "int",
    "progress": "int",
    "started_count": "int",
    "pending_count": "int",
    "waiting_count": "int",
    "success_count": "int",
    "errored_count": "int",
    "retried_count": "int",
    "cancelled_count": "int",
    "emitted": "bigint",
    "log_count": "int",
    "error_message": "text",
    "node_counts": "text",
    "stored_bytes": "bigint",
}


def _assignments() -> str:
    """The SET clause of both statements below: counters `v` are written to run `r`."""
    return f"""
            status = v.status, paused = v.paused, stopping = v.stopping,
            current_node = v.current_node, current_step = v.current_step, progress = v.progress,
            started_count = v.started_count, pending_count = v.pending_count,
            waiting_count = v.waiting_count, success_count = v.success_count,
            errored_count = v.errored_count, retried_count = v.retried_count,
            cancelled_count = v.cancelled_count, emitted = v.emitted, log_count = v.log_count,
            error_message = v.error_message, node_counts = v.node_counts,
            stored_bytes = v.stored_bytes,
            revision = r.revision + 1,
            updated_at = {sql.now()},
            started_at = CASE
                WHEN v.status IN ('queued', 'cancelled') THEN r.started_at
                ELSE coalesce(r.started_at, {sql.now()})
            END,
            finished_at = CASE
                WHEN v.status IN ('queued', 'running', 'paused') THEN NULL
                ELSE coalesce(r.finished_at, {sql.now()})
            END
    """


@sql.statement
def _store_statement() -> str:
    """Write the counters of locked runs.

    The columns that every batch changes are in no index, so PostgreSQL updates the row in place
    (HOT) unless its status moves.
    """
    return f"""
        UPDATE statemanager_runs_run AS r
        SET {_assignments()}
        FROM {sql.rows("v", run="bigint", **_COLUMNS)}
        WHERE r.id = v.run
    """


@sql.statement
def _store_known_statement() -> str:
    """Write the counters of one run that was not locked, if nothing has changed since they were
    known: the run has the known revision, and the fences of all given states hold.

    A transaction that moves a fence raises the revision, too, so seeing both at once is enough.
    """
    return f"""
        UPDATE statemanager_runs_run AS r
        SET {_assignments()}
        FROM {sql.rows("v", run="bigint", **_COLUMNS, known_revision="bigint")}
        WHERE r.id = v.run
          AND r.revision = v.known_revision
          AND %s = (
            SELECT count(*)
            FROM {sql.rows("fence", state="uuid", attempt="int")}
            JOIN statemanager_runs_state AS s
              ON s.id = fence.state
             AND s.status IN ('QUEUED', '')
             AND (fence.attempt IS NULL OR s.attempt = fence.attempt)
          )
        RETURNING id
    """


def store_known(
    run_counters: RunCounters,
    fences: Sequence[tuple[str, int | None]],
    statements: sql.Statements,
) -> None:
    """Write counters that were not locked, if they are still as the caller knows them.

    `fences` are the (state, attempt) pairs that must still hold. The batch returns a row if the
    counters were written.
    """
    row = [*_row(run_counters), run_counters.revision]
    params = [*sql.values([row]), len(fences), *sql.values(fences)]
    statements.add(_store_known_statement(), params, returns_rows=True)
    notify.add([run_counters], statements, sql.FIRST_CHANGED_A_ROW)
    run_counters.revision += 1


def store(counters_by_run: Iterable[RunCounters], statements: sql.Statements | None = None) -> None:
    """Write the counters of locked runs, at once or with the given statements."""
    changed = list(counters_by_run)
    if not changed:
        return
    params = sql.values([_row(run_counters) for run_counters in changed])
    for run_counters in changed:
        run_counters.revision += 1
    ended = [run_counters.pk for run_counters in changed if run_counters.gives_back_slot]
    if ended:
        slots.release(ended)
    if statements is None:
        sql.send(_store_statement(), params)
    else:
        statements.add(_store_statement(), params)
    notify.add(changed, statements)


_values_of = attrgetter("pk", *_COLUMNS)
_NODE_COUNTS = 1 + list(_COLUMNS).index("node_counts")


def _row(run_counters: RunCounters) -> list[object]:
    row = list(_values_of(run_counters))
    row[_NODE_COUNTS] = node_counts.dump(run_counters.node_counts)
    return row
