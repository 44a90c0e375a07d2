"""Graphs drawn as text."""

from itertools import pairwise
from typing import Any


def definition(
    drawing: str,
    kinds: dict[str, str] | None = None,
    inputs: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    when: dict[str, str] | None = None,
    namespaces: dict[str, str] | None = None,
    **members: Any,
) -> dict[str, Any]:
    """Return the definition of a drawing: chains like "a>b>c", separated by spaces.

    Nodes are of the kind `noop` if `kinds` names no other. `when` maps edges ("a>b") to conditions.
    """
    kinds, inputs, data = kinds or {}, inputs or {}, data or {}
    when, namespaces = when or {}, namespaces or {}
    ids: list[str] = []
    edges: list[dict[str, Any]] = []
    for chain in drawing.split():
        names = chain.split(">")
        ids = list(dict.fromkeys([*ids, *names]))
        for pair in pairwise(names):
            if not any((known["from"], known["to"]) == pair for known in edges):
                edge = ">".join(pair)
                condition = {"data": {"when": when[edge]}} if edge in when else {}
                edges.append({"from": pair[0], "to": pair[1], **condition})
    nodes = [
        {
            "id": name,
            "kind": kinds.get(name, "noop"),
            "data": {"inputs": inputs.get(name, {}), **data.get(name, {})},
        }
        for name in ids
    ]
    for node in nodes:
        if node["id"] in namespaces:
            node["namespace"] = namespaces[node["id"]]
    return {"nodes": nodes, "edges": edges, **members}
