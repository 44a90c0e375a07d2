"""Whose turn it is: claims go round between the namespaces that have ready states.

A worker looks up the *queues* with ready states, one for each namespace and node, and claims from
the heads of all of them. Each namespace has a pass, which grows by 1/weight with each of its states
(stride scheduling: Waldspurger and Weihl, 1995). Those with the smallest pass come first, so the
backlog of one namespace delays another one by at most one batch.

Neither the number of ready states nor the number of namespaces makes a claim expensive. The lookup
jumps from queue to queue in the index, stops after MAX_QUEUES, and goes on from there the next
time. It is repeated after 20 ms, and when the worker itself has made states ready. If it is slow,
because the index is full of dead entries, it may take a tenth of the time of a busy worker.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from time import monotonic
from typing import NamedTuple

from runs.core import sql
from runs.engine.types import Moment

MAX_QUEUES = 64
MAX_VISITED = 256  # queues that one statement of a lookup looks at
LOOKUP_SECONDS = 0.020
LOOKUP_SHARE = 0.1  # of a worker's time
CHEAP_SECONDS = 0.002
MAX_PASSES = 1000
MAX_PLACES = 100

Place = tuple[int, str]  # a namespace and a node
START: Place = (-1, "")
# The places of node, claim_at and namespace_key in the rows that a claim returns.
NODE, CLAIM_AT, NAMESPACE = 11, 12, 13


class Queue(NamedTuple):
    """The ready states of one node in one namespace."""

    namespace: int
    node: str
    weight: int
    first: Moment  # the `claim_at` of its first state

    @property
    def key(self) -> tuple[int, str]:
        return self.namespace, self.node


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
def queues_statement(owner: str = OURS, limit: int = MAX_VISITED) -> str:
    """The queues after a place, in the order of the index, each found by one descent.

    Parameters: `_place_params`; the wanted nodes. With OF_WORKER, the worker's namespace comes
    before each place, and before the nodes as often. The last column says whether the queue has a
    ready state of such a node.
    """
    first = _queue_after(owner, "%s", "%s")
    following = _queue_after(owner, "q.namespace", "q.node")
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


def _queue_after(owner: str, namespace: str, node: str) -> str:
    """The first state of the next queue; on SQLite its id.

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


def _params(place: Place, nodes: Collection[str], worker_namespace: int | None) -> list[object]:
    owner = [] if worker_namespace is None else [worker_namespace]
    if sql.postgres():
        return [*owner, *place, *owner, sql.choices(nodes)]
    return [*owner, *place, *owner, place[0], *owner, *owner, sql.choices(nodes)]


class Found(NamedTuple):
    """Some queues with ready states, and the place where the lookup ended; START at the end."""

    queues: list[Queue]
    place: Place


def look(
    nodes: Collection[str], place: Place = START, worker_namespace: int | None = None
) -> Found:
    """The queues of these nodes after a place, at most MAX_QUEUES.

    It passes over queues that have no ready states until it finds one that has.
    """
    statement = queues_statement(OURS if worker_namespace is None else OF_WORKER, MAX_VISITED)
    while True:
        rows = sql.run(statement, _params(place, nodes, worker_namespace))
        ready = [row for row in rows if row[4]]
        if len(ready) > MAX_QUEUES:
            place = ready[MAX_QUEUES - 1][:2]
        else:
            place = rows[-1][:2] if len(rows) == MAX_VISITED else START
        if ready or place == START:
            return Found([_queue(*row) for row in ready[:MAX_QUEUES]], place)


def _queue(namespace: int, node: str, weight: int, first: Moment, is_ready: bool) -> Queue:
    return Queue(namespace, node, max(weight, 1), first)


# --- taking turns --------------------------------------------------------------------------------


class QueueClaim(NamedTuple):
    """A claim of up to `limit` states from some queues. Each kind of claims has its own turns."""

    kind: int
    queues: Sequence[Queue]
    limit: int

    @property
    def limit_of_queue(self) -> int:
        """How many states of each queue the claim looks at.

        Twice the largest share, so that some may have less; a power of two, so that there are few
        statements to prepare.
        """
        weights = {queue.namespace: queue.weight for queue in self.queues} or {0: 1}
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
    """What a worker knows of the queues, and the passes of their namespaces."""

    def __init__(self, worker_namespace: int | None = None) -> None:
        self.worker_namespace = worker_namespace
        self.just_renewed = False
        self._queues: list[Queue] = []
        self._floors: dict[tuple[int, str], Moment] = {}
        self._nodes: frozenset[str] = frozenset()
        self._places: dict[frozenset[str], Place] = {}
        self._next_lookup = 0.0
        self._cheap_lookup = 0.0  # when a lookup costs no more than LOOKUP_SHARE
        self._passes: dict[int, Passes] = {}

    # --- the queues that have ready states

    def renew_if_due(self, nodes: Iterable[str]) -> None:
        """Look up the queues of these nodes, unless that was done a moment ago."""
        wanted = frozenset(nodes)
        self.just_renewed = False
        due = self._next_lookup if wanted == self._nodes else self._cheap_lookup
        if monotonic() >= due:
            self.renew(wanted)

    def expire(self) -> None:
        """Let the next claim look again, because other states may be ready now."""
        self._next_lookup = self._cheap_lookup

    def renew(self, nodes: Iterable[str]) -> None:
        """Look up the queues of these nodes, from where their last lookup ended."""
        began = monotonic()
        self._nodes = frozenset(nodes)
        place = self._places.get(self._nodes, START)
        queues, end = look(self._nodes, place, self.worker_namespace)
        if end == START and place != START:
            known = {queue.key for queue in queues}
            others, end = look(self._nodes, START, self.worker_namespace)
            room = MAX_QUEUES - len(queues)
            queues += [queue for queue in others if queue.key not in known][:room]
            end = queues[-1].key if len(queues) == MAX_QUEUES else START
        if len(self._places) > MAX_PLACES:
            self._places.clear()
        self._places[self._nodes] = end
        self._queues = queues
        self._floors = {queue.key: queue.first for queue in queues}
        self.just_renewed = True
        took = monotonic() - began
        self._cheap_lookup = began + took / LOOKUP_SHARE if took > CHEAP_SECONDS else 0.0
        self._next_lookup = max(began + LOOKUP_SECONDS, self._cheap_lookup)

    def queues_of(self, nodes: Collection[str]) -> list[Queue]:
        """The queues of these nodes that have ready states, as far as is known."""
        return [queue for queue in self._queues if queue.node in nodes]

    def namespaces(self) -> set[int]:
        """The namespaces that have ready states, as far as is known."""
        return {queue.namespace for queue in self._queues}

    def floor(self, queue: Queue) -> Moment:
        """The `claim_at` at which a claim begins to read the queue.

        PostgreSQL's index keeps entries of states that were taken as long as an old snapshot (a
        dump, a forgotten transaction) may see them. A claim begins behind them. A state that comes
        to stand before that place is found by the next lookup. SQLite keeps no such entries.
        """
        return self._floors[queue.key] if sql.postgres() else ""

    # --- the passes of the namespaces

    def passes(self, claim: QueueClaim) -> dict[int, float]:
        """The pass of each namespace. One that comes, or comes back, begins with the others."""
        known, waiting, time = self._passes.get(claim.kind, NO_PASSES)
        latest = max((known[each] for each in waiting), default=time)
        return {
            queue.namespace: max(
                known.get(queue.namespace, 0.0),
                # What a claim could not give it is no claim on all later ones.
                latest - claim.limit / queue.weight if queue.namespace in waiting else time,
            )
            for queue in claim.queues
        }

    def note(self, claim: QueueClaim, rows: Sequence[sql.Row]) -> None:
        """Note the states that a claim took, and forget the queues that are empty now."""
        if not claim.queues:
            return
        keys = {queue.key for queue in claim.queues}
        taken = Counter(key for key in map(_key, rows) if key in keys)
        passes = self.passes(claim)
        for queue in claim.queues:
            passes[queue.namespace] += taken[queue.key] / queue.weight
        known, _, before = self._passes.get(claim.kind, NO_PASSES)
        latest = max((passes[namespace] for namespace, _ in taken), default=before)
        empty = _empty(claim, taken, passes, latest)
        self._queues = [queue for queue in self._queues if queue.key not in empty]
        waiting = {queue.namespace for queue in claim.queues if queue.key not in empty}
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
    claim: QueueClaim, taken: Counter[tuple[int, str]], passes: Mapping[int, float], latest: float
) -> set[tuple[int, str]]:
    """The queues that have nothing left, as far as a claim can tell.

    A claim that was not filled took everything that it found. Nor has a namespace anything left
    whose turn was before others that were served.
    """
    is_filled = sum(taken[queue.key] for queue in claim.queues) >= claim.limit
    served = {namespace for namespace, _ in taken}
    return {
        queue.key
        for queue in claim.queues
        if (not is_filled and taken[queue.key] < claim.limit_of_queue)
        or (queue.namespace not in served and passes[queue.namespace] + 1 / queue.weight < latest)
    }
