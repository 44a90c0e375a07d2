"""The part of a draft that FlowView shows at once: all of it, unless it is large."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from graphs.definition.types import Definition, EdgeDefinition, NodeDefinition
from graphs.rendering import surroundings

MAX_NODES = 200  # that the picture or the list shows
MAX_EDGES = 500  # that the picture or the list shows
MAX_NAMED = 20  # nodes that a row of the list names


@dataclass(frozen=True)
class Excerpt:
    """Some nodes and edges of a definition, and how many of them were to be chosen from."""

    definition: Definition
    of_nodes: int
    of_edges: int
    ids: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        ids = frozenset(node["id"] for node in self.definition["nodes"])
        object.__setattr__(self, "ids", ids)

    @property
    def is_part(self) -> bool:
        """Whether something was left out."""
        return self.of_nodes > len(self.ids) or self.of_edges > len(self.definition["edges"])


def around(definition: Definition, centres: Collection[str]) -> Excerpt:
    """The nodes that are nearest to the centres, or to the first node, with the edges among them.

    Edges of the centres come first.
    """
    nodes, edges = definition["nodes"], definition["edges"]
    shown = {node["id"] for node in nodes}
    if len(nodes) > MAX_NODES:
        shown = set(_nearest(definition, centres or [nodes[0]["id"]]))
    among = [edge for edge in edges if edge["from"] in shown and edge["to"] in shown]
    among.sort(key=lambda edge: not {edge["from"], edge["to"]} & {*centres})
    kept = [node for node in nodes if node["id"] in shown]
    return Excerpt(_part(definition, kept, among[:MAX_EDGES]), len(nodes), len(edges))


def _nearest(definition: Definition, centres: Collection[str]) -> list[str]:
    neighbours = defaultdict[str, list[str]](list)
    for edge in definition["edges"]:
        neighbours[edge["from"]].append(edge["to"])
        neighbours[edge["to"]].append(edge["from"])
    return surroundings.nearest(centres, lambda node: neighbours.get(node, ()), MAX_NODES)


def found(definition: Definition, text: str, chosen: str = "") -> Excerpt:
    """The first nodes in whose id, label or kind the text occurs, and edges from or to them.

    The chosen node comes first, whatever the text.
    """
    wanted = text.casefold()
    matching = [node for node in definition["nodes"] if _has(node, wanted) or node["id"] == chosen]
    matching.sort(key=lambda node: node["id"] != chosen)
    nodes = matching[:MAX_NODES]
    ids = {node["id"] for node in nodes}
    edges = [edge for edge in definition["edges"] if edge["from"] in ids or edge["to"] in ids]
    return Excerpt(_part(definition, nodes, edges[:MAX_EDGES]), len(matching), len(edges))


def _has(node: NodeDefinition, text: str) -> bool:
    texts = (node["id"], node["kind"], node.get("label") or "")
    return any(text in each.casefold() for each in texts)


def _part(
    definition: Definition, nodes: list[NodeDefinition], edges: list[EdgeDefinition]
) -> Definition:
    return {**definition, "nodes": nodes, "edges": edges}
