"""Two people changed one definition: what both did, put together. Pure.

A definition is taken apart into its smallest pieces (a field of a node, one of its inputs, an edge, a setting), and each piece is merged as
version control merges lines: what only one of them changed is taken; what both changed differently is a conflict.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphs.definition import edits

Place = tuple[str, ...]
Pieces = dict[Place, Any]
GONE: Any = object()
ORDER = ("nodes", "edges", "inputs", "settings", "metadata")


@dataclass(frozen=True)
class Conflict:
    """A piece that both changed, or a node that one of them took away and the other changed. What isn't there is None."""

    place: Place
    base: Any
    mine: Any
    theirs: Any

    @property
    def where(self) -> str:
        """The place in words."""
        return " › ".join(
            part
            for part in (self.place[1:] if self.place[0] in ("nodes", "edges") else self.place)
            if part != "data"
        )


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: true is not 1 here, and 1.0 is not 1."""
    if one is GONE or other is GONE:
        return one is other
    return one is other or (
        one == other and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )


@dataclass
class Sides:
    """What was, mine and theirs, while names are made the same: a node that one of them renamed is renamed in the others, too."""

    was: Mapping[str, Any]
    mine: Mapping[str, Any]
    theirs: Mapping[str, Any]

    def follow_theirs(self, old: str, new: str, take_mine: bool = False) -> Conflict | None:
        """They renamed a node. The conflict is that I renamed or deleted it; with `take_mine` they have it under its old name again."""
        if old not in ids(self.was):
            return None
        if edits.can_rename(self.mine, old, new):
            self.was, self.mine = (
                edits.rename(self.was, old, new),
                edits.rename(self.mine, old, new),
            )
        elif take_mine:
            self.theirs = edits.rename(self.theirs, new, old)
        else:
            return self._fought(old, None, {"id": new})
        return None

    def follow_mine(self, old: str, new: str) -> Conflict | None:
        """I renamed a node. The conflict is that they haven't got it any more."""
        if edits.can_rename(self.theirs, old, new):
            self.was, self.theirs = (
                edits.rename(self.was, old, new),
                edits.rename(self.theirs, old, new),
            )
        elif old in ids(self.was) and not {old, new} & ids(self.theirs):
            return self._fought(old, {"id": new}, None)
        return None

    def _fought(self, old: str, mine: Any, theirs: Any) -> Conflict:
        return Conflict(("nodes", old), {"id": old}, mine, theirs)


def ids(definition: Mapping[str, Any]) -> set[str]:
    return {node["id"] for node in definition["nodes"]}


def merge(
    base: Mapping[str, Any],
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    prefer_mine: bool = False,
) -> tuple[dict[str, Any], list[Conflict]]:
    """Both changes of `base` together, and the pieces where they disagree: there it is theirs, or mine if that is preferred."""
    was, ours, other = pieces(base), pieces(mine), pieces(theirs)
    fought = list(_fought_over(was, ours, other))
    tops = {conflict.place for conflict in fought}
    found: Pieces = {}
    conflicts = []
    for place in dict.fromkeys([*other, *ours]):
        if place[:2] in tops:
            continue
        before, here, there = (each.get(place, GONE) for each in (was, ours, other))
        value = there if same(here, before) else here
        if not (same(here, before) or same(there, before) or same(here, there)):
            conflicts.append(
                Conflict(place, *(None if each is GONE else each for each in (before, here, there)))
            )
            value = here if prefer_mine else there
        if value is not GONE:
            found[place] = value
    chosen = ours if prefer_mine else other
    found |= {place: value for place, value in chosen.items() if place[:2] in tops}
    return whole(found), [*fought, *conflicts]


def _fought_over(was: Pieces, ours: Pieces, other: Pieces) -> Iterator[Conflict]:
    """The nodes that one of them took away while the other changed them."""
    for top in [
        place
        for place in was
        if place[0] == "nodes" and len(place) == 2 and (place in ours) != (place in other)
    ]:
        left = other if top in other else ours
        if not same(_below(left, top), _below(was, top)):
            yield Conflict(
                top, *(_below(each, top) if top in each else None for each in (was, ours, other))
            )


def _below(found: Pieces, top: Place) -> dict[str, Any]:
    return {
        ".".join(place[2:]): value
        for place, value in found.items()
        if place[:2] == top and len(place) > 2
    }


def pieces(definition: Mapping[str, Any]) -> Pieces:
    """The smallest pieces of a definition by their places, in reading order. `("nodes", id)` itself says that the node is there."""
    found: Pieces = {}
    for node in definition["nodes"]:
        top = ("nodes", node["id"])
        found[top] = True
        found |= {(*top, key): value for key, value in node.items() if key not in ("id", "data")}
        if "data" in node:
            data = node["data"] or {}
            found |= _members(
                (*top, "data"),
                {key: value for key, value in data.items() if key != "inputs"}
                or (None if data.get("inputs") else node["data"]),
            )
            found |= _members((*top, "data", "inputs"), data["inputs"]) if "inputs" in data else {}
    for edge in definition["edges"]:
        found["edges", edge["from"], edge["to"]] = {
            key: value for key, value in edge.items() if key not in ("from", "to")
        }
    for member in ("settings", "metadata"):
        if member in definition:
            found |= _members((member,), definition[member])
    if definition.get("inputs") is not None:
        found["inputs",] = definition["inputs"]
    return found


def _members(top: Place, value: Any) -> Pieces:
    """The members of an object, or what stands there instead: nothing, or an empty one."""
    return {(*top, key): each for key, each in value.items()} if value else {top: value}


def whole(found: Pieces) -> dict[str, Any]:
    """The definition that pieces make. Pieces of a node that is gone are left out."""
    nodes: dict[str, Any] = {
        place[1]: {"id": place[1]} for place in found if place[0] == "nodes" and len(place) == 2
    }
    made: dict[str, Any] = {"nodes": list(nodes.values()), "edges": []}
    for place, value in found.items():
        if place[0] == "nodes" and len(place) > 2 and place[1] in nodes:
            _put(nodes[place[1]], place[2:], value)
        elif place[0] == "edges":
            made["edges"].append({**value, "from": place[1], "to": place[2]})
        elif place[0] in ("settings", "metadata"):
            _put(made, place, value)
        elif place[0] == "inputs":
            made["inputs"] = value
    return {key: made[key] for key in ORDER if key in made}


def _put(target: dict[str, Any], path: Place, value: Any) -> None:
    """Set what a path leads to; that there is nothing, only where nothing else is."""
    for part in path[:-1]:
        target[part] = target.get(part) or {}
        target = target[part]
    if value or not target.get(path[-1]):
        target[path[-1]] = value


def named(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A definition with its nodes and edges by name instead of by number, so that two can be compared."""
    nodes = {
        node["id"]: {key: value for key, value in node.items() if key not in ("id", "text")}
        for node in definition["nodes"]
    }
    edges = {
        f"{edge['from']} → {edge['to']}": {
            key: value for key, value in edge.items() if key not in ("from", "to", "id")
        }
        for edge in definition["edges"]
    }
    return {
        "nodes": nodes,
        "edges": edges,
        **{
            key: definition[key]
            for key in ("inputs", "settings", "metadata")
            if definition.get(key)
        },
    }
