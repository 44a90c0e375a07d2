"""The topology of a graph: order, ancestors, dominators and joins. Pure.

It knows ids and edges and nothing else.

A *join* is a node that runs once for several states. A node with several parents runs once per
state of its nearest common dominator: the last node that every path to it passes, or ROOT, the run
itself. A node that `unites` X runs once per state of X.

The `region` of a join holds the nodes whose unfinished states it waits for. Its `failing` nodes
are those whose failure keeps it from running. Nodes behind one that unites ALL_DONE are not among
them, because that node accepts their failures.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from math import inf

from graphs.definition.node_set import NodeOrder, NodeSet

ROOT = ""

Links = Mapping[str, list[str]]
Sets = Mapping[str, NodeSet]


MAX_WAITING = 2_000_000  # pairs of a join and a node that it waits for: about a second, 40 MB


class TooEntangled(ValueError):
    """Raised when the joins together wait for too many nodes."""

    def __init__(self) -> None:
        super().__init__(
            f"the joins wait for more than {MAX_WAITING:,} nodes together; join branches earlier,"
            " or make several graphs"
        )


class Cycle(ValueError):
    """Raised when the edges form a cycle. `nodes` lists it and ends with its first node."""

    def __init__(self, nodes: list[str]) -> None:
        super().__init__(" → ".join(nodes))
        self.nodes = nodes


@dataclass(frozen=True)
class Topology:
    """What the engine needs to know of a graph's shape.

    `order` is topological; where it leaves a choice, it follows the definition. `dominator` maps
    each node to the one once per whose state it runs. `watchers` are the joins that may become
    ready when a state of the node ends.
    """

    order: tuple[str, ...]
    parents: Mapping[str, tuple[str, ...]]
    children: Mapping[str, tuple[str, ...]]
    ancestors: Sets
    descendants: Sets
    dominator: Mapping[str, str]
    region: Sets
    failing: Sets
    watchers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """The nodes with which a run starts."""
        return tuple(
            node for node in self.order if not self.parents[node] and node not in self.region
        )

    def is_join(self, node: str) -> bool:
        return node in self.region


def build(
    nodes: Iterable[str],
    edges: Iterable[tuple[str, str]],
    unites: Mapping[str, str],
    all_done: Collection[str] = (),
    max_waiting: float = inf,
) -> Topology:
    """The topology of distinct nodes and the (from, to) edges between them. Raises Cycle.

    `unites` maps nodes to the node that they unite, and `all_done` are those of them that accept
    failures. Raises TooEntangled if the joins together wait for more than `max_waiting` nodes.
    """
    nodes = list(nodes)
    parents, children = _links(nodes, edges)
    order = _sorted(nodes, parents, children, unites)
    bits = NodeOrder(order)
    ancestors = _closure(bits, order, parents)
    descendants = _closure(bits, reversed(order), children)
    dominator = _dominators(order, parents, unites)

    joins = [node for node in order if node in unites or len(parents[node]) > 1]
    passing = _closure(bits, order, parents, stops=all_done) if joins else {}
    own = {}
    waiting = _Budget(max_waiting)
    for node in joins:
        if node in unites:
            below = descendants[unites[node]] - descendants[node] - {node}
            waiting.spend(len(below))
            own[node] = _dominated(below, unites[node], dominator)
        else:
            own[node] = _between(dominator[node], ancestors[node], descendants)
            waiting.spend(len(own[node]))
    region = _regions(joins, own, unites, descendants, max_waiting)

    return Topology(
        order=tuple(order),
        parents={node: tuple(parents[node]) for node in order},
        children={node: tuple(children[node]) for node in order},
        ancestors=ancestors,
        descendants=descendants,
        dominator=dominator,
        region=region,
        failing={n: own[n] if n in unites else own[n] & passing[n] for n in joins},
        watchers=_watchers(order, joins, dominator, region),
    )


def _regions(
    joins: Iterable[str],
    own: Sets,
    unites: Mapping[str, str],
    descendants: Sets,
    max_waiting: float,
) -> dict[str, NodeSet]:
    """The nodes for which each join waits, with those of the joins among them."""
    region = {}
    waiting = _Budget(max_waiting)
    for node in joins:
        region[node] = _with_nested(node, own, unites, descendants)
        waiting.spend(len(region[node]))
    return region


class _Budget:
    """Adds up how many nodes the joins wait for. Raises TooEntangled beyond the limit."""

    def __init__(self, limit: float) -> None:
        self._left = limit

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise TooEntangled


def _links(
    nodes: Iterable[str], edges: Iterable[tuple[str, str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The parents and the children of every node; a repeated edge counts once."""
    parents: dict[str, list[str]] = {node: [] for node in nodes}
    children: dict[str, list[str]] = {node: [] for node in parents}
    for start, end in dict.fromkeys(edges):
        parents[end].append(start)
        children[start].append(end)
    return parents, children


def _sorted(
    nodes: list[str], parents: Links, children: Links, unites: Mapping[str, str]
) -> list[str]:
    """Breadth first, layer by layer, and within a layer in the given order.

    A node comes after the one that it unites. Raises Cycle.
    """
    waits = {node: {*parents[node], *([unites[node]] if node in unites else [])} for node in nodes}
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        raise Cycle(list(error.args[1])) from None

    followers: dict[str, list[str]] = {node: list(children[node]) for node in nodes}
    for node, united in unites.items():
        if node not in followers[united]:
            followers[united].append(node)

    open_waits = {node: len(waits[node]) for node in nodes}
    ready = deque(node for node in nodes if not open_waits[node])
    order = []
    while ready:
        node = ready.popleft()
        order.append(node)
        for follower in followers[node]:
            open_waits[follower] -= 1
            if not open_waits[follower]:
                ready.append(follower)
    return order


def _closure(
    bits: NodeOrder, order: Iterable[str], links: Links, stops: Collection[str] = ()
) -> dict[str, NodeSet]:
    """All that can be reached over the links; `order` has every node after those it links to.

    Nothing is reached through the nodes in `stops`, only they themselves.
    """
    reached: dict[str, NodeSet] = {}
    for node in order:
        mask = bits.mask_of(links[node])
        for link in links[node]:
            if link not in stops:
                mask |= reached[link].mask
        reached[node] = NodeSet(bits, mask)
    return reached


def _dominators(order: list[str], parents: Links, unites: Mapping[str, str]) -> dict[str, str]:
    """The node once per whose state each node runs.

    It is the nearest common ancestor of the parents in the tree of dominators built so far.
    """
    tree = _Tree()
    for node in order:
        if node in unites:
            nearest = unites[node]
        else:
            nearest, *others = parents[node] or [ROOT]
            for other in others:
                nearest = tree.common_ancestor(nearest, other)
        tree.add(node, nearest)
    return tree.above


class _Tree:
    """A tree that grows at its leaves and finds common ancestors in logarithmic time.

    Beside the node above it, each node has a jump, whose length follows from the node's depth
    alone: two jumps of the same length become one that takes both (Myers, 1983).
    """

    def __init__(self) -> None:
        self.above: dict[str, str] = {}
        self._depth = {ROOT: 0}
        self._jump = {ROOT: ROOT}

    def add(self, node: str, above: str) -> None:
        depth, jump = self._depth, self._jump
        first = jump[above]
        second = jump[first]
        is_even = depth[above] - depth[first] == depth[first] - depth[second]
        self.above[node] = above
        depth[node] = depth[above] + 1
        jump[node] = second if is_even else above

    def common_ancestor(self, first: str, second: str) -> str:
        if self._depth[first] < self._depth[second]:
            first, second = second, first
        depth = self._depth[second]
        while self._depth[first] > depth:
            jump = self._jump[first]
            first = jump if self._depth[jump] >= depth else self.above[first]
        while first != second:
            jumps = self._jump[first], self._jump[second]
            if jumps[0] != jumps[1]:
                first, second = jumps
            else:
                first, second = self.above[first], self.above[second]
        return first


def _between(dominator: str, ancestors: NodeSet, descendants: Sets) -> NodeSet:
    """The ancestors of a join that lie below its dominator."""
    return ancestors if dominator == ROOT else ancestors & descendants[dominator]


def _dominated(nodes: NodeSet, by: str, dominator: Mapping[str, str]) -> NodeSet:
    """The nodes each of whose states belongs to one state of another node.

    The dominators between a node and the other one are among the nodes, and come before it.
    """
    dominated = {by}
    for node in nodes:
        if dominator[node] in dominated:
            dominated.add(node)
    return nodes & dominated


def _with_nested(node: str, own: Sets, unites: Mapping[str, str], descendants: Sets) -> NodeSet:
    """The region of a join: its own, and the regions of the nodes in it that unite others."""
    order, mask = own[node].order, own[node].mask
    todo = list(own[node] & unites.keys())
    while todo:
        new = own[todo.pop()] - NodeSet(order, mask) - descendants[node] - {node}
        mask |= new.mask
        todo += new & unites.keys()
    return NodeSet(order, mask)


def _watchers(
    order: Iterable[str], joins: list[str], dominator: Mapping[str, str], region: Sets
) -> dict[str, tuple[str, ...]]:
    watchers: dict[str, list[str]] = {node: [] for node in [ROOT, *order]}
    for join in joins:
        if dominator[join] not in region[join]:
            watchers[dominator[join]].append(join)
        for node in region[join]:
            watchers[node].append(join)
    return {node: tuple(watching) for node, watching in watchers.items()}
