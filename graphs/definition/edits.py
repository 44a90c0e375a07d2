"""What a person does to a drawn graph: functions from one definition to the next. Pure.

They take a definition whose shape is sound (`validation.shape_problems` finds nothing) and leave it so; whether it can run is for validation to say.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from graphs.definition import errors, references
from graphs.definition.schema import MAX_NODES

Definition = Mapping[str, Any]
EMPTY: dict[str, Any] = {"nodes": [], "edges": []}
Wire = Callable[
    [Definition, str, str], Mapping[str, Any]
]  # the inputs that an edge from one node to another suggests


@dataclass(frozen=True)
class Edit:
    """The new definition, what was done in words, and the node to look at next.

    `adds`: it takes nothing away, so it may as well be done to a newer draft. `renamed` is the old and the new id of a node.
    """

    definition: dict[str, Any]
    message: str
    node: str = ""
    adds: bool = False
    renamed: tuple[str, str] | None = None


def node_of(definition: Definition, name: str) -> dict[str, Any]:
    """Raises Malformed when it isn't there."""
    found = next((node for node in definition["nodes"] if node["id"] == name), None)
    if found is None:
        raise errors.Malformed(
            f"There is no node {name[:80]!r} in the draft; perhaps somebody deleted it."
        )
    return dict(found)


def add(
    definition: Definition,
    kind: str,
    namespace: str = "",
    after: str = "",
    wire: Wire | None = None,
) -> Edit:
    """A new node, behind another if one is named."""
    if len(definition["nodes"]) >= MAX_NODES:
        raise errors.Malformed(f"A graph has at most {MAX_NODES:,} nodes.")
    name = free_id(definition, re.sub(r"[^\w-]+", "_", kind.rpartition(".")[2]) or "node")
    made = {"id": name, "kind": kind, **({"namespace": namespace} if namespace else {})}
    found = {**definition, "nodes": [*definition["nodes"], made]}
    if after:
        found = connect(found, after, name, wire=wire).definition
    return Edit(found, f"Add {name}", name, adds=True)


def connect(
    definition: Definition, start: str, end: str, when: str = "", wire: Wire | None = None
) -> Edit:
    """An edge; inputs of its end that are still empty take what `wire` suggests."""
    node_of(definition, start), node_of(definition, end)
    if start == end:
        raise errors.Malformed("A node can't follow itself.")
    if any((edge["from"], edge["to"]) == (start, end) for edge in definition["edges"]):
        raise errors.Malformed(f"{end!r} follows {start!r} already.")
    edge: dict[str, Any] = {"from": start, "to": end, **({"data": {"when": when}} if when else {})}
    found = {**definition, "edges": [*definition["edges"], edge]}
    suggested = wire(found, start, end) if wire else {}
    if suggested:
        data = node_of(found, end).get("data") or {}
        found = _with_node(
            found,
            end,
            {
                **node_of(found, end),
                "data": {**data, "inputs": {**(data.get("inputs") or {}), **suggested}},
            },
        )
    return Edit(found, f"Connect {start} → {end}", end, adds=True)


def disconnect(definition: Definition, start: str, end: str) -> Edit:
    edges = [edge for edge in definition["edges"] if (edge["from"], edge["to"]) != (start, end)]
    return Edit({**definition, "edges": edges}, f"Disconnect {start} → {end}", end)


def condition(definition: Definition, start: str, end: str, when: str) -> Edit:
    """The edge is taken only where the condition holds; an empty one means always."""
    edges = []
    for edge in definition["edges"]:
        if (edge["from"], edge["to"]) == (start, end):
            data = {key: value for key, value in (edge.get("data") or {}).items() if key != "when"}
            edge = {
                **{key: value for key, value in edge.items() if key != "data"},
                **({"data": data | ({"when": when} if when else {})} if data or when else {}),
            }
        edges.append(edge)
    return Edit({**definition, "edges": edges}, f"Condition of {start} → {end}")


def delete(definition: Definition, name: str) -> Edit:
    """The node and its edges. Others that refer to it keep their inputs: validation will name them."""
    node_of(definition, name)
    nodes = [node for node in definition["nodes"] if node["id"] != name]
    edges = [edge for edge in definition["edges"] if name not in (edge["from"], edge["to"])]
    before = [edge["from"] for edge in definition["edges"] if edge["to"] == name]
    return Edit(
        {**definition, "nodes": nodes, "edges": edges},
        f"Delete {name}",
        before[0] if before else "",
    )


def duplicate(definition: Definition, name: str) -> Edit:
    """The same node again, with the same inputs and what leads to it, beside it."""
    node, new = node_of(definition, name), free_id(definition, name)
    place = node.get("position")
    copy = {
        **node,
        "id": new,
        **(
            {"position": {**place, "x": place["x"] + 24, "y": place["y"] + 72}}
            if place and {"x", "y"} <= place.keys()
            else {}
        ),
    }
    edges = [
        {**{key: value for key, value in edge.items() if key != "id"}, "to": new}
        for edge in definition["edges"]
        if edge["to"] == name
    ]
    return Edit(
        {
            **definition,
            "nodes": [*definition["nodes"], copy],
            "edges": [*definition["edges"], *edges],
        },
        f"Duplicate {name}",
        new,
        adds=True,
    )


def move(definition: Definition, name: str, position: Mapping[str, float] | None) -> Edit:
    """Where the node stands; None lets the layout say."""
    node = {key: value for key, value in node_of(definition, name).items() if key != "position"}
    return Edit(
        _with_node(
            definition, name, {**node, **({"position": dict(position)} if position else {})}
        ),
        f"Move {name}",
        name,
        adds=True,
    )


def arrange(definition: Definition) -> Edit:
    """Let the layout place every node."""
    nodes = [
        {key: value for key, value in node.items() if key != "position"}
        for node in definition["nodes"]
    ]
    return Edit({**definition, "nodes": nodes}, "Arrange", adds=True)


def change(definition: Definition, name: str, node: Mapping[str, Any]) -> Edit:
    """Put another node in its place. With another id all that refers to the node is renamed, too."""
    node_of(definition, name)
    found, new = dict(definition), node["id"]
    if new != name:
        if any(each["id"] == new for each in definition["nodes"]):
            raise errors.Malformed(f"There is a node {new!r} already.")
        found = rename(definition, name, new)
        node = _referring(node, {name: new})
    renamed = (name, new) if new != name else None
    return Edit(
        _with_node(found, new, node),
        f"Rename {name} to {new}" if renamed else f"Change {new}",
        new,
        renamed=renamed,
    )


def can_rename(definition: Definition, old: str, new: str) -> bool:
    ids = {node["id"] for node in definition["nodes"]}
    return old in ids and new not in ids


def rename(definition: Definition, old: str, new: str) -> dict[str, Any]:
    """Another id, wherever it stands."""
    return _renamed(definition, {old: new})


def rename_inputs(definition: Definition, names: Mapping[str, str]) -> dict[str, Any]:
    """The nodes with every reference to these inputs of the run leading to their new names; the schema of the inputs is for the caller to change."""
    nodes = []
    for node in definition["nodes"]:
        data = node.get("data") or {}
        moved = references.renamed(data.get("inputs"), names, source="run")
        nodes.append(
            {**node, "data": {**data, "inputs": moved}} if moved != data.get("inputs") else node
        )
    return {**definition, "nodes": nodes}


def paste(definition: Definition, pasted: Definition) -> Edit:
    """Add the nodes and edges of another definition; ids that are taken get a number, with all that refers to them."""
    found, moved = dict(definition), {}
    own, taken = (
        {node["id"] for node in definition["nodes"]},
        {node["id"] for each in (definition, pasted) for node in each["nodes"]},
    )
    for node in pasted["nodes"]:
        if node["id"] in own:
            moved[node["id"]] = _free(taken, node["id"])
            taken.add(moved[node["id"]])
    new = _renamed(pasted, moved)
    for key in ("nodes", "edges"):
        found[key] = [*found[key], *new[key]]
    if len(found["nodes"]) > MAX_NODES:
        raise errors.Malformed(f"A graph has at most {MAX_NODES:,} nodes.")
    count = len(new["nodes"])
    return Edit(
        found,
        f"Paste {count} node{'' if count == 1 else 's'}",
        new["nodes"][0]["id"] if count else "",
        adds=True,
    )


def free_id(definition: Definition, wanted: str) -> str:
    """The wanted id, or the first with a number behind it that is free."""
    return _free({node["id"] for node in definition["nodes"]}, wanted)


def _free(taken: Collection[str], wanted: str) -> str:
    if wanted not in taken and wanted not in ("store", "run"):
        return wanted
    stem = re.sub(r"_\d{1,6}$", "", wanted)[:190]
    return next(
        name for number in range(2, len(taken) + 4) if (name := f"{stem}_{number}") not in taken
    )


def _with_node(definition: Definition, name: str, node: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **definition,
        "nodes": [dict(node) if each["id"] == name else each for each in definition["nodes"]],
    }


def _renamed(definition: Definition, names: Mapping[str, str]) -> dict[str, Any]:
    edges = [
        {
            **edge,
            "from": names.get(edge["from"], edge["from"]),
            "to": names.get(edge["to"], edge["to"]),
        }
        for edge in definition["edges"]
    ]
    nodes = [
        _referring({**node, "id": names.get(node["id"], node["id"])}, names)
        for node in definition["nodes"]
    ]
    return {**definition, "nodes": nodes, "edges": edges}


def _referring(node: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The node with its references and its `unites` to the new ids."""
    data = dict(node.get("data") or {})
    if data.get("inputs"):
        data["inputs"] = references.renamed(data["inputs"], names)
    if (data.get("unites") or {}).get("identifier") in names:
        data["unites"] = {**data["unites"], "identifier": names[data["unites"]["identifier"]]}
    return {**node, **({"data": data} if data else {})}


def before(edges: Iterable[tuple[str, str]], name: str) -> list[str]:
    """Every node from which a path leads to this one, nearest first; circles are no harm."""
    parents: dict[str, list[str]] = {}
    for start, end in edges:
        parents.setdefault(end, []).append(start)
    found, todo = dict.fromkeys(parents.get(name, ())), list(parents.get(name, ()))
    for each in todo:
        new = [parent for parent in parents.get(each, ()) if parent not in found]
        found |= dict.fromkeys(new)
        todo += new
    found.pop(name, None)
    return list(found)
