"""Rules of validation about the drawing: ids, edges, their conditions, cycles and joins. Pure."""

from collections import Counter
from collections.abc import Iterator

from graphs.definition import expressions, plan
from graphs.definition.problems import Parts, Problem
from graphs.definition.topology import MAX_WAITING, ROOT, Cycle, TooEntangled, Topology, build
from graphs.definition.types import Definition, EdgeDefinition


def id_problems(parts: Parts) -> Iterator[Problem]:
    """Ids that are used more than once, and the id that is reserved."""
    counts = Counter(node["id"] for _, node in parts.nodes)
    seen: set[str] = set()
    for at, node in parts.nodes:
        name = node["id"]
        if name in seen:
            yield duplicate_id(name, counts[name], at)
        if name == "store":
            message = "the id 'store' is reserved for the run's store; choose another id"
            yield Problem("invalid_config", message, f"/nodes/{at}/id", name)
        seen.add(name)


def duplicate_id(name: str, count: int, at: int) -> Problem:
    """The problem of an id that several nodes have."""
    message = f"the id {name!r} is used by {count} nodes; give each node an id of its own"
    return Problem("duplicate_id", message, f"/nodes/{at}/id", name)


def edge_problems(parts: Parts) -> Iterator[Problem]:
    """Edges whose ends are missing, second edges between two nodes, and broken conditions."""
    ids = set(parts.ids)
    seen: set[tuple[str, str]] = set()
    for at, edge in parts.edges:
        pair = edge["from"], edge["to"]
        yield from _end_problems(at, edge, ids)
        if pair in seen:
            message = (
                f"there is already an edge from {pair[0]!r} to {pair[1]!r}; delete one of them"
            )
            yield Problem("duplicate_edge", message, f"/edges/{at}", pair[0], edge.get("id"))
        seen.add(pair)
        yield from _condition_problems(at, edge)


def _end_problems(at: int, edge: EdgeDefinition, ids: set[str]) -> Iterator[Problem]:
    for key, name in (("from", edge["from"]), ("to", edge["to"])):
        if name not in ids:
            message = (
                f"the edge {edge['from']} → {edge['to']} needs the node {name!r}, which is not"
                " in this graph; add the node or delete the edge"
            )
            yield Problem("dangling_edge", message, f"/edges/{at}/{key}", None, edge.get("id"))


def _condition_problems(at: int, edge: EdgeDefinition) -> Iterator[Problem]:
    condition = (edge.get("data") or {}).get("when")
    if not condition:
        return
    try:
        expressions.compiled(condition)
    except expressions.BadExpression as error:
        message = f"the condition of the edge to {edge['to']!r} is not a valid expression: {error}"
        path = f"/edges/{at}/data/when"
        yield Problem("invalid_config", message, path, edge["from"], edge.get("id"))


def topology_of(parts: Parts) -> Topology:
    """The topology of the edges and `unites` that lead from node to node.

    Raises Cycle or TooEntangled.
    """
    ids = set(parts.ids)
    nodes = [node for _, node in parts.nodes]
    edges = [edge for _, edge in parts.edges if edge["from"] in ids and edge["to"] in ids]
    unites = {
        name: united
        for name, united in plan.unites_of({"nodes": nodes, "edges": []}).items()
        if united in ids and united != name
    }
    uniting = [node for node in nodes if node["id"] in unites]
    drawn: Definition = {"nodes": uniting, "edges": edges}
    return build(parts.ids, plan.edges_of(drawn), unites, max_waiting=MAX_WAITING)


def cycle_problem(cycle: Cycle) -> Problem:
    message = f"the edges form a cycle: {cycle}; remove one of them"
    return Problem("circular_dependency", message, "/edges", cycle.nodes[0])


def entangled_problem(error: TooEntangled) -> Problem:
    return Problem("invalid_config", str(error), "/edges")


def unites_problems(parts: Parts, shape: Topology | None) -> Iterator[Problem]:
    """Nodes that unite a missing node, themselves, or a node that a path to them avoids."""
    ids = set(parts.ids)
    for at, node in parts.nodes:
        name = node["id"]
        unites = (node.get("data") or {}).get("unites")
        if not unites:
            continue
        united = unites["identifier"]
        path = f"/nodes/{at}/data/unites/identifier"
        if united not in ids:
            message = f"it unites {united!r}, which is not a node of this graph; choose another"
            yield Problem("dangling_edge", message, path, name)
        elif united == name:
            message = "it unites itself; choose a node before it"
            yield Problem("circular_dependency", message, path, name)
        elif shape and not _is_on_every_path(shape, united, name):
            message = (
                f"it unites {united!r}, but some paths to it do not pass through {united!r};"
                " choose a node that lies on every path"
            )
            yield Problem("invalid_config", message, path, name)


def _is_on_every_path(shape: Topology, united: str, name: str) -> bool:
    return all(_is_dominated(shape, parent, united) for parent in shape.parents[name])


def _is_dominated(shape: Topology, name: str, by: str) -> bool:
    while name not in (ROOT, by):
        name = shape.dominator[name]
    return name == by
