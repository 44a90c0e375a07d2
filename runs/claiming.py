"""Taking ready states: one statement that raises the fence and sets the lease by the database's clock.

A worker asks for groups of node kinds, each with its own limit, so that it takes only what it can start. States that lost a lease
are *suspects*: they are taken alone, so that a node which kills its process takes no other state with it.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from django.db import transaction

from runs import sql
from runs.work import Claimed, RunFacts

Group = tuple[Sequence[str], int]  # node kinds, how many states of them at most

_READY = "status = 'CREATED' AND worker_namespace_id IS NULL AND NOT held AND due_at IS NOT NULL AND due_at <= {now}"
_CLAIM = """
    UPDATE runs_state SET status = 'QUEUED', attempt = attempt + 1, worker = %s, lease_expires_at = {lease}, started_at = {now}, progress = 0
    WHERE id IN ({union}) AND status = 'CREATED'
    RETURNING id, run_id, identifier, path, inputs, attempt, parent, retry_count, lost, answer
"""
_START = """
    UPDATE runs_run SET status = 'running', started_at = {now}, updated_at = {now}, revision = revision + 1 WHERE id IN (
        SELECT id FROM runs_run WHERE {which} AND status = 'queued' ORDER BY id{lock})
"""


def claim(worker: str, groups: Iterable[Group], lease_seconds: float, facts: "FactsCache", suspects: bool = False) -> list[Claimed]:
    """Up to each group's limit of ready states, oldest first, now held by `worker` for `lease_seconds`."""
    groups = [(kinds, limit) for kinds, limit in groups if kinds and limit > 0]
    if not groups:
        return []
    statement = _statement(tuple((len(kinds), limit) for kinds, limit in groups), suspects)
    params = [*(kind for kinds, _ in groups for kind in kinds), worker, lease_seconds]
    if sql.postgres():  # one statement is one transaction
        rows = sql.run(statement, params)
    elif not work_is_ready([kind for kinds, _ in groups for kind in kinds], suspects):
        return []  # looking takes no lock, and SQLite has only one
    else:
        with transaction.atomic():
            rows = sql.run(statement, params)
            sql.send(_start(sql.among("id", "bigint")), [sql.choices({row[1] for row in rows})])
    runs = facts.get({row[1] for row in rows})
    return sorted((_claimed(row, runs) for row in rows if row[1] in runs), key=lambda state: state.id)


def _start(which: str) -> str:
    return _START.format(now=sql.now(), which=which, lock=sql.lock(skip=True))


@cache
def _statement(groups: tuple[tuple[int, int], ...], suspects: bool) -> str:
    """For groups of (kinds, limit). Each kind is looked up by itself, so that many ready states of one kind don't hide the others.

    The limits are part of the text: a prepared plan for an unknown limit would sort all that is ready.
    """
    ready, lost = _READY.format(now=sql.now()), "lost > 0" if suspects else "lost = 0"

    def group(kinds: int, limit: int) -> str:
        one = f"SELECT id, due_at FROM runs_state WHERE {ready} AND {lost} AND node = %s ORDER BY due_at, id LIMIT {limit}{sql.lock('UPDATE', skip=True)}"
        every = " UNION ALL ".join(f"SELECT id, due_at FROM ({one}) k{at}" for at in range(kinds))
        return f"SELECT id FROM ({every}) oldest ORDER BY due_at, id LIMIT {limit}"

    named = ", ".join(f"g{at} AS ({group(kinds, limit)})" for at, (kinds, limit) in enumerate(groups))
    union = " UNION ALL ".join(f"SELECT id FROM g{at}" for at in range(len(groups)))
    take = _CLAIM.format(union=union, now=sql.now(), lease=sql.later("%s"))
    if sql.postgres():
        start = _start("id IN (SELECT run_id FROM taken)")
        return f"WITH {named}, taken AS ({take}), started AS ({start}) SELECT * FROM taken"
    return f"WITH {named} {take}"


def _claimed(row: sql.Row, runs: Mapping[int, RunFacts]) -> Claimed:
    state, run, identifier, path, inputs, attempt, parent, retry_count, lost, answer = row
    return Claimed(sql.key(state), runs[run], identifier, path, sql.loads(inputs), attempt, parent and sql.key(parent), retry_count, lost, sql.loads(answer))


def work_is_ready(kinds: Iterable[str], suspects: bool | None = None) -> bool:
    """Whether a state of one of these nodes could be claimed now; of suspects, of the others, or of both."""
    lost = {None: "", True: " AND lost > 0", False: " AND lost = 0"}[suspects]
    statement = f"SELECT 1 FROM runs_state WHERE {_READY.format(now=sql.now())}{lost} AND {sql.among('node', 'text')} LIMIT 1"
    return bool(sql.run(statement, [sql.choices(kinds)]))


_FACTS = """
    SELECT r.id, r.run_id, r.namespace_id, n.name, r.version_id, r.dataset_id, r.initial_data, r.store
    FROM runs_run r JOIN graphs_namespace n ON n.id = r.namespace_id WHERE {among}
"""


class FactsCache:
    """The unchanging columns of the runs that a process works on, a bounded number of them."""

    def __init__(self, limit: int = 2000) -> None:
        self._known: dict[int, RunFacts] = {}
        self._limit = limit

    def get(self, run_ids: Iterable[int]) -> dict[int, RunFacts]:
        wanted = set(run_ids)
        if missing := wanted - self._known.keys():
            if len(self._known) + len(missing) > self._limit:
                self._known = {key: self._known[key] for key in wanted - missing}
            for row in sql.run(sql.statement(_FACTS, among=("r.id", "bigint")), [sql.choices(missing)]):
                self._known[row[0]] = RunFacts(*row[:6], sql.loads(row[6]), sql.loads(row[7]))  # type: ignore[call-arg]
        return {key: self._known[key] for key in wanted if key in self._known}


_HELD = """
    SELECT s.id, s.run_id, s.identifier, s.path, s.inputs, s.attempt, s.parent, s.retry_count, s.lost, s.answer FROM runs_state s WHERE {condition}
"""


def held(condition: str, params: Sequence[Any], facts: FactsCache | None = None) -> list[Claimed]:
    """States as their holders see them, whoever that is; for reports by id and for the sweeper."""
    rows = sql.run(_HELD.format(condition=condition), params)
    runs = (facts or FactsCache()).get({row[1] for row in rows})
    return [_claimed(row, runs) for row in rows if row[1] in runs]
