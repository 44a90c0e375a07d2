"""Claiming ready states.

1. One statement takes the oldest ready states of the wanted nodes: it raises their attempt, which
   is the fence, and begins a lease by the database's clock. On PostgreSQL the same statement moves
   their runs from queued to running.
2. The unchanging facts about their runs come from a cache of the process, or from one more
   statement.

A worker of ours asks for groups of nodes, each group with its own limit, so that it takes only
what it can start. An external worker asks for nodes of its namespace, with one limit.

States that lost a worker are in *quarantine*, because one of them may have killed it. Those that
lost one worker run among themselves. Those that lost more run alone, so that a node that kills its
process takes no other state with it.
"""

from collections.abc import Iterable, Sequence

from django.db import connection, transaction

from runs.core import sql
from runs.engine.claimed_states import FactsCache, claimed_states
from runs.engine.scan_floors import ScanFloors
from runs.engine.types import Claimed

Group = tuple[Sequence[str], int]  # nodes, and how many of their states at most

# Conditions for the states to claim. Those of quarantined states begin as the partial index
# sm_state_quarantined does, so that PostgreSQL uses it.
FRESH = "lost_leases = 0"
QUARANTINED = "lost_leases > 0"
LOST_ONCE = "lost_leases > 0 AND lost_leases = 1"
LOST_OFTEN = "lost_leases > 0 AND lost_leases > 1"

# When the run of a claimed state was created, by which cached facts about it are checked. A worker
# of ours needs no check: its facts are those that its own connection has read.
_CREATED_AT = """(
    SELECT r.created_at FROM statemanager_runs_run r WHERE r.id = statemanager_runs_state.run_id
)"""
_UNCHECKED = "NULL"

# --- claiming for a worker of ours ---------------------------------------------------------------


def claim(
    worker: str,
    groups: Iterable[Group],
    lease_seconds: float,
    facts: FactsCache,
    quarantine: str = FRESH,
    scan_floors: ScanFloors | None = None,
) -> list[Claimed]:
    """Claim up to each group's limit of ready states, oldest first, for `lease_seconds`.

    `quarantine` is FRESH, QUARANTINED, LOST_ONCE or LOST_OFTEN.
    """
    groups = [(nodes, limit) for nodes, limit in groups if nodes and limit > 0]
    if not groups:
        return []
    sizes = tuple((len(nodes), limit) for nodes, limit in groups)
    statement = claim_statement(sizes, quarantine)
    all_nodes = [node for nodes, _ in groups for node in nodes]
    if not sql.postgres():
        # Looking takes no lock, and SQLite has only one.
        if not work_is_ready(all_nodes, quarantine):
            return []
        return _take(statement, [*all_nodes, worker, lease_seconds], facts)
    floors = scan_floors or ScanFloors()
    floors.renew()
    nodes_with_floors = [value for node in all_nodes for value in (node, floors.of(node))]
    return _take(statement, [*nodes_with_floors, worker, lease_seconds], facts, floors)


@sql.statement
def claim_statement(groups: tuple[tuple[int, int], ...], quarantine: str = FRESH) -> str:
    """Claim for a worker of ours, given (number of nodes, limit) of each group.

    Parameters: for each node its name and, on PostgreSQL, its scan floor; the worker; the lease.

    Each node is read from its own place in the index, so that many ready states of one node don't
    hide the others. The limits are part of the text, because a plan that was prepared for an
    unknown limit would sort everything that is ready.
    """
    candidates = ", ".join(
        f"g{at} AS ({_oldest_of_nodes(_ready(quarantine, limit), nodes, str(limit))})"
        for at, (nodes, limit) in enumerate(groups)
    )
    union = " UNION ALL ".join(f"SELECT id FROM g{at}" for at in range(len(groups)))
    return _claim_candidates(candidates, union)


def _ready(quarantine: str, limit: int) -> str:
    """The oldest ready states of one node of ours, from sm_state_ready or sm_state_quarantined."""
    if sql.postgres():
        return f"""
            SELECT id, due_at FROM statemanager_runs_state
            WHERE status = 'CREATED' AND worker_namespace_id IS NULL AND NOT paused
              AND due_at IS NOT NULL AND due_at <= statement_timestamp()
              AND {quarantine} AND node = %s AND due_at >= %s
            ORDER BY due_at, id LIMIT {limit} FOR UPDATE SKIP LOCKED
        """
    return f"""
        SELECT id, due_at FROM statemanager_runs_state
        WHERE status = 'CREATED' AND worker_namespace_id IS NULL AND NOT paused
          AND due_at IS NOT NULL AND due_at <= {sql.now()}
          AND {quarantine} AND node = %s
        ORDER BY due_at, id LIMIT {limit}
    """


def _oldest_of_nodes(ready: str, nodes: int, limit: str) -> str:
    """The oldest of the states that `ready` selects for each of this many nodes."""
    union = " UNION ALL ".join(f"SELECT id, due_at FROM ({ready}) k{at}" for at in range(nodes))
    return f"SELECT id FROM ({union}) oldest ORDER BY due_at, id LIMIT {limit}"


def _start_queued_runs() -> str:
    """On PostgreSQL, the part of a claim that starts the queued runs of the states in `taken`.

    A run that another transaction has locked is skipped: the sweeper starts it
    (`lease_recovery.mark_running`).
    """
    return """
                UPDATE statemanager_runs_run
                SET status = 'running', started_at = statement_timestamp(),
                    updated_at = statement_timestamp(), revision = revision + 1
                WHERE id IN (
                    SELECT id FROM statemanager_runs_run
                    WHERE id IN (SELECT run_id FROM taken) AND status = 'queued'
                    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
                )
    """


def _name_current_nodes() -> str:
    """The same for an external worker, which names the node that it holds in the run, too.

    Nobody knows when the worker shows a sign of life next. No column that changes is indexed but
    the status of a queued run, so PostgreSQL updates the rows in place. A run that is locked is
    skipped: whatever has locked it names the node that it works on.
    """
    return """
                UPDATE statemanager_runs_run r
                SET status = 'running', current_node = held.identifier,
                    started_at = coalesce(r.started_at, statement_timestamp()),
                    updated_at = statement_timestamp(), revision = r.revision + 1
                FROM (
                    SELECT DISTINCT ON (run_id) run_id, identifier FROM taken ORDER BY run_id, id
                ) held
                WHERE r.id = held.run_id AND r.id IN (
                    SELECT id FROM statemanager_runs_run
                    WHERE id IN (SELECT run_id FROM taken) AND status IN ('queued', 'running')
                    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
                )
                RETURNING r.id, r.revision
    """


def _claim_candidates(candidates: str, union: str, for_worker: bool = False) -> str:
    """Claim the states in `union`, whose common table expressions are `candidates`.

    On PostgreSQL the same statement changes their runs. For an external worker each row ends with
    the run's new revision, or NULL if the run was not changed.
    """
    created_at = _CREATED_AT if for_worker else _UNCHECKED
    if sql.postgres():
        return f"""
            WITH {candidates},
            taken AS (
                UPDATE statemanager_runs_state
                SET status = 'QUEUED', attempt = attempt + 1, worker = %s,
                    lease_expires_at = statement_timestamp() + make_interval(secs => %s),
                    started_at = statement_timestamp(), progress = 0
                WHERE id IN ({union}) AND status = 'CREATED'
                RETURNING id, run_id, identifier, path, inputs, attempt, parent, retry_count,
                    lost_leases, answer, {created_at} AS created_at, node, due_at
            ),
            changed AS ({_name_current_nodes() if for_worker else _start_queued_runs()})
            SELECT taken.*{", changed.revision" if for_worker else ""} FROM taken
            {"LEFT JOIN changed ON changed.id = taken.run_id" if for_worker else ""}
        """
    return f"""
        WITH {candidates}
        UPDATE statemanager_runs_state
        SET status = 'QUEUED', attempt = attempt + 1, worker = %s,
            lease_expires_at = {sql.later("%s")},
            started_at = {sql.now()}, progress = 0
        WHERE id IN ({union}) AND status = 'CREATED'
        RETURNING id, run_id, identifier, path, inputs, attempt, parent, retry_count,
            lost_leases, answer, {created_at} AS created_at, node, due_at
    """


@sql.statement
def _start_runs_statement() -> str:
    """On SQLite, the second statement of a claim: its queued runs are running now."""
    return f"""
        UPDATE statemanager_runs_run
        SET status = 'running', started_at = {sql.now()}, updated_at = {sql.now()},
            revision = revision + 1
        WHERE id IN (
            SELECT id FROM statemanager_runs_run
            WHERE {sql.among("id", "bigint")} AND status = 'queued'
            ORDER BY id
        )
    """


@sql.statement
def _name_nodes_statement() -> str:
    """The same for an external worker, which names the node that it holds in the run, too."""
    return f"""
        UPDATE statemanager_runs_run AS r
        SET status = 'running', current_node = v.node,
            started_at = coalesce(r.started_at, {sql.now()}), updated_at = {sql.now()},
            revision = r.revision + 1
        FROM {sql.rows("v", run="bigint", node="text")}
        WHERE r.id = v.run AND r.status IN ('queued', 'running')
    """


@sql.statement
def _work_is_ready_statement(quarantine: str) -> str:
    """Whether any state of these nodes of ours is ready; the first index entry answers."""
    return f"""
        SELECT 1 FROM statemanager_runs_state
        WHERE status = 'CREATED' AND worker_namespace_id IS NULL AND NOT paused
          AND due_at IS NOT NULL AND due_at <= {sql.now()}
          AND {quarantine} AND {sql.among("node", "text")}
        LIMIT 1
    """


def work_is_ready(nodes: Iterable[str], quarantine: str = "true") -> bool:
    """Whether a state of one of these nodes of ours could be claimed now."""
    return bool(sql.run(_work_is_ready_statement(quarantine), [sql.choices(nodes)]))


# --- claiming for an external worker -------------------------------------------------------------


def claim_for_worker(
    worker: str,
    namespace: int,
    nodes: Sequence[str],
    limit: int,
    lease_seconds: float,
    facts: FactsCache,
) -> tuple[list[Claimed], dict[int, int]]:
    """Claim up to `limit` ready states of these nodes of a namespace for an external worker.

    Returns the states, and the new revisions of the runs in which the claim named their nodes, as
    far as they are known.
    """
    params = [value for node in nodes for value in (namespace, node)]
    if not sql.postgres() and not sql.run(_work_for_worker_statement(len(nodes)), params):
        return [], {}  # looking takes no lock, and SQLite has only one
    # Rounded up to a power of two, so that there are few statements to prepare.
    limit_of_node = 1 << (limit - 1).bit_length()
    statement = claim_for_worker_statement(len(nodes), limit_of_node)
    rows = _take_rows(statement, [*params, limit, worker, lease_seconds], for_worker=True)
    revisions = {row[1]: row[-1] for row in rows if row[-1]} if sql.postgres() else {}
    return _claimed(rows, facts), revisions


@sql.statement
def claim_for_worker_statement(nodes: int, limit_of_node: int) -> str:
    """Claim for an external worker, from this many nodes.

    Parameters: for each node its namespace and name; the limit; the worker; the lease. Each node
    is read from its own place in sm_state_ready_for_worker.
    """
    ready = f"""
        SELECT id, due_at FROM statemanager_runs_state
        WHERE status = 'CREATED' AND worker_namespace_id = %s AND NOT paused
          AND due_at IS NOT NULL AND due_at <= {sql.now()} AND node = %s
        ORDER BY due_at, id LIMIT {limit_of_node}{sql.lock("UPDATE", skip_locked=True)}
    """
    candidates = f"g0 AS ({_oldest_of_nodes(ready, nodes, '%s')})"
    return _claim_candidates(candidates, "SELECT id FROM g0", for_worker=True)


@sql.statement
def _work_for_worker_statement(nodes: int) -> str:
    """On SQLite, whether any state of this many nodes is ready for an external worker."""
    ready = f"""
        SELECT 1 FROM statemanager_runs_state
        WHERE status = 'CREATED' AND worker_namespace_id = %s AND NOT paused
          AND due_at IS NOT NULL AND due_at <= {sql.now()} AND node = %s
    """
    return f"SELECT * FROM ({' UNION ALL '.join([ready] * nodes)}) r LIMIT 1"


def _take(
    statement: str,
    params: Sequence[object],
    facts: FactsCache,
    scan_floors: ScanFloors | None = None,
) -> list[Claimed]:
    rows = _take_rows(statement, params)
    if scan_floors:
        scan_floors.note(rows)
    return _claimed(rows, facts)


def _take_rows(
    statement: str, params: Sequence[object], for_worker: bool = False
) -> Sequence[sql.Row]:
    if sql.postgres():  # one statement is one transaction
        return sql.run(statement, params)
    with transaction.atomic():
        rows = sql.run(statement, params)
        if not for_worker:
            sql.send(_start_runs_statement(), [sql.choices({row[1] for row in rows})])
        elif rows:
            oldest_last = sorted(rows, key=lambda row: sql.key(row[0]), reverse=True)
            nodes = {row[1]: row[2] for row in oldest_last}
            sql.send(_name_nodes_statement(), sql.values(list(nodes.items())))
    return rows


def _claimed(rows: Sequence[sql.Row], facts: FactsCache) -> list[Claimed]:
    facts.keep_for(connection.connection)
    return sorted(claimed_states(rows, facts), key=lambda state: state.id)
