"""The statements that write states, log lines and files. What they write is decided in `runs.engine.record`.

Each takes a batch, so that what changes together travels together; `gate` is a condition under which the statement does anything.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from runs.core import paths, sql, statuses
from runs.engine import advance
from runs.engine.advance import Prepared
from runs.engine.counters import RunCounters
from runs.engine.types import Claimed, Lease, Line, NewState
from runs.models import Artifact

LONGEST_LEASE_SECONDS = 7 * 24 * 3600  # a lease that ends later is absurd and counts as over
LOG_LINES_PER_RUN = 20_000
Ended = tuple[Prepared, str]  # an outcome and the status that its state gets

_COLUMNS = {
    "id": "uuid", "attempt": "int", "status": "text", "path": "text", "outputs": "jsonb", "chosen": "jsonb", "error": "text",
    "emitted": "bigint", "delay": "float8", "waiting_for": "jsonb", "paused": "boolean", "lost_leases": "int",
}  # fmt: skip
_RECORD = """
    UPDATE statemanager_runs_state SET status = v.status, path = v.path, outputs = v.outputs, chosen = v.chosen, error = v.error,
        emitted = v.emitted, waiting_for = v.waiting_for, paused = v.paused, lost_leases = statemanager_runs_state.lost_leases + v.lost_leases,
        lease_expires_at = NULL, worker = '', due_at = CASE WHEN v.delay IS NULL THEN NULL ELSE {due} END,
        finished_at = CASE WHEN v.status = 'CREATED' THEN NULL ELSE {now} END
    FROM {v} WHERE statemanager_runs_state.id = v.id AND statemanager_runs_state.status {queued} AND (v.attempt IS NULL OR statemanager_runs_state.attempt = v.attempt)
        AND {gate} AND (v.lost_leases = 0 OR statemanager_runs_state.lease_expires_at IS NULL OR statemanager_runs_state.lease_expires_at < {now} OR statemanager_runs_state.lease_expires_at > {far})
    RETURNING statemanager_runs_state.id
"""


def store_outcomes(
    ended: Sequence[Ended],
    counters_by_run: dict[int, RunCounters],
    statements: sql.Statements,
    gate: str = "true",
) -> None:
    """Move the states to their new statuses, where their fence holds; the batch answers with the ids that moved."""
    table = [
        _row(each, status, counters_by_run[each.outcome.state.run.pk]) for each, status in ended
    ]
    statement = sql.statement(
        _RECORD, gate, due="v.delay", far=str(LONGEST_LEASE_SECONDS), v=_COLUMNS
    )
    statements.add(statement, sql.values(table), answers=True)


def _row(each: Prepared, status: str, run_counters: RunCounters) -> list[Any]:
    outcome, state = each.outcome, each.outcome.state
    comes_back = status == statuses.CREATED
    path = state.path
    if outcome.kind == "done" and outcome.fanned and not each.failed:
        path = (
            each.paths[0] if each.paths else paths.below(state.path, state.node.index, paths.EMPTY)
        )
    return [
        state.id,
        state.attempt,
        status,
        path,
        (outcome.outputs[0] if outcome.outputs else "{}")
        if outcome.kind in ("done", "prune")
        else None,
        advance.chosen_json(each) if status == statuses.SUCCESS else None,
        each.failed or outcome.error,
        outcome.emitted if status == statuses.SUCCESS else 0,
        outcome.delay if comes_back and outcome.kind != "wait" else None,
        outcome.waiting_for if comes_back else None,
        comes_back and run_counters.paused,
        1 if outcome.kind == "lost" else 0,
    ]


_NEW = {
    "id": "uuid", "run": "bigint", "parent": "uuid", "namespace": "bigint", "retry_count": "int", "joined": "boolean", "watched": "boolean",
    "identifier": "text", "node": "text", "path": "text", "inputs": "jsonb", "status": "text", "paused": "boolean", "delay": "float8",
    "worker": "text", "lease": "float8", "outputs": "jsonb", "chosen": "jsonb", "error": "text",
}  # fmt: skip
_INSERT = """
    INSERT INTO statemanager_runs_state (id, run_id, parent, worker_namespace_id, created_at, retry_count, joined, watched, identifier, node, path, inputs, status,
        attempt, lost_leases, paused, due_at, lease_expires_at, worker, started_at, finished_at, progress, emitted, outputs, chosen, error, waiting_for, answer)
    SELECT v.id, v.run, v.parent, v.namespace, {now}, v.retry_count, v.joined, v.watched, v.identifier, v.node, v.path, v.inputs, v.status,
        CASE WHEN v.lease IS NULL THEN 0 ELSE 1 END, 0, v.paused, {due}, CASE WHEN v.lease IS NULL THEN NULL ELSE {lease} END,
        v.worker, CASE WHEN v.lease IS NULL THEN NULL ELSE {now} END, CASE WHEN v.status IN ('CREATED', 'QUEUED') THEN NULL ELSE {now} END,
        0, 0, v.outputs, v.chosen, v.error, NULL, NULL
    FROM {v} WHERE {gate}
"""


def insert(table: Sequence[Sequence[Any]], statements: sql.Statements, gate: str = "true") -> None:
    """Store new states, given as `new_row`s."""
    if table:
        statements.add(
            sql.statement(_INSERT, gate, due="v.delay", lease="v.lease", v=_NEW), sql.values(table)
        )


def new_row(state: NewState, paused: bool = False, lease: Lease | None = None) -> list[Any]:
    """A new state as `insert` takes it; with a lease it is that worker's at once."""
    node, waits = (
        state.run.plan.nodes[state.identifier],
        state.status == statuses.CREATED and lease is None,
    )
    return [
        state.id, state.run.pk, state.parent, state.run.worker_namespace(node.worker_namespace), state.retry_count,
        state.joined, bool(state.run.plan.shape.watchers[state.identifier]),
        state.identifier, node.kind, state.path, state.inputs_json, statuses.QUEUED if lease else state.status, paused and waits,
        state.delay if waits else None, lease.worker if lease else "", lease.seconds if lease else None,
        state.outputs_json, state.chosen_json, state.error,
    ]  # fmt: skip


_CANCEL = """
    UPDATE statemanager_runs_state SET status = 'CANCELLED', finished_at = {now}, due_at = NULL, lease_expires_at = NULL, waiting_for = NULL, paused = false
    WHERE {among} AND status IN ({statuses}) RETURNING run_id, identifier
"""


def cancel_unstarted(
    counters_by_run: dict[int, RunCounters], words: str = "'CREATED'", every: bool = False
) -> None:
    """Cancel the CREATED states of the runs that stop (or, on cancel, all unfinished ones of these runs)."""
    stopping = [
        pk for pk, run_counters in counters_by_run.items() if every or run_counters.stopping
    ]
    if not stopping:
        return
    statement = _CANCEL.format(now=sql.now(), among=sql.among("run_id", "bigint"), statuses=words)
    for pk, identifier in sql.run(statement, [sql.choices(stopping)]):
        counters_by_run[pk].finish(identifier, statuses.CANCELLED)
    for pk in stopping:
        counters_by_run[pk].waiting_count = 0


_LINES = {
    "run": "bigint",
    "state": "uuid",
    "attempt": "int",
    "identifier": "text",
    "level": "text",
    "message": "text",
    "at": "timestamptz",
}
_LOG = """
    INSERT INTO statemanager_runs_logline (run_id, state, attempt, identifier, level, message, created_at)
    SELECT v.run, v.state, v.attempt, v.identifier, v.level, v.message, v.at FROM {v} WHERE {gate}
"""


def line_rows(lines: Iterable[tuple[Claimed, Line]]) -> list[list[Any]]:
    return [
        [state.run.pk, state.id, state.attempt or 0, state.identifier, level, text, sql.stamp(at)]
        for state, (at, level, text) in lines
    ]


def insert_lines(
    table: Sequence[Sequence[Any]], statements: sql.Statements, gate: str = "true"
) -> None:
    """Store log lines: (run, state, attempt, identifier, level, message, time)."""
    if table:
        statements.add(sql.statement(_LOG, gate, v=_LINES), sql.values(table))


def drop_oldest_lines(run_counters: RunCounters, statements: sql.Statements) -> None:
    """Keep a run's log within its limit; a tenth over it is let pass, so that this is rare. The counters is to be stored afterwards."""
    if run_counters.log_count > LOG_LINES_PER_RUN * 1.1:
        surplus = run_counters.log_count - LOG_LINES_PER_RUN
        statements.add(
            "DELETE FROM statemanager_runs_logline WHERE id IN (SELECT id FROM statemanager_runs_logline WHERE run_id = %s ORDER BY id LIMIT %s)",
            [run_counters.pk, surplus],
        )
        run_counters.log_count = LOG_LINES_PER_RUN


def keep_files(ended: Iterable[Ended]) -> None:
    """Note the files of recorded attempts."""
    files = [
        (each.outcome.state, file)
        for each, status in ended
        if status == statuses.SUCCESS
        for file in each.outcome.files
    ]
    if files:
        Artifact.objects.bulk_create(
            Artifact(run_id=state.run.pk, state=state.id, identifier=state.identifier, **file)
            for state, file in files
        )
