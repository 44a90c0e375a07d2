"""Claiming ready states.

1. The worker looks up which namespaces have ready states of the wanted nodes (`runs.engine.turns`).
2. One statement takes some of each, first those of the namespaces whose turn it is, and of a
   namespace those with the earliest `claim_at` (`runs.engine.priority`). It raises their attempt,
   which is the fence, and begins a lease by the database's clock. On PostgreSQL the same statement
   moves their runs from queued to running.
3. The unchanging facts about their runs come from a cache of the process, or from one more
   statement.

A worker of ours asks for groups of nodes, each group with its own limit, so that it takes only
what it can start. An external worker asks for nodes of its namespace, with one limit.

States that lost a worker are in *quarantine*, because one of them may have killed it. Those that
lost one worker run among themselves. Those that lost more run alone, so that a node that kills its
process takes no other state with it.
"""

from collections.abc import Collection, Iterable, Sequence

from django.db import connection, transaction

from runs.core import sql
from runs.engine.claimed_states import FactsCache, claimed_states
from runs.engine.turns import OF_WORKER, OURS, BacklogClaim, Group, Turns, is_claimable, look
from runs.engine.types import Claimed

# Conditions for quarantined states. They begin as the partial index sm_state_quarantined does, so
# that PostgreSQL uses it.
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
    turns: Turns | None = None,
) -> list[Claimed]:
    """Claim up to each group's limit of ready states, for `lease_seconds`.

    `turns` is what the worker remembers of earlier claims.
    """
    wanted = {kind: group for kind, group in enumerate(groups) if group.nodes and group.limit > 0}
    nodes = {node for group in wanted.values() for node in group.nodes}
    if not nodes:
        return []
    turns = turns or Turns()
    turns.renew_if_due(nodes)
    rows = _claim_known(worker, wanted, lease_seconds, turns)
    if not rows and not turns.just_renewed:  # before it says that there is nothing to do
        turns.renew(nodes)
        rows = _claim_known(worker, wanted, lease_seconds, turns)
    return _claimed(rows, facts)


def _claim_known(
    worker: str, groups: dict[int, Group], lease_seconds: float, turns: Turns
) -> Sequence[sql.Row]:
    """Claim from the backlogs that are known to have ready states."""
    claims = [
        BacklogClaim(kind, turns.backlogs_of(group), group.limit) for kind, group in groups.items()
    ]
    if not any(each.backlogs for each in claims):
        return []
    rows = _take_rows(*_statement(claims, turns, worker, lease_seconds))
    for each in claims:
        turns.note(each, rows)
    return rows


def rehearse(groups: Iterable[Group]) -> None:
    """Let PostgreSQL plan the claim of these groups. It claims nothing."""
    claims = [
        BacklogClaim(kind, [], group.limit)
        for kind, group in enumerate(groups)
        if group.nodes and group.limit > 0
    ]
    _take_rows(*_statement(claims, Turns(), "", 0))


def _statement(
    claims: Sequence[BacklogClaim], turns: Turns, worker: str, lease_seconds: float
) -> tuple[str, list[object]]:
    """The statement and its parameters. It has a part for each group, even without a backlog.

    So there are few statements to prepare.
    """
    statement = claim_statement(tuple((each.limit_of_backlog, each.limit) for each in claims))
    heads = [value for each in claims for value in _heads(each, turns)]
    return statement, [*heads, worker, lease_seconds]


_NO_HEAD = (-1, "", "2000-01-01 00:00:00+00", 0.0, 1)


def _heads(claim: BacklogClaim, turns: Turns) -> list[object]:
    """The parameters for the heads of the backlogs."""
    if not claim.backlogs:
        return sql.values([_NO_HEAD])
    passes = turns.passes(claim)
    return sql.values(
        [
            [
                backlog.namespace,
                backlog.node,
                turns.floor(backlog),
                passes[backlog.namespace],
                backlog.weight,
            ]
            for backlog in claim.backlogs
        ]
    )


@sql.statement
def claim_statement(groups: tuple[tuple[int, int], ...]) -> str:
    """Claim for a worker of ours, given (limit of each backlog, limit) of each group.

    Parameters: the heads of the backlogs of each group; the worker; the lease. The limits are part
    of the text, because a plan that was prepared for an unknown limit would sort everything that
    is ready.
    """
    candidates = ", ".join(
        f"g{at} AS ({_in_turn(OURS, limit_of_backlog, str(limit))})"
        for at, (limit_of_backlog, limit) in enumerate(groups)
    )
    union = " UNION ALL ".join(f"SELECT id FROM g{at}" for at in range(len(groups)))
    return _claim_candidates(candidates, union)


def _in_turn(owner: str, limit_of_backlog: int, limit: str) -> str:
    """The ready states to take from some backlogs, each read from its own place in the index.

    The states of a namespace have their turns at its pass plus 1/weight, 2/weight and so on.
    With OF_WORKER the worker's namespace is the last parameter before the limit.
    """
    ready = f"""
        SELECT id{", claim_at" if sql.postgres() else ""} FROM statemanager_runs_state
        WHERE {is_claimable(owner, fresh=owner == OURS)}
          AND namespace_key = v.namespace AND node = v.node
          AND claim_at >= v.floor_at AND claim_at <= {sql.now()} AND due_at <= {sql.now()}
        ORDER BY claim_at, id LIMIT {limit_of_backlog}
    """
    heads = sql.rows(
        "v", namespace="bigint", node="text", floor_at="timestamptz", turn="float8", weight="int"
    )
    if sql.postgres():
        states = f"CROSS JOIN LATERAL ({ready} FOR UPDATE SKIP LOCKED) s"
    else:
        states = f"CROSS JOIN statemanager_runs_state s WHERE s.id IN ({ready})"
    return f"""
        SELECT id FROM (
            SELECT s.id, s.claim_at, v.turn + 1.0 / v.weight * row_number() OVER (
                PARTITION BY v.namespace ORDER BY s.claim_at, s.id
            ) AS turn
            FROM {heads} {states}
        ) candidates ORDER BY turn, claim_at, id LIMIT {limit}
    """


def work_is_ready(nodes: Collection[str]) -> bool:
    """Whether a state of one of these nodes of ours could be claimed now."""
    return bool(look(nodes).backlogs) or quarantined_work_is_ready(nodes)


# --- claiming quarantined states -----------------------------------------------------------------


def claim_quarantined(
    worker: str, group: Group, lease_seconds: float, facts: FactsCache, quarantine: str
) -> list[Claimed]:
    """Claim quarantined states, those that have been due longest first.

    `quarantine` is QUARANTINED, LOST_ONCE or LOST_OFTEN.
    """
    if group.limit < 1:
        return []
    statement = claim_quarantined_statement(group.limit, quarantine)
    return _claimed(_take_rows(statement, [sql.choices(group.nodes), worker, lease_seconds]), facts)


@sql.statement
def claim_quarantined_statement(limit: int, quarantine: str) -> str:
    """Parameters: the nodes; the worker; the lease. The index holds nothing but such states."""
    candidates = f"""
        SELECT id FROM statemanager_runs_state
        WHERE {is_claimable(OURS, fresh=False)} AND {quarantine}
          AND due_at <= {sql.now()} AND {sql.among("node", "text")}
        ORDER BY due_at, id LIMIT {limit}{sql.lock("UPDATE", skip_locked=True)}
    """
    return _claim_candidates(f"g0 AS ({candidates})", "SELECT id FROM g0")


@sql.statement
def _quarantined_work_statement() -> str:
    return f"""
        SELECT 1 FROM statemanager_runs_state
        WHERE {is_claimable(OURS, fresh=False)} AND {QUARANTINED}
          AND due_at <= {sql.now()} AND {sql.among("node", "text")}
        LIMIT 1
    """


def quarantined_work_is_ready(nodes: Collection[str]) -> bool:
    """Whether a quarantined state of one of these nodes could be claimed now."""
    return bool(sql.run(_quarantined_work_statement(), [sql.choices(nodes)]))


# --- changing the states and their runs ----------------------------------------------------------


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
                    lost_leases, answer, {created_at} AS created_at, node, claim_at, namespace_key
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
            lost_leases, answer, {created_at} AS created_at, node, claim_at, namespace_key
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


# --- claiming for an external worker -------------------------------------------------------------


def claim_for_worker(
    worker: str,
    nodes: Sequence[str],
    limit: int,
    lease_seconds: float,
    facts: FactsCache,
    turns: Turns,
) -> tuple[list[Claimed], dict[int, int]]:
    """Claim up to `limit` ready states of these nodes for an external worker.

    `turns` belongs to the namespace of the worker. Returns the states, and the new revisions of the
    runs in which the claim named their nodes, as far as they are known.
    """
    turns.renew(nodes)
    backlogs = turns.backlogs_of(Group(nodes, limit))
    if not backlogs:
        return [], {}
    wanted = BacklogClaim(0, backlogs, limit)
    params = [*_heads(wanted, turns), turns.worker_namespace, limit]
    statement = claim_for_worker_statement(wanted.limit_of_backlog)
    rows = _take_rows(statement, [*params, worker, lease_seconds], for_worker=True)
    turns.note(wanted, rows)
    revisions = {row[1]: row[-1] for row in rows if row[-1]} if sql.postgres() else {}
    return _claimed(rows, facts), revisions


@sql.statement
def claim_for_worker_statement(limit_of_backlog: int) -> str:
    """Claim for an external worker.

    Parameters: the heads of the backlogs; the namespace of the worker; the limit; the worker; the
    lease.
    """
    candidates = f"g0 AS ({_in_turn(OF_WORKER, limit_of_backlog, '%s')})"
    return _claim_candidates(candidates, "SELECT id FROM g0", for_worker=True)


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
