"""The statements that write states and their files.

`runs.engine.record` and its callers decide what is written. Most functions add their statement to
a batch (`sql.Statements`), so that everything that changes together is sent together. `gate` is an
SQL condition: the statement changes nothing unless it holds (`sql.FIRST_CHANGED_A_ROW`).
"""

from collections.abc import Iterable, Sequence

from runs.core import paths, sql, statuses
from runs.engine import advance, priority
from runs.engine.advance import Prepared
from runs.engine.count_outcomes import Ended
from runs.engine.counters import RunCounters
from runs.engine.types import Lease, NewState, Outcome
from runs.models import Artifact

# A lease that ends later than this is absurd and counts as over.
MAX_LEASE_SECONDS = 7 * 24 * 3600

# --- outcomes ----------------------------------------------------------------------------------


_OUTCOME_COLUMNS = {
    "state": "uuid",
    "attempt": "int",
    "status": "text",
    "path": "text",
    "outputs": "jsonb",
    "chosen": "jsonb",
    "error": "text",
    "emitted": "bigint",
    "delay": "float8",
    "claim_in": "float8",
    "waiting_for": "jsonb",
    "paused": "boolean",
    "lost_leases": "int",
}


@sql.statement
def outcomes_statement(gate: str = sql.ALWAYS) -> str:
    """Move claimed states to the statuses that their outcomes give them.

    The status and the attempt are the fence: a state that was cancelled, recovered or claimed
    again keeps what it has. The outcome `lost` counts only while the lease is still over; a
    heartbeat may have renewed it. The states are found by their ids, all in one pass. Returns the
    ids of those that moved.
    """
    return f"""
        UPDATE statemanager_runs_state AS s
        SET status = v.status, path = v.path, outputs = v.outputs, chosen = v.chosen,
            error = v.error, emitted = v.emitted, waiting_for = v.waiting_for,
            paused = v.paused, lost_leases = s.lost_leases + v.lost_leases,
            lease_expires_at = NULL, worker = '',
            due_at = CASE WHEN v.delay IS NULL THEN NULL ELSE {sql.later("v.delay")} END,
            claim_at = coalesce({sql.later("v.claim_in")}, s.claim_at),
            finished_at = CASE WHEN v.status = 'CREATED' THEN NULL ELSE {sql.now()} END
        FROM {sql.rows("v", **_OUTCOME_COLUMNS)}
        WHERE s.id = v.state
          AND s.status IN ('QUEUED', '')
          AND (v.attempt IS NULL OR s.attempt = v.attempt)
          AND {gate}
          AND (
            v.lost_leases = 0
            OR s.lease_expires_at IS NULL
            OR s.lease_expires_at < {sql.now()}
            OR s.lease_expires_at > {sql.later(str(MAX_LEASE_SECONDS))}
          )
        RETURNING id
    """


def store_outcomes(
    ended: Sequence[Ended],
    counters_by_run: dict[int, RunCounters],
    statements: sql.Statements,
    gate: str = sql.ALWAYS,
) -> None:
    """Move the states to their new statuses, where their fence holds.

    Without a gate this is the first statement, and the batch returns the ids that moved.
    """
    table = [
        _outcome_row(prepared, status, counters_by_run[prepared.outcome.state.run.pk])
        for prepared, status in ended
    ]
    statements.add(outcomes_statement(gate), sql.values(table), returns_rows=True)


def _outcome_row(prepared: Prepared, status: str, run_counters: RunCounters) -> list[object]:
    outcome = prepared.outcome
    comes_back = status == statuses.CREATED
    succeeded = status == statuses.SUCCESS
    delay = outcome.delay if comes_back and outcome.kind != "wait" else None
    claim_in = None  # a state that is given back keeps its place
    if delay is not None and outcome.kind == "again":
        claim_in = priority.claim_in(delay, outcome.state.run.priority)
    return [
        outcome.state.id,
        outcome.state.attempt,
        status,
        _path(prepared),
        _outputs(prepared),
        advance.chosen_json(prepared) if succeeded else None,
        prepared.failed or outcome.error,
        outcome.emitted if succeeded else 0,
        delay,
        claim_in,
        outcome.waiting_for if comes_back else None,
        comes_back and run_counters.paused,
        1 if outcome.kind == "lost" else 0,
    ]


def _path(prepared: Prepared) -> str:
    """Where the state is afterwards: a fan-out leaves it at its first output."""
    outcome, state = prepared.outcome, prepared.outcome.state
    if outcome.kind != "done" or not outcome.fanned or prepared.failed:
        return state.path
    if prepared.paths:
        return prepared.paths[0]
    return paths.below(state.path, state.node.index, paths.EMPTY)


def _outputs(prepared: Prepared) -> str | None:
    outcome = prepared.outcome
    if outcome.kind not in ("done", "prune"):
        return None
    return outcome.outputs[0] if outcome.outputs else "{}"


# --- new states --------------------------------------------------------------------------------


_NEW_STATE_COLUMNS = {
    "id": "uuid",
    "run": "bigint",
    "parent": "uuid",
    "namespace": "bigint",
    "worker_namespace": "bigint",
    "retry_count": "int",
    "joined": "boolean",
    "watched": "boolean",
    "identifier": "text",
    "node": "text",
    "path": "text",
    "inputs": "jsonb",
    "status": "text",
    "paused": "boolean",
    "delay": "float8",
    "claim_in": "float8",
    "worker": "text",
    "lease": "float8",
    "outputs": "jsonb",
    "chosen": "jsonb",
    "error": "text",
}


@sql.statement
def new_states_statement(gate: str = sql.ALWAYS, run: str = "v.run") -> str:
    """Insert states. Those with a lease are claimed at once: attempt 1 has begun.

    One statement for any number of states, whose times are all the database's. `run` is an SQL
    expression of the id of their run.
    """
    return f"""
        INSERT INTO statemanager_runs_state (
            id, run_id, parent, namespace_key, worker_namespace_id, created_at, retry_count,
            joined, watched,
            identifier, node, path, inputs, status,
            attempt,
            lost_leases, paused, due_at, claim_at,
            lease_expires_at,
            worker,
            started_at,
            finished_at,
            progress, emitted, outputs, chosen, error, waiting_for, answer
        )
        SELECT
            v.id, {run}, v.parent, v.namespace, v.worker_namespace, {sql.now()}, v.retry_count,
            v.joined, v.watched,
            v.identifier, v.node, v.path, v.inputs, v.status,
            CASE WHEN v.lease IS NULL THEN 0 ELSE 1 END,
            0, v.paused, {sql.later("v.delay")}, {sql.later("v.claim_in")},
            CASE WHEN v.lease IS NULL THEN NULL ELSE {sql.later("v.lease")} END,
            v.worker,
            CASE WHEN v.lease IS NULL THEN NULL ELSE {sql.now()} END,
            CASE WHEN v.status IN ('CREATED', 'QUEUED') THEN NULL ELSE {sql.now()} END,
            0, 0, v.outputs, v.chosen, v.error, NULL, NULL
        FROM {sql.rows("v", **_NEW_STATE_COLUMNS)}
        WHERE {gate}
    """


def insert_states(
    state_rows: Sequence[Sequence[object]], statements: sql.Statements, gate: str = sql.ALWAYS
) -> None:
    """Store new states, each given as its `state_row`."""
    if state_rows:
        statements.add(new_states_statement(gate), sql.values(state_rows))


def insert_states_now(states: Iterable[NewState], paused: bool = False) -> None:
    """Store new states in a statement of their own. `paused` says that their run is paused."""
    statements = sql.Statements()
    insert_states([state_row(state, paused) for state in states], statements)
    statements.flush()


def state_row(state: NewState, paused: bool = False, lease: Lease | None = None) -> list[object]:
    """The row of a new state. With a lease it belongs to that worker at once."""
    node = state.run.plan.nodes[state.identifier]
    waits = state.status == statuses.CREATED and lease is None
    return [
        state.id,
        state.run.pk,
        state.parent,
        state.run.namespace_id,
        state.run.worker_namespace(node.worker_namespace),
        state.retry_count,
        state.joined,
        bool(state.run.plan.shape.watchers[state.identifier]),
        state.identifier,
        node.kind,
        state.path,
        state.inputs_json,
        statuses.QUEUED if lease else state.status,
        paused and waits,
        state.delay if waits else None,
        priority.claim_in(state.delay, state.run.priority),
        lease.worker if lease else "",
        lease.seconds if lease else None,
        state.outputs_json,
        state.chosen_json,
        state.error,
    ]


# --- cancelling --------------------------------------------------------------------------------


@sql.statement
def _cancel_created_statement() -> str:
    """Cancel the states of these runs that no worker holds. Returns their runs and identifiers."""
    return f"""
        UPDATE statemanager_runs_state
        SET status = 'CANCELLED', finished_at = {sql.now()}, due_at = NULL,
            lease_expires_at = NULL, waiting_for = NULL, paused = false
        WHERE {sql.among("run_id", "bigint")} AND status = 'CREATED'
        RETURNING run_id, identifier
    """


@sql.statement
def _cancel_unfinished_statement() -> str:
    """Cancel the unfinished states of these runs, even those that workers hold.

    Their workers' outcomes come too late, because the status is part of the fence. Returns the
    runs and identifiers of the states.
    """
    return f"""
        UPDATE statemanager_runs_state
        SET status = 'CANCELLED', finished_at = {sql.now()}, due_at = NULL,
            lease_expires_at = NULL, waiting_for = NULL, paused = false
        WHERE {sql.among("run_id", "bigint")} AND status IN ('CREATED', 'QUEUED')
        RETURNING run_id, identifier
    """


def cancel_unstarted(counters_by_run: dict[int, RunCounters]) -> None:
    """Cancel the states that are not yet started, in the runs that are stopping."""
    stopping = {pk: counters for pk, counters in counters_by_run.items() if counters.stopping}
    if stopping:
        _cancel(_cancel_created_statement(), stopping)


def cancel_unfinished(run_counters: RunCounters) -> None:
    """Cancel all states of the run that have not ended."""
    cancel_all_unfinished({run_counters.pk: run_counters})


def cancel_all_unfinished(counters_by_run: dict[int, RunCounters]) -> None:
    """Cancel all states of these runs that have not ended."""
    _cancel(_cancel_unfinished_statement(), counters_by_run)


def _cancel(statement: str, counters_by_run: dict[int, RunCounters]) -> None:
    for pk, identifier in sql.run(statement, [sql.choices(counters_by_run)]):
        counters_by_run[pk].finish(identifier, statuses.CANCELLED)
    for run_counters in counters_by_run.values():
        run_counters.waiting_count = 0


# --- files -------------------------------------------------------------------------------------


def insert_artifacts(ended: Iterable[Ended]) -> None:
    """Store the files of the attempts that succeeded."""
    artifacts: list[Artifact] = []
    for prepared, status in ended:
        if status == statuses.SUCCESS:
            artifacts += _artifacts(prepared.outcome)
    if artifacts:
        Artifact.objects.bulk_create(artifacts)


def _artifacts(outcome: Outcome) -> list[Artifact]:
    state = outcome.state
    return [
        Artifact(run_id=state.run.pk, state=state.id, identifier=state.identifier, **file)
        for file in outcome.files
    ]
