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
    """A definition from chains like "a>b>c"; nodes are `noop` unless `kinds` says otherwise; `when` is {"a>b": condition}."""
    kinds, inputs, data, when = kinds or {}, inputs or {}, data or {}, when or {}
    ids: list[str] = []
    edges: list[dict[str, Any]] = []
    for chain in drawing.split():
        names = chain.split(">")
        ids = list(dict.fromkeys([*ids, *names]))
        for pair in pairwise(names):
            if not any((edge["from"], edge["to"]) == pair for edge in edges):
                condition = (
                    {"data": {"when": when[">".join(pair)]}} if ">".join(pair) in when else {}
                )
                edges.append({"from": pair[0], "to": pair[1], **condition})
    made = [
        {
            "id": name,
            "kind": kinds.get(name, "noop"),
            "data": {"inputs": inputs.get(name, {}), **data.get(name, {})},
        }
        for name in ids
    ]
    for node in made:
        if node["id"] in (namespaces or {}):
            node["namespace"] = (namespaces or {})[node["id"]]
    return {"nodes": made, "edges": edges, **members}
