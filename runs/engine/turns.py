"""Whose turn it is: claims go round between the namespaces that have ready states.

A worker looks up the *backlogs*, one for each namespace and node with ready states, and claims from
the heads of all of them. Each namespace has a pass, which grows by 1/weight with each of its states
(stride scheduling: Waldspurger and Weihl, 1995). Those with the smallest pass come first, so the
backlog of one namespace delays another one by at most one batch.

The cost of a claim doesn't depend on the number of ready states. The lookup jumps from backlog to
backlog in the index, stops after MAX_BACKLOGS, and goes on from there the next time. It is repeated
after 20 ms, and when the worker itself has made states ready. If it is slow, because the index is
full of dead entries, it may take a tenth of the time of a busy worker.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from time import monotonic
from typing import NamedTuple

from runs.core import sql
from runs.engine.types import Moment

MAX_BACKLOGS = 64
MAX_VISITED = 256  # backlogs that one statement of a lookup reads
LOOKUP_SECONDS = 0.020
LOOKUP_SHARE = 0.1  # of a worker's time
CHEAP_SECONDS = 0.002  # a lookup that takes less may be repeated at any time
MAX_PASSES = 1000
MAX_PLACES = 100

BacklogKey = tuple[int, str]  # a namespace and a node
START: BacklogKey = (-1, "")
# The places of node, claim_at and namespace_key in the rows that a claim returns.
NODE, CLAIM_AT, NAMESPACE = 11, 12, 13


class Backlog(NamedTuple):
    """The ready states of one node in one namespace."""

    namespace: int
    node: str
    weight: int
    first: Moment  # the `claim_at` of its first state

    @property
    def key(self) -> BacklogKey:
        return self.namespace, self.node


def any_backlog(key: BacklogKey) -> bool:
    return True


class Group(NamedTuple):
    """Nodes of which a worker wants up to `limit` states, in the namespaces where that suits it."""

    nodes: Collection[str]
    limit: int
    suits: Callable[[BacklogKey], bool] = any_backlog


# --- looking up ----------------------------------------------------------------------------------

OURS = "worker_namespace_id IS NULL"
OF_WORKER = "worker_namespace_id = %s"


def is_claimable(owner: str = OURS, fresh: bool = True) -> str:
    """The condition of the partial indexes: CREATED, not paused, and due at some time."""
    return (
        f"status = 'CREATED' AND {owner} AND NOT paused AND due_at IS NOT NULL"
        f"{' AND lost_leases = 0' if fresh else ''}"
    )


@sql.statement
def backlogs_statement(owner: str = OURS, limit: int = MAX_VISITED) -> str:
    """The backlogs after a place, in the order of the index, each found by one descent.

    Parameters: `_place_params`; the wanted nodes. With OF_WORKER, the worker's namespace comes
    before each place, and before the nodes as often. The last column says whether the backlog has a
    ready state of such a node.
    """
    first = _backlog_after(owner, "%s", "%s")
    following = _backlog_after(owner, "q.namespace", "q.node")
    if sql.postgres():
        following = f"SELECT n.* FROM q CROSS JOIN LATERAL ({following}) n"
    else:
        following = f"""
            SELECT n.namespace_key, n.node, n.claim_at
            FROM q CROSS JOIN statemanager_runs_state n WHERE n.id = {following}
        """
        first = f"""
            SELECT namespace_key, node, claim_at FROM statemanager_runs_state WHERE id = {first}
        """
    return f"""
        WITH RECURSIVE q(namespace, node, claim_at) AS (
            SELECT * FROM ({first}) f UNION ALL {following}
        )
        SELECT q.namespace, q.node,
            coalesce((SELECT weight FROM statemanager_graphs_namespace WHERE id = q.namespace), 1),
            q.claim_at, q.claim_at <= {sql.now()} AND {sql.among("q.node", "text")}
        FROM q LIMIT {limit}
    """


def _backlog_after(owner: str, namespace: str, node: str) -> str:
    """The first state of the next backlog; on SQLite its id.

    SQLite would compare a pair of columns with each state of the namespace.
    """
    claimable = is_claimable(owner, fresh=owner == OURS)
    if sql.postgres():
        return f"""
            SELECT namespace_key, node, claim_at FROM statemanager_runs_state
            WHERE {claimable} AND (namespace_key, node) > ({namespace}, {node})
            ORDER BY namespace_key, node, claim_at LIMIT 1
        """
    return f"""coalesce((
            SELECT id FROM statemanager_runs_state
            WHERE {claimable} AND namespace_key = {namespace} AND node > {node}
            ORDER BY node, claim_at LIMIT 1
        ), (
            SELECT id FROM statemanager_runs_state
            WHERE {claimable} AND namespace_key > {namespace}
            ORDER BY namespace_key, node, claim_at LIMIT 1
        ))
    """


def _params(
    place: BacklogKey, nodes: Collection[str], worker_namespace: int | None
) -> list[object]:
    owner = [] if worker_namespace is None else [worker_namespace]
    if sql.postgres():
        return [*owner, *place, *owner, sql.choices(nodes)]
    return [*owner, *place, *owner, place[0], *owner, *owner, sql.choices(nodes)]


class Found(NamedTuple):
    """Some backlogs with ready states, and the place where the lookup ended; START at the end."""

    backlogs: list[Backlog]
    place: BacklogKey


def look(
    nodes: Collection[str], place: BacklogKey = START, worker_namespace: int | None = None
) -> Found:
    """The backlogs of these nodes after a place, at most MAX_BACKLOGS.

    It passes over backlogs that have no ready states until it finds one that has.
    """
    statement = backlogs_statement(OURS if worker_namespace is None else OF_WORKER, MAX_VISITED)
    while True:
        rows = sql.run(statement, _params(place, nodes, worker_namespace))
        ready = [row for row in rows if row[4]]
        if len(ready) > MAX_BACKLOGS:
            place = ready[MAX_BACKLOGS - 1][:2]
        else:
            place = rows[-1][:2] if len(rows) == MAX_VISITED else START
        if ready or place == START:
            return Found([_backlog(*row) for row in ready[:MAX_BACKLOGS]], place)


def _backlog(namespace: int, node: str, weight: int, first: Moment, is_ready: bool) -> Backlog:
    return Backlog(namespace, node, max(weight, 1), first)


# --- taking turns --------------------------------------------------------------------------------


class BacklogClaim(NamedTuple):
    """A claim of up to `limit` states from some backlogs. Each kind of claims has its own turns."""

    kind: int
    backlogs: Sequence[Backlog]
    limit: int

    @property
    def limit_of_backlog(self) -> int:
        """How many states of each backlog the claim looks at.

        Twice the largest share, so that some may have less; a power of two, so that there are few
        statements to prepare.
        """
        weights = {backlog.namespace: backlog.weight for backlog in self.backlogs} or {0: 1}
        largest = max(weights.values()) / sum(weights.values())
        share = math.ceil(2 * self.limit * largest)
        return min(self.limit, 1 << (share - 1).bit_length())


class Passes(NamedTuple):
    """The passes of namespaces.

    `waiting` are those that had ready states left. Others begin with `time` when they come.
    """

    known: Mapping[int, float]
    waiting: Collection[int]
    time: float


NO_PASSES = Passes({}, (), 0.0)


class Turns:
    """What a worker knows of the backlogs, and the passes of their namespaces."""

    def __init__(self, worker_namespace: int | None = None) -> None:
        self.worker_namespace = worker_namespace
        self.just_renewed = False
        self._backlogs: list[Backlog] = []
        self._floors: dict[tuple[int, str], Moment] = {}
        self._nodes: frozenset[str] = frozenset()
        self._places: dict[frozenset[str], BacklogKey] = {}
        self._next_lookup = 0.0
        self._cheap_lookup = 0.0  # when a lookup costs no more than LOOKUP_SHARE
        self._passes: dict[int, Passes] = {}

    # --- the backlogs that have ready states

    def renew_if_due(self, nodes: Iterable[str]) -> None:
        """Look up the backlogs of these nodes, unless that was done a moment ago."""
        wanted = frozenset(nodes)
        self.just_renewed = False
        due = self._next_lookup if wanted == self._nodes else self._cheap_lookup
        if monotonic() >= due:
            self.renew(wanted)

    def expire(self) -> None:
        """Let the next claim look again, because other states may be ready now."""
        self._next_lookup = self._cheap_lookup

    def renew(self, nodes: Iterable[str]) -> None:
        """Look up the backlogs of these nodes, from where their last lookup ended."""
        began = monotonic()
        self._nodes = frozenset(nodes)
        place = self._places.get(self._nodes, START)
        backlogs, end = look(self._nodes, place, self.worker_namespace)
        if end == START and place != START:
            known = {backlog.key for backlog in backlogs}
            others, end = look(self._nodes, START, self.worker_namespace)
            room = MAX_BACKLOGS - len(backlogs)
            backlogs += [backlog for backlog in others if backlog.key not in known][:room]
            end = backlogs[-1].key if len(backlogs) == MAX_BACKLOGS else START
        if len(self._places) > MAX_PLACES:
            self._places.clear()
        self._places[self._nodes] = end
        self._backlogs = backlogs
        self._floors = {backlog.key: backlog.first for backlog in backlogs}
        self.just_renewed = True
        took = monotonic() - began
        self._cheap_lookup = began + took / LOOKUP_SHARE if took > CHEAP_SECONDS else 0.0
        self._next_lookup = max(began + LOOKUP_SECONDS, self._cheap_lookup)

    def backlogs_of(self, group: Group) -> list[Backlog]:
        """The backlogs of this group that have ready states, as far as is known."""
        return [
            backlog
            for backlog in self._backlogs
            if backlog.node in group.nodes and group.suits(backlog.key)
        ]

    def floor(self, backlog: Backlog) -> Moment:
        """The `claim_at` at which a claim begins to read the backlog.

        PostgreSQL's index keeps entries of states that were taken as long as an old snapshot (a
        dump, a forgotten transaction) may see them. A claim begins behind them. A state that gets
        an earlier `claim_at` later is found by the next lookup. SQLite keeps no such entries.
        """
        return self._floors[backlog.key] if sql.postgres() else ""

    # --- the passes of the namespaces

    def passes(self, claim: BacklogClaim) -> dict[int, float]:
        """The pass of each namespace. One that comes, or comes back, begins with the others."""
        known, waiting, time = self._passes.get(claim.kind, NO_PASSES)
        latest = max((known[each] for each in waiting), default=time)
        return {
            backlog.namespace: max(
                known.get(backlog.namespace, 0.0),
                # A share that one claim could not give must not delay others for long.
                latest - claim.limit / backlog.weight if backlog.namespace in waiting else time,
            )
            for backlog in claim.backlogs
        }

    def note(self, claim: BacklogClaim, rows: Sequence[sql.Row]) -> None:
        """Note the states that a claim took, and forget the backlogs that are empty now."""
        if not claim.backlogs:
            return
        keys = {backlog.key for backlog in claim.backlogs}
        taken = Counter(key for key in map(_key, rows) if key in keys)
        passes = self.passes(claim)
        for backlog in claim.backlogs:
            passes[backlog.namespace] += taken[backlog.key] / backlog.weight
        known, _, before = self._passes.get(claim.kind, NO_PASSES)
        latest = max((passes[namespace] for namespace, _ in taken), default=before)
        empty = _empty(claim, taken, passes, latest)
        self._backlogs = [backlog for backlog in self._backlogs if backlog.key not in empty]
        waiting = {backlog.namespace for backlog in claim.backlogs if backlog.key not in empty}
        time = max(before, min((passes[each] for each in waiting), default=latest))
        kept = known if len(known) <= MAX_PASSES else {}
        self._passes[claim.kind] = Passes({**kept, **passes}, waiting, time)
        self._advance(rows)

    def _advance(self, rows: Sequence[sql.Row]) -> None:
        first: dict[tuple[int, str], Moment] = {}
        for row in rows:
            key, claim_at = _key(row), row[CLAIM_AT]
            first[key] = min(claim_at, first.get(key, claim_at))
        self._floors |= first


def _key(row: sql.Row) -> tuple[int, str]:
    return row[NAMESPACE], row[NODE]


def _empty(
    claim: BacklogClaim, taken: Counter[tuple[int, str]], passes: Mapping[int, float], latest: float
) -> set[tuple[int, str]]:
    """The backlogs that have nothing left, as far as a claim can tell.

    A claim that was not filled took everything that it found. A namespace that got nothing,
    although its turn came before others that were served, has nothing left either.
    """
    is_filled = sum(taken[backlog.key] for backlog in claim.backlogs) >= claim.limit
    served = {namespace for namespace, _ in taken}
    return {
        backlog.key
        for backlog in claim.backlogs
        if (not is_filled and taken[backlog.key] < claim.limit_of_backlog)
        or (
            backlog.namespace not in served
            and passes[backlog.namespace] + 1 / backlog.weight < latest
        )
    }
