"""Two people changed one definition: what both did, put together. Pure.

A definition is taken apart into its smallest pieces (a field of a node, one of its inputs, an edge, a setting), and each piece is merged as
version control merges lines: what only one of them changed is taken; what both changed differently is a conflict.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Place = tuple[str, ...]
Pieces = dict[Place, Any]
GONE: Any = object()
ORDER = ("nodes", "edges", "inputs", "settings", "metadata")


@dataclass(frozen=True)
class Conflict:
    """A piece that both changed. A piece that one of them took away is None there."""

    place: Place
    base: Any
    mine: Any
    theirs: Any

    @property
    def where(self) -> str:
        """The place in words."""
        return " › ".join(self.place[1:] if self.place[0] in ("nodes", "edges") else self.place)


def merge(base: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any], prefer_mine: bool = False) -> tuple[dict[str, Any], list[Conflict]]:
    """Both changes of `base` together, and the pieces where they disagree: there it is theirs, or mine if that is preferred."""
    was, ours, other = pieces(base), pieces(mine), pieces(theirs)
    found: Pieces = {}
    conflicts = []
    for place in dict.fromkeys([*other, *ours]):
        before, here, there = (each.get(place, GONE) for each in (was, ours, other))
        value = there if here == before else here
        if here != before and there != before and here != there:
            conflicts.append(Conflict(place, *(None if each is GONE else each for each in (before, here, there))))
            value = here if prefer_mine else there
        if value is not GONE:
            found[place] = value
    for top in {conflict.place[:2] for conflict in conflicts if conflict.place[0] == "nodes"}:
        found = _all_of(found, top, ours if prefer_mine else other)
    return whole(found), conflicts


def _all_of(found: Pieces, top: Place, chosen: Pieces) -> Pieces:
    """One of them took the node away, the other changed it: it is as the chosen one has it, whole or gone."""
    if top in found and top in chosen:
        return found
    others = {place: value for place, value in found.items() if place[:2] != top}
    return {**others, **{place: value for place, value in chosen.items() if place[:2] == top}}


def pieces(definition: Mapping[str, Any]) -> Pieces:
    """The smallest pieces of a definition by their places, in reading order. `("nodes", id)` itself says that the node is there."""
    found: Pieces = {}
    for node in definition["nodes"]:
        top = ("nodes", node["id"])
        found[top] = True
        data = node.get("data") or {}
        found |= {(*top, key): value for key, value in node.items() if key not in ("id", "data")}
        found |= {(*top, "data", key): value for key, value in data.items() if key != "inputs"}
        found |= {(*top, "inputs", key): value for key, value in (data.get("inputs") or {}).items()}
    for edge in definition["edges"]:
        found["edges", edge["from"], edge["to"]] = {key: value for key, value in edge.items() if key not in ("from", "to")}
    for member in ("settings", "metadata"):
        found |= {(member, key): value for key, value in (definition.get(member) or {}).items()}
    if definition.get("inputs") is not None:
        found["inputs",] = definition["inputs"]
    return found


def whole(found: Pieces) -> dict[str, Any]:
    """The definition that pieces make. Pieces of a node that is gone are left out."""
    nodes: dict[str, Any] = {place[1]: {"id": place[1]} for place in found if place[0] == "nodes" and len(place) == 2}
    made: dict[str, Any] = {"nodes": list(nodes.values()), "edges": []}
    for place, value in found.items():
        if place[0] == "nodes" and len(place) > 2 and place[1] in nodes:
            node = nodes[place[1]]
            if place[2] == "data":
                node.setdefault("data", {})[place[3]] = value
            elif place[2] == "inputs":
                node.setdefault("data", {}).setdefault("inputs", {})[place[3]] = value
            else:
                node[place[2]] = value
        elif place[0] == "edges":
            made["edges"].append({**value, "from": place[1], "to": place[2]})
        elif place[0] in ("settings", "metadata"):
            made.setdefault(place[0], {})[place[1]] = value
        elif place[0] == "inputs":
            made["inputs"] = value
    return {key: made[key] for key in ORDER if key in made}


def named(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A definition with its nodes and edges by name instead of by number, so that two can be compared."""
    nodes = {node["id"]: {key: value for key, value in node.items() if key not in ("id", "text")} for node in definition["nodes"]}
    edges = {f"{edge['from']} → {edge['to']}": {key: value for key, value in edge.items() if key not in ("from", "to", "id")} for edge in definition["edges"]}
    return {"nodes": nodes, "edges": edges, **{key: definition[key] for key in ("inputs", "settings", "metadata") if definition.get(key)}}
