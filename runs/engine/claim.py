"""Taking ready states: one statement that raises the fence and sets the lease by the database's clock.

A worker of ours asks for groups of node kinds, each with its own limit, so that it takes only what it can start. States that lost a worker
are *quarantined*: one of them may have killed it. Those that lost one are run among themselves; those that lost two each alone, so that a node which
kills its process takes no other state to the end with it. An external worker asks for the nodes of its namespace and a number.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from time import monotonic
from typing import Any

from django.db import transaction

from runs.core import sql
from runs.engine.types import Claimed, RunFacts

Group = tuple[Sequence[str], int]  # node kinds, how many states of them at most

FRESH, QUARANTINED = "lost_leases = 0", "lost_leases > 0"
ONCE, OFTEN = (
    f"{QUARANTINED} AND lost_leases = 1",
    f"{QUARANTINED} AND lost_leases > 1",
)  # in the words of the index sm_state_quarantined
_READY = "status = 'CREATED' AND worker_namespace_id {whose} AND NOT paused AND due_at IS NOT NULL AND due_at <= {now}"
LOOK_SECONDS = 1.0
OURS, THEIRS = "IS NULL", "= %s"
_CLAIM = """
    UPDATE statemanager_runs_state SET status = 'QUEUED', attempt = attempt + 1, worker = %s, lease_expires_at = {lease}, started_at = {now}, progress = 0
    WHERE id IN ({union}) AND status = 'CREATED'
    RETURNING id, run_id, identifier, path, inputs, attempt, parent, retry_count, lost_leases, answer, node, due_at
"""
_START = """
    UPDATE statemanager_runs_run SET status = 'running', started_at = {now}, updated_at = {now}, revision = revision + 1 WHERE id IN (
        SELECT id FROM statemanager_runs_run WHERE {which} AND status = 'queued' ORDER BY id{lock})
"""


class ScanFloors:
    """Since when states of each node are ready, as a worker's last look at all of them found it; PostgreSQL begins to read there.

    What lies before was taken, and an old snapshot (a dump, a forgotten transaction) keeps it in the index, to be read again by every claim. A state may
    still come there later, by a transaction that was slow or when a lease ends: so all are looked at every second, and whenever a worker is woken.
    """

    def __init__(self) -> None:
        self._since: dict[str, Any] = {}
        self._other: Any = None
        self._latest: Any = None  # that was ever claimed
        self._looked = -math.inf

    def renew(self) -> None:
        """Before a claim: if it is time, let it look at all."""
        if monotonic() - self._looked > LOOK_SECONDS:
            self._since, self._other, self._looked = {}, None, monotonic()

    def of(self, kind: str) -> Any:
        return self._since.get(kind, self._other) or "-infinity"

    def found(self, rows: Sequence[sql.Row]) -> None:
        """Note what was claimed: of each node the oldest that was ready, of the others that there was nothing older than all of it."""
        least: dict[str, Any] = {}
        for *_, kind, due in rows:
            least[kind] = min(due, least.get(kind, due))
            self._latest = max(due, self._latest or due)
        self._since |= least
        self._other = self._other or min(least.values(), default=self._latest)

    def forget(self) -> None:
        """Let the next claim look at all."""
        self._looked = -math.inf


def claim(
    worker: str,
    groups: Iterable[Group],
    lease_seconds: float,
    facts: "FactsCache",
    which: str = FRESH,
    scan_floors: ScanFloors | None = None,
) -> list[Claimed]:
    """Up to each group's limit of ready states, oldest first, now held by `worker` for `lease_seconds`. `which` are fresh, or quarantined."""
    groups, scan_floors = (
        [(kinds, limit) for kinds, limit in groups if kinds and limit > 0],
        scan_floors or ScanFloors(),
    )
    if not groups:
        return []
    statement, asked = (
        _statement(tuple((len(kinds), limit) for kinds, limit in groups), which),
        [kind for kinds, _ in groups for kind in kinds],
    )
    if not sql.postgres():  # looking takes no lock, and SQLite has only one
        return (
            _take(statement, [*asked, worker, lease_seconds], facts)
            if work_is_ready(asked, which)
            else []
        )
    scan_floors.renew()
    return _take(
        statement,
        [*(each for kind in asked for each in (kind, scan_floors.of(kind))), worker, lease_seconds],
        facts,
        scan_floors,
    )


def _start(which: str) -> str:
    return _START.format(now=sql.now(), which=which, lock=sql.lock(skip=True))


@cache
def _statement(groups: tuple[tuple[int, int], ...], which: str) -> str:
    """For groups of (kinds, limit). Each kind is looked up by itself, so that many ready states of one kind don't hide the others.

    The limits are part of the text: a prepared plan for an unknown limit would sort all that is ready.
    """
    ready = f"{_READY.format(whose=OURS, now=sql.now())} AND {which}"
    ready += " AND node = %s AND due_at >= %s" if sql.postgres() else " AND node = %s"
    named = ", ".join(
        f"g{at} AS ({_oldest(ready, kinds, limit, str(limit))})"
        for at, (kinds, limit) in enumerate(groups)
    )
    return _taking(named, " UNION ALL ".join(f"SELECT id FROM g{at}" for at in range(len(groups))))


def _oldest(ready: str, kinds: int, each: int, limit: str) -> str:
    """The oldest ready states of some kinds, each kind read from its own place in the index."""
    one = f"SELECT id, due_at FROM statemanager_runs_state WHERE {ready} ORDER BY due_at, id LIMIT {each}{sql.lock('UPDATE', skip=True)}"
    every = " UNION ALL ".join(f"SELECT id, due_at FROM ({one}) k{at}" for at in range(kinds))
    return f"SELECT id FROM ({every}) oldest ORDER BY due_at, id LIMIT {limit}"


def _taking(named: str, union: str) -> str:
    """Take the states that the union names, and on PostgreSQL start their runs."""
    take = _CLAIM.format(union=union, now=sql.now(), lease=sql.later("%s"))
    if sql.postgres():
        start = _start("id IN (SELECT run_id FROM taken)")
        return f"WITH {named}, taken AS ({take}), started AS ({start}) SELECT * FROM taken"
    return f"WITH {named} {take}"


def claim_for_worker(
    worker: str,
    namespace: int,
    kinds: Sequence[str],
    limit: int,
    lease_seconds: float,
    facts: "FactsCache",
) -> list[Claimed]:
    """Up to `limit` ready states of these nodes of a namespace, oldest first, now held by an external worker."""
    params = [each for kind in kinds for each in (namespace, kind)]
    statement = _worker_statement(len(kinds), 1 << (limit - 1).bit_length())
    if not sql.postgres():
        ready = " UNION ALL ".join(
            [
                f"SELECT 1 FROM statemanager_runs_state WHERE {_READY.format(whose=THEIRS, now=sql.now())} AND node = %s"
            ]
            * len(kinds)
        )
        if not sql.run(f"SELECT * FROM ({ready}) r LIMIT 1", params):
            return []  # looking takes no lock
    return _take(statement, [*params, limit, worker, lease_seconds], facts)


@cache
def _worker_statement(kinds: int, each: int) -> str:
    """`each` is a power of two, so that there are few statements to prepare."""
    ready = f"{_READY.format(whose=THEIRS, now=sql.now())} AND node = %s"
    return _taking(f"g0 AS ({_oldest(ready, kinds, each, '%s')})", "SELECT id FROM g0")


def _take(
    statement: str,
    params: Sequence[Any],
    facts: "FactsCache",
    scan_floors: ScanFloors | None = None,
) -> list[Claimed]:
    if sql.postgres():  # one statement is one transaction
        rows = sql.run(statement, params)
        if scan_floors:
            scan_floors.found(rows)
    else:
        with transaction.atomic():
            rows = sql.run(statement, params)
            sql.send(_start(sql.among("id", "bigint")), [sql.choices({row[1] for row in rows})])
    runs = facts.get({row[1] for row in rows})
    return sorted(
        (claimed(row, runs) for row in rows if row[1] in runs), key=lambda state: state.id
    )


def claimed(row: sql.Row, runs: Mapping[int, RunFacts]) -> Claimed:
    state, run, identifier, path, inputs, attempt, parent, retry_count, lost_leases, answer = row[
        :10
    ]
    return Claimed(
        sql.key(state),
        runs[run],
        identifier,
        path,
        sql.loads(inputs),
        attempt,
        parent and sql.key(parent),
        retry_count,
        lost_leases,
        sql.loads(answer),
    )


def work_is_ready(kinds: Iterable[str], which: str = "true") -> bool:
    """Whether a state of one of these nodes could be claimed now, fresh or quarantined."""
    statement = f"SELECT 1 FROM statemanager_runs_state WHERE {_READY.format(whose=OURS, now=sql.now())} AND {which} AND {sql.among('node', 'text')} LIMIT 1"
    return bool(sql.run(statement, [sql.choices(kinds)]))


_FACTS = """
    SELECT r.id, r.run_id, r.namespace_id, n.name, r.version_id, r.dataset_id, r.initial_data, r.store
    FROM statemanager_runs_run r JOIN statemanager_graphs_namespace n ON n.id = r.namespace_id WHERE {among}
"""


class FactsCache:
    """The unchanging columns of the runs that a process works on, a bounded number of them."""

    def __init__(self, limit: int = 2000) -> None:
        self._known: dict[int, RunFacts] = {}
        self._limit = limit

    def get(self, run_ids: Iterable[int]) -> dict[int, RunFacts]:
        wanted, known = set(run_ids), self._known
        found = {key: known[key] for key in wanted if key in known}
        if missing := wanted - found.keys():
            if len(known) + len(missing) > self._limit:
                known = self._known = dict(found)
            for row in sql.run(
                sql.statement(_FACTS, among=("r.id", "bigint")), [sql.choices(missing)]
            ):
                found[row[0]] = known[row[0]] = RunFacts(
                    row[0],
                    row[1],
                    row[2],
                    row[3],
                    row[4] or 0,
                    row[5],
                    sql.loads(row[6]),
                    sql.loads(row[7]),
                )
        return found

    def clear(self) -> None:
        self._known = {}


_LEASED = """
    SELECT s.id, s.run_id, s.identifier, s.path, s.inputs, s.attempt, s.parent, s.retry_count, s.lost_leases, s.answer FROM statemanager_runs_state s WHERE {condition}
"""


def leased_states(
    condition: str, params: Sequence[Any], facts: FactsCache | None = None
) -> list[Claimed]:
    """States as their holders see them, whoever that is; for reports by id and for the sweeper."""
    rows = sql.run(_LEASED.format(condition=condition), params)
    runs = (facts or FactsCache()).get({row[1] for row in rows})
    return [claimed(row, runs) for row in rows if row[1] in runs]
