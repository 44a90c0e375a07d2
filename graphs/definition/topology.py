"""The shape of a graph: order, ancestors, dominators and joins. Pure; knows ids and edges, nothing else.

A *join* is a node that runs once for several states: a node with several parents, once per state of its nearest common
dominator (the last node that every path to it passes; ROOT, the run itself, when there is none), or a node that `unites` X,
once per state of X. `region` of a join holds the nodes whose unfinished states it must wait for, `failing` those whose failure keeps it
from running: not what lies behind a node that unites ALL_DONE, which made up for it.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

ROOT = ""


class Cycle(ValueError):
    """The edges run in a circle; `nodes` names it, first node repeated at the end."""

    def __init__(self, nodes: list[str]) -> None:
        super().__init__(" → ".join(nodes))
        self.nodes = nodes


@dataclass(frozen=True)
class Topology:
    """A graph's nodes in topological order, ties in the order given, with what the engine asks of it."""

    order: tuple[str, ...]
    parents: Mapping[str, tuple[str, ...]]
    children: Mapping[str, tuple[str, ...]]
    ancestors: Mapping[str, frozenset[str]]
    descendants: Mapping[str, frozenset[str]]
    dominator: Mapping[str, str]
    region: Mapping[str, frozenset[str]]
    failing: Mapping[str, frozenset[str]]
    watchers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def roots(self) -> tuple[str, ...]:
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
) -> Topology:
    """The topology of distinct nodes, (from, to) edges between them, {node: the node it unites} and those that unite ALL_DONE.

    Raises Cycle.
    """
    nodes = list(nodes)
    parents: dict[str, list[str]] = {node: [] for node in nodes}
    children: dict[str, list[str]] = {node: [] for node in nodes}
    for start, end in edges:
        if start not in parents[end]:
            parents[end].append(start)
            children[start].append(end)
    order = _sorted(nodes, parents, children, unites)
    ancestors = _closure(order, parents)
    descendants = _closure(list(reversed(order)), children)
    dominator = _dominators(order, parents, unites)
    joins = [node for node in order if node in unites or len(parents[node]) > 1]
    narrow = {
        node: _region(node, parents, unites, dominator, ancestors, descendants) for node in joins
    }
    region = {node: _waits(node, narrow, unites, descendants) for node in joins}
    failing = {
        node: narrow[node] if node in unites else _failing(node, narrow[node], parents, all_done)
        for node in joins
    }
    watchers = {
        node: tuple(
            join
            for join in order
            if join in region and (dominator[join] == node or node in region[join])
        )
        for node in [ROOT, *order]
    }
    frozen = (
        {node: tuple(parents[node]) for node in order},
        {node: tuple(children[node]) for node in order},
    )
    return Topology(
        tuple(order), *frozen, ancestors, descendants, dominator, region, failing, watchers
    )


def _sorted(
    nodes: list[str],
    parents: Mapping[str, list[str]],
    children: Mapping[str, list[str]],
    unites: Mapping[str, str],
) -> list[str]:
    """Breadth first by layers, in the order given within a layer; X comes before what unites it."""
    waits = {node: {*parents[node], *([unites[node]] if node in unites else [])} for node in nodes}
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        raise Cycle(list(error.args[1])) from None
    followers: dict[str, list[str]] = {node: list(children[node]) for node in nodes}
    for node, united in unites.items():
        if node not in followers[united]:
            followers[united].append(node)
    left = {node: len(waits[node]) for node in nodes}
    ready, order = deque(node for node in nodes if not left[node]), []
    while ready:
        order.append(node := ready.popleft())
        for follower in followers[node]:
            left[follower] -= 1
            if not left[follower]:
                ready.append(follower)
    return order


def _closure(order: list[str], links: Mapping[str, list[str]]) -> dict[str, frozenset[str]]:
    reached: dict[str, frozenset[str]] = {}
    for node in order:
        reached[node] = frozenset(links[node]).union(*(reached[link] for link in links[node]))
    return reached


def _dominators(
    order: list[str], parents: Mapping[str, list[str]], unites: Mapping[str, str]
) -> dict[str, str]:
    """The node once per whose state each node runs; the nearest common ancestor in the tree built so far."""
    above: dict[str, str] = {}
    depth = {ROOT: 0}
    for node in order:
        nearest = unites.get(node) or (parents[node][0] if parents[node] else ROOT)
        for other in [] if node in unites else parents[node][1:]:
            while nearest != other:
                if depth[nearest] >= depth[other]:
                    nearest = above[nearest]
                else:
                    other = above[other]
        above[node], depth[node] = nearest, depth[nearest] + 1
    return above


def _region(
    node: str,
    parents: Mapping[str, list[str]],
    unites: Mapping[str, str],
    dominator: Mapping[str, str],
    ancestors: Mapping[str, frozenset[str]],
    descendants: Mapping[str, frozenset[str]],
) -> frozenset[str]:
    if node in unites:
        below = descendants[unites[node]] - descendants[node] - {node}
        return frozenset(each for each in below if _passes(each, unites[node], dominator))
    below = (
        ancestors[node]
        if dominator[node] == ROOT
        else ancestors[node] & descendants[dominator[node]]
    )
    return below - {dominator[node]}


def _passes(node: str, above: str, dominator: Mapping[str, str]) -> bool:
    """Whether the states of a node stand below states of the other, so that they belong to one of them."""
    while node not in (ROOT, above):
        node = dominator[node]
    return node == above


def _waits(
    node: str,
    region: Mapping[str, frozenset[str]],
    unites: Mapping[str, str],
    descendants: Mapping[str, frozenset[str]],
) -> frozenset[str]:
    """The region, and all that the uniting nodes in it wait for themselves."""
    found, todo = set(region[node]), [each for each in region[node] if each in unites]
    while todo:
        new = region[todo.pop()] - found - descendants[node] - {node}
        found |= new
        todo += [each for each in new if each in unites]
    return frozenset(found)


def _failing(
    node: str, region: frozenset[str], parents: Mapping[str, list[str]], all_done: Collection[str]
) -> frozenset[str]:
    found: set[str] = set()
    todo = list(parents[node])
    while todo:
        each = todo.pop()
        if each in region and each not in found:
            found.add(each)
            todo += [] if each in all_done else parents[each]
    return frozenset(found)
