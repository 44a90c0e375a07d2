"""The edits of a drawn graph: functions from one definition to the next. Pure.

They take a definition of the right shape (`validation.shape_problems` finds nothing) and return
one. Whether it can run is for validation to say.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from graphs.definition import errors, renames
from graphs.definition.schema import MAX_NODES
from graphs.definition.types import (
    Definition,
    EdgeData,
    EdgeDefinition,
    JsonObject,
    NodeData,
    NodeDefinition,
    Position,
)

EMPTY: Definition = {"nodes": [], "edges": []}
DUPLICATE_OFFSET = 24, 72  # where a duplicate is drawn, from its original

# The inputs to set when an edge is drawn: (definition, from, to) -> inputs of the edge's end.
Wire = Callable[[Definition, str, str], JsonObject]


@dataclass(frozen=True)
class Edit:
    """An edited definition, a description of the edit, and the node to select afterwards.

    `adds` says that the edit removes nothing, so that it can be applied to a newer draft as well.
    `renamed` holds the old and the new id of a renamed node.
    """

    definition: Definition
    message: str
    node: str = ""
    adds: bool = False
    renamed: tuple[str, str] | None = None


def node_of(definition: Definition, name: str) -> NodeDefinition:
    """A copy of the node with this id. Raises Malformed if there is none."""
    for node in definition["nodes"]:
        if node["id"] == name:
            return node.copy()
    raise errors.Malformed(
        f"The draft has no node {name[:80]!r}. It may have been deleted; reload the page."
    )


def add(
    definition: Definition,
    kind: str,
    namespace: str = "",
    after: str = "",
    wire: Wire | None = None,
) -> Edit:
    """Add a new node, with an edge from the node `after` if one is named."""
    if len(definition["nodes"]) >= MAX_NODES:
        raise _too_many_nodes()
    name = free_id(definition, re.sub(r"[^\w-]+", "_", kind.rpartition(".")[2]) or "node")
    node: NodeDefinition = {"id": name, "kind": kind}
    if namespace:
        node["namespace"] = namespace
    edited: Definition = {**definition, "nodes": [*definition["nodes"], node]}
    if after:
        edited = connect(edited, after, name, wire=wire).definition
    return Edit(edited, f"Add {name}", name, adds=True)


def connect(
    definition: Definition, start: str, end: str, when: str = "", wire: Wire | None = None
) -> Edit:
    """Add an edge, and set the inputs of its end that `wire` suggests.

    Raises Malformed if a node is missing, or if the edge exists or would lead to its own start.
    """
    node_of(definition, start)
    node_of(definition, end)
    if start == end:
        raise errors.Malformed("A node can't follow itself. Choose another node.")
    if any((edge["from"], edge["to"]) == (start, end) for edge in definition["edges"]):
        raise errors.Malformed(f"There is already an edge from {start!r} to {end!r}.")
    edge: EdgeDefinition = {"from": start, "to": end}
    if when:
        edge["data"] = {"when": when}
    edited: Definition = {**definition, "edges": [*definition["edges"], edge]}
    suggested = wire(edited, start, end) if wire else {}
    if suggested:
        node = node_of(edited, end)
        data: NodeData = (node.get("data") or {}).copy()
        data["inputs"] = {**(data.get("inputs") or {}), **suggested}
        node["data"] = data
        edited = _with_node(edited, end, node)
    return Edit(edited, f"Connect {start} → {end}", end, adds=True)


def disconnect(definition: Definition, start: str, end: str) -> Edit:
    """Remove an edge."""
    edges = [edge for edge in definition["edges"] if (edge["from"], edge["to"]) != (start, end)]
    return Edit({**definition, "edges": edges}, f"Disconnect {start} → {end}", end)


def condition(definition: Definition, start: str, end: str, when: str) -> Edit:
    """Set the condition under which an edge is taken; an empty one means always."""
    edges: list[EdgeDefinition] = []
    for edge in definition["edges"]:
        is_meant = (edge["from"], edge["to"]) == (start, end)
        edges.append(_with_condition(edge, when) if is_meant else edge)
    return Edit({**definition, "edges": edges}, f"Condition of {start} → {end}")


def _with_condition(edge: EdgeDefinition, when: str) -> EdgeDefinition:
    data: EdgeData = (edge.get("data") or {}).copy()
    data.pop("when", None)
    if when:
        data["when"] = when
    edited = edge.copy()
    edited.pop("data", None)
    if data:
        edited["data"] = data
    return edited


def delete(definition: Definition, name: str) -> Edit:
    """Delete a node and its edges.

    Nodes that refer to it keep their inputs; validation reports the broken references.
    """
    node_of(definition, name)
    nodes = [node for node in definition["nodes"] if node["id"] != name]
    edges = [edge for edge in definition["edges"] if name not in (edge["from"], edge["to"])]
    parents = [edge["from"] for edge in definition["edges"] if edge["to"] == name]
    edited: Definition = {**definition, "nodes": nodes, "edges": edges}
    return Edit(edited, f"Delete {name}", parents[0] if parents else "")


def duplicate(definition: Definition, name: str) -> Edit:
    """Add a copy of a node, with the same inputs and the same edges leading to it."""
    copy = node_of(definition, name)
    copy["id"] = free_id(definition, name)
    position = copy.get("position")
    if position and "x" in position and "y" in position:
        right, down = DUPLICATE_OFFSET
        copy["position"] = {**position, "x": position["x"] + right, "y": position["y"] + down}

    edges = list(definition["edges"])
    for edge in definition["edges"]:
        if edge["to"] == name:
            new_edge: EdgeDefinition = {**edge, "to": copy["id"]}
            new_edge.pop("id", None)
            edges.append(new_edge)
    edited: Definition = {**definition, "nodes": [*definition["nodes"], copy], "edges": edges}
    return Edit(edited, f"Duplicate {name}", copy["id"], adds=True)


def move(definition: Definition, name: str, position: Position | None) -> Edit:
    """Put a node at a position; without one the layout places it."""
    node = node_of(definition, name)
    node.pop("position", None)
    if position:
        node["position"] = position
    return Edit(_with_node(definition, name, node), f"Move {name}", name, adds=True)


def arrange(definition: Definition) -> Edit:
    """Let the layout place every node."""
    nodes = [node.copy() for node in definition["nodes"]]
    for node in nodes:
        node.pop("position", None)
    return Edit({**definition, "nodes": nodes}, "Arrange", adds=True)


def change(definition: Definition, name: str, node: NodeDefinition) -> Edit:
    """Replace a node. If the id differs, everything that refers to the node is renamed.

    Raises Malformed if the node is missing or the new id is taken.
    """
    node_of(definition, name)
    new = node["id"]
    if new == name:
        return Edit(_with_node(definition, name, node), f"Change {name}", name)
    if any(other["id"] == new for other in definition["nodes"]):
        raise errors.Malformed(f"There is already a node {new!r}. Choose another id.")
    names = {name: new}
    edited = renames.rename_nodes(definition, names)
    edited = _with_node(edited, new, renames.rename_in_node(node, names))
    return Edit(edited, f"Rename {name} to {new}", new, renamed=(name, new))


def paste(definition: Definition, pasted: Definition) -> Edit:
    """Add the nodes and edges of another definition.

    Nodes whose ids are taken get numbers, and so does everything that refers to them. Raises
    Malformed if the graph would have too many nodes.
    """
    ids = {node["id"] for node in definition["nodes"]}
    taken = ids | {node["id"] for node in pasted["nodes"]}
    new_names: dict[str, str] = {}
    for node in pasted["nodes"]:
        if node["id"] in ids:
            new_names[node["id"]] = _free(taken, node["id"])
            taken.add(new_names[node["id"]])

    added = renames.rename_nodes(pasted, new_names)
    nodes = [*definition["nodes"], *added["nodes"]]
    if len(nodes) > MAX_NODES:
        raise _too_many_nodes()
    edges = [*definition["edges"], *added["edges"]]
    count = len(added["nodes"])
    return Edit(
        {**definition, "nodes": nodes, "edges": edges},
        f"Paste {count} node{'' if count == 1 else 's'}",
        added["nodes"][0]["id"] if count else "",
        adds=True,
    )


def free_id(definition: Definition, wanted: str) -> str:
    """The wanted id if it is free, else the first free one with a number appended."""
    return _free({node["id"] for node in definition["nodes"]}, wanted)


def _free(taken: Collection[str], wanted: str) -> str:
    # "store" and "run" are free, but references to them would mean something else.
    if wanted not in taken and wanted not in ("store", "run"):
        return wanted
    stem = re.sub(r"_\d{1,6}$", "", wanted)[:190]
    numbered = (f"{stem}_{number}" for number in range(2, len(taken) + 4))
    return next(name for name in numbered if name not in taken)


def _with_node(definition: Definition, name: str, node: NodeDefinition) -> Definition:
    nodes = [node if old["id"] == name else old for old in definition["nodes"]]
    return {**definition, "nodes": nodes}


def _too_many_nodes() -> errors.Malformed:
    return errors.Malformed(f"A graph can have at most {MAX_NODES:,} nodes.")
