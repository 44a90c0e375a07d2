"""Merging two people's changes of one definition. Pure.

A definition is taken apart into its smallest pieces (a field of a node, one of its inputs, an
edge, a setting). Each piece is merged as version control merges lines: a change that only one of
them made is taken; if both changed a piece differently, that is a conflict.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphs.definition import renames
from graphs.definition.types import Definition, Json, JsonObject, NodeDefinition

Place = tuple[str, ...]
Pieces = dict[Place, Json]
GONE: Json = object()  # a piece that a definition does not have
MEMBERS = ("nodes", "edges", "inputs", "settings", "metadata")


@dataclass(frozen=True)
class Conflict:
    """A piece that both changed, or a node that one of them deleted and the other changed.

    A value that is missing is None.
    """

    place: Place
    base: Json
    mine: Json
    theirs: Json

    @property
    def where(self) -> str:
        """The place as people read it."""
        place = self.place[1:] if self.place[0] in ("nodes", "edges") else self.place
        return " › ".join(part for part in place if part != "data")


def same(first: Json, second: Json) -> bool:
    """Whether two JSON values are the same; true differs from 1, and so does 1.0."""
    if first is second:
        return True
    if first is GONE or second is GONE or first != second:
        return False
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def ids(definition: Definition) -> set[str]:
    """The ids of all nodes."""
    return {node["id"] for node in definition["nodes"]}


@dataclass
class Sides:
    """The base and both changes of it, while renames are carried over from one to the others.

    Afterwards a node that one person renamed has the new id on all sides, so that what the other
    did to it can be merged.
    """

    base: Definition
    mine: Definition
    theirs: Definition

    def follow_theirs(self, old: str, new: str, take_mine: bool = False) -> Conflict | None:
        """Carry over a rename of theirs.

        It is a conflict if I renamed or deleted that node. With `take_mine` their rename is undone
        instead.
        """
        if old not in ids(self.base):
            return None
        if renames.can_rename(self.mine, old, new):
            self.base = renames.rename_nodes(self.base, {old: new})
            self.mine = renames.rename_nodes(self.mine, {old: new})
            return None
        if take_mine:
            self.theirs = renames.rename_nodes(self.theirs, {new: old})
            return None
        return Conflict(("nodes", old), {"id": old}, None, {"id": new})

    def follow_mine(self, old: str, new: str) -> Conflict | None:
        """Carry over a rename of mine. It is a conflict if they deleted that node."""
        if renames.can_rename(self.theirs, old, new):
            self.base = renames.rename_nodes(self.base, {old: new})
            self.theirs = renames.rename_nodes(self.theirs, {old: new})
            return None
        if old in ids(self.base) and not {old, new} & ids(self.theirs):
            return Conflict(("nodes", old), {"id": old}, {"id": new}, None)
        return None


def merge(
    base: Definition, mine: Definition, theirs: Definition, prefer_mine: bool = False
) -> tuple[Definition, list[Conflict]]:
    """Both changes of `base` together, and the pieces on which they disagree.

    For those the merged definition has theirs, or mine with `prefer_mine`.
    """
    before, ours, other = pieces(base), pieces(mine), pieces(theirs)
    preferred = ours if prefer_mine else other
    conflicts = list(_deleted_and_changed(before, ours, other))
    contested = {conflict.place for conflict in conflicts}

    merged: Pieces = {}
    for place in dict.fromkeys([*other, *ours]):
        if place[:2] in contested:
            continue
        was, my_value, their_value = (side.get(place, GONE) for side in (before, ours, other))
        if same(my_value, was):
            value = their_value
        elif same(their_value, was) or same(my_value, their_value):
            value = my_value
        else:
            conflicts.append(
                Conflict(place, _or_none(was), _or_none(my_value), _or_none(their_value))
            )
            value = my_value if prefer_mine else their_value
        if value is not GONE:
            merged[place] = value

    merged |= {place: value for place, value in preferred.items() if place[:2] in contested}
    return assembled(merged), conflicts


def _or_none(value: Json) -> Json:
    return None if value is GONE else value


def _deleted_and_changed(before: Pieces, ours: Pieces, other: Pieces) -> Iterator[Conflict]:
    """The nodes that one person deleted while the other changed them."""
    for place in before:
        is_node = place[0] == "nodes" and len(place) == 2
        if not is_node or (place in ours) == (place in other):
            continue
        was = _fields_of(before, place)
        remaining = _fields_of(other if place in other else ours, place)
        if not same(remaining, was):
            mine = remaining if place in ours else None
            theirs = remaining if place in other else None
            yield Conflict(place, was, mine, theirs)


def _fields_of(parts: Pieces, node: Place) -> JsonObject:
    """The pieces of one node by their dotted names."""
    return {
        ".".join(place[2:]): value
        for place, value in parts.items()
        if place[:2] == node and len(place) > 2
    }


def pieces(definition: Definition) -> Pieces:
    """The smallest pieces of a definition by their places, in reading order.

    The piece ("nodes", id) says that the node exists.
    """
    parts: Pieces = {}
    for node in definition["nodes"]:
        parts |= _node_pieces(node)
    for edge in definition["edges"]:
        place = ("edges", edge["from"], edge["to"])
        parts[place] = _without(edge, "from", "to")
    if "settings" in definition:
        parts |= _members(("settings",), definition["settings"])
    if "metadata" in definition:
        parts |= _members(("metadata",), definition["metadata"])
    if definition.get("inputs") is not None:
        parts["inputs",] = definition["inputs"]
    return parts


def _node_pieces(node: NodeDefinition) -> Pieces:
    place = ("nodes", node["id"])
    parts: Pieces = {place: True}
    for key, value in _without(node, "id", "data").items():
        parts[*place, key] = value
    if "data" not in node:
        return parts

    data = node["data"] or {}
    others = _without(data, "inputs")
    if others:
        parts |= _members((*place, "data"), others)
    elif data.get("inputs"):
        parts[*place, "data"] = None
    else:
        parts |= _members((*place, "data"), node["data"])
    if "inputs" in data:
        parts |= _members((*place, "data", "inputs"), data["inputs"])
    return parts


def _members(place: Place, value: Mapping[str, Json] | None) -> Pieces:
    """The members of an object as pieces; an empty object or null is a piece itself."""
    if not value:
        return {place: value}
    return {(*place, key): member for key, member in value.items()}


def _without(value: Mapping[str, Json], *names: str) -> JsonObject:
    return {key: member for key, member in value.items() if key not in names}


def assembled(parts: Pieces) -> Definition:
    """The definition that is made of these pieces. Pieces of nodes that don't exist are dropped."""
    nodes: dict[str, JsonObject] = {}
    for place in parts:
        if place[0] == "nodes" and len(place) == 2:
            nodes[place[1]] = {"id": place[1]}

    definition: Json = {"nodes": list(nodes.values()), "edges": []}
    for place, value in parts.items():
        top = place[0]
        if top == "nodes" and len(place) > 2 and place[1] in nodes:
            _put(nodes[place[1]], place[2:], value)
        elif top == "edges":
            definition["edges"].append({**value, "from": place[1], "to": place[2]})
        elif top in ("settings", "metadata"):
            _put(definition, place, value)
        elif top == "inputs":
            definition["inputs"] = value
    ordered: Json = {key: definition[key] for key in MEMBERS if key in definition}
    return ordered


def _put(target: JsonObject, path: Place, value: Json) -> None:
    """Set the value at a path; an empty value never replaces one that is not empty."""
    for part in path[:-1]:
        target[part] = target.get(part) or {}
        target = target[part]
    if value or not target.get(path[-1]):
        target[path[-1]] = value


def named(definition: Definition) -> JsonObject:
    """A definition with nodes and edges by name instead of in lists, for comparing two of them."""
    others = {key: value for key, value in definition.items() if key in MEMBERS[2:] and value}
    return {
        "nodes": {node["id"]: _without(node, "id", "text") for node in definition["nodes"]},
        "edges": {
            f"{edge['from']} → {edge['to']}": _without(edge, "from", "to", "id")
            for edge in definition["edges"]
        },
        **{key: others[key] for key in MEMBERS if key in others},
    }
