"""Claimed states as their workers see them, with the cached facts about their runs.

A process may live longer than the rows that it knows. After a failover to a replica that lacked the
last commits, or after a restored backup, their keys belong to new rows. No connection survives
that, so a worker of ours forgets the facts about runs with its connection. Where several threads
share them, they are looked up by the key and the time of creation. Plans are looked up by the key
and the checksum of their version. No other row can have both.
"""

from collections.abc import Iterable, Mapping, Sequence

from runs.core import sql
from runs.engine.types import Claimed, Moment, RunFacts

# The columns that `claimed` reads, in its order.
CLAIMED_COLUMNS = """
    s.id, s.run_id, s.identifier, s.path, s.inputs, s.attempt, s.parent, s.retry_count,
    s.lost_leases, s.answer,
    (SELECT r.created_at FROM statemanager_runs_run r WHERE r.id = s.run_id)
"""
CREATED_AT = 10  # the place of the time at which the state's run was created


# --- the facts about runs ------------------------------------------------------------------------


class FactsCache:
    """The unchanging columns of the runs that a process works on, of at most `limit` runs."""

    def __init__(self, limit: int = 2000) -> None:
        self._known: dict[int, RunFacts] = {}
        self._limit = limit
        self._connection: object = None

    def keep_for(self, connection: object) -> None:
        """Forget everything unless it was read on this connection."""
        if connection is not self._connection:
            self._known = {}
            self._connection = connection

    def get(self, created: Mapping[int, Moment | None]) -> dict[int, RunFacts]:
        """The facts about these runs, given when each was created, as the database returns it.

        Without a time they are not checked. Runs that don't exist any more are left out.
        """
        known = self._known  # another thread may replace it at any time
        facts = {
            pk: known[pk]
            for pk, moment in created.items()
            if pk in known and moment in (None, known[pk].created_at)
        }
        missing = created.keys() - facts.keys()
        if missing:
            if len(known) + len(missing) > self._limit:
                known = self._known = dict(facts)
            read = _read_facts(missing)
            known.update(read)
            facts.update(read)
        return facts


@sql.statement
def _facts_statement() -> str:
    """The facts about runs, by their ids."""
    return f"""
        SELECT r.id, r.created_at, r.run_id, r.namespace_id, n.name, r.version_id, v.checksum,
            r.dataset_id, r.initial_data, r.store, r.priority
        FROM statemanager_runs_run r
        JOIN statemanager_graphs_namespace n ON n.id = r.namespace_id
        LEFT JOIN statemanager_graphs_graphversion v ON v.id = r.version_id
        WHERE {sql.among("r.id", "bigint")}
    """


def _read_facts(run_ids: Iterable[int]) -> dict[int, RunFacts]:
    rows = sql.run(_facts_statement(), [sql.choices(run_ids)])
    return {row[0]: _facts(row) for row in rows}


def _facts(row: sql.Row) -> RunFacts:
    pk, created_at, run_id, namespace_id, namespace, version_id, checksum, dataset_id, *data = row
    return RunFacts(
        pk=pk,
        created_at=created_at,
        run_id=run_id,
        namespace_id=namespace_id,
        namespace=namespace,
        version_id=version_id or 0,
        checksum=checksum or "",
        dataset_id=dataset_id,
        inputs=sql.loads(data[0]),
        store=sql.loads(data[1]),
        priority=data[2],
    )


# --- states --------------------------------------------------------------------------------------


def claimed(row: sql.Row, runs: Mapping[int, RunFacts]) -> Claimed:
    """The state in a row that begins with CLAIMED_COLUMNS."""
    return Claimed(
        id=sql.key(row[0]),
        run=runs[row[1]],
        identifier=row[2],
        path=row[3],
        inputs=sql.loads(row[4]),
        attempt=row[5],
        parent=row[6] and sql.key(row[6]),
        retry_count=row[7],
        lost_leases=row[8],
        answer=sql.loads(row[9]),
    )


def runs_of(rows: Iterable[sql.Row]) -> dict[int, Moment | None]:
    """The runs of the states in these rows, and when they were created."""
    return {row[1]: row[CREATED_AT] for row in rows}


def claimed_states(rows: Sequence[sql.Row], facts: FactsCache) -> list[Claimed]:
    """The states in these rows. States of a run that was deleted meanwhile are left out."""
    runs = facts.get(runs_of(rows))
    return [claimed(row, runs) for row in rows if row[1] in runs]


def select_states(
    statement: str, params: Sequence[object], facts: FactsCache | None = None
) -> list[Claimed]:
    """The states that a statement selects (CLAIMED_COLUMNS), as their workers see them."""
    return claimed_states(sql.run(statement, params), facts or FactsCache())


@sql.statement
def _states_by_id_statement() -> str:
    return f"""
        SELECT {CLAIMED_COLUMNS}
        FROM statemanager_runs_state AS s
        WHERE {sql.among("s.id", "uuid")}
    """


def states_by_id(ids: Iterable[str], facts: FactsCache | None = None) -> list[Claimed]:
    """States by their ids (32 digits), whatever their status."""
    return select_states(_states_by_id_statement(), [sql.choices(ids)], facts)
