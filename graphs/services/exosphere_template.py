"""A graph as `/v0` spells it (contract section A.3), read into a definition and written from one. Pure.

A template says less than a definition: conditions, timeouts, labels, positions and run settings that a graph already has stay as they are
when a program puts its template again.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from graphs.definition import retry_delay
from graphs.definition.validation import Problem

Json = dict[str, Any]
EMPTY: Json = {"nodes": [], "edges": []}


def definition_of(template: Mapping[str, Any], former: Mapping[str, Any] = EMPTY) -> Json:
    """The definition that a template makes, over what the graph was before."""
    was = {(node["id"], node["kind"]): node for node in former["nodes"]}
    conditions = {(edge["from"], edge["to"]): edge for edge in former["edges"]}
    made, edges = [], []
    for node in template["nodes"]:
        old = was.get((node["identifier"], node["node_name"]), {})
        kept = {
            key: value
            for key, value in (old.get("data") or {}).items()
            if key not in ("inputs", "unites")
        }
        said = {key: node[key] for key in ("unites", "lease") if node.get(key)}
        data = {**kept, "inputs": node["inputs"], **said}
        plain = {key: old[key] for key in ("label", "position") if key in old}
        made.append(
            {
                "id": node["identifier"],
                "kind": node["node_name"],
                "namespace": node["namespace"],
                **plain,
                "data": data,
            }
        )
        for name in node["next_nodes"]:
            pair = (node["identifier"], name)
            edges.append(conditions.get(pair) or {"from": pair[0], "to": pair[1]})
    own = {
        "retry": template["retry_policy"],
        "store": template["store_config"],
        **({"lease": template["lease"]} if template.get("lease") else {}),
    }
    settings = {**(former.get("settings") or {}), **own}
    return {
        **{key: former[key] for key in ("inputs", "metadata") if key in former},
        "nodes": made,
        "edges": edges,
        "settings": settings,
    }


def problems(nodes: Iterable[Mapping[str, Any]]) -> Iterator[Problem]:
    """What a template must keep beyond the rules for definitions: exactly one root, from which every node is reached."""
    nodes = list(nodes)
    followers = {node["identifier"]: node["next_nodes"] for node in nodes}
    reached_by = Counter(name for names in followers.values() for name in names)
    roots = [
        node["identifier"]
        for node in nodes
        if not reached_by[node["identifier"]] and not node["unites"]
    ]
    if len(roots) != 1:
        yield Problem(
            "invalid_config",
            f"a graph has exactly one root node; this one has {', '.join(map(repr, roots)) or 'none'}",
            "/nodes",
        )
        return
    seen, todo = set(roots), list(roots)
    while todo:
        for name in followers.get(todo.pop(), ()):
            if name in followers and name not in seen:
                seen.add(name)
                todo.append(name)
    for at, node in enumerate(nodes):
        if node["identifier"] not in seen:
            message = f"the node {node['identifier']!r} is disconnected: no path leads to it from the root {roots[0]!r}"
            yield Problem("invalid_config", message, f"/nodes/{at}", node["identifier"])


def template_of(definition: Mapping[str, Any]) -> Json:
    """`nodes`, `retry_policy`, `store_config` and, if it is set, `lease` of a definition, whoever made it."""
    followers: dict[str, list[str]] = {node["id"]: [] for node in definition["nodes"]}
    for edge in definition["edges"]:
        if edge["from"] in followers:  # a draft may have loose ends
            followers[edge["from"]].append(edge["to"])
    settings = definition.get("settings") or {}
    store = settings.get("store") or {}
    return {
        "nodes": [_node(node, followers[node["id"]]) for node in definition["nodes"]],
        "retry_policy": asdict(retry_delay.Policy.of(settings.get("retry"))),
        "store_config": {
            "required_keys": store.get("required_keys") or [],
            "default_values": store.get("default_values") or {},
        },
        **({"lease": settings["lease"]} if settings.get("lease") else {}),
    }


def unsaid(definition: Mapping[str, Any]) -> Iterator[Problem]:
    """What a template has no words for and a run of it would be without; labels and positions are looks only."""
    for at, edge in enumerate(definition["edges"]):
        if when := (edge.get("data") or {}).get("when"):
            yield Problem(
                "unsaid",
                f"the condition of {edge['from']} → {edge['to']}: {when}",
                f"/edges/{at}/data/when",
                edge["from"],
                edge.get("id"),
            )
    for at, node in enumerate(definition["nodes"]):
        for key in ("retry", "timeout", "side_effects"):
            if (node.get("data") or {}).get(key):
                yield Problem(
                    "unsaid", f"{key} of {node['id']}", f"/nodes/{at}/data/{key}", node["id"]
                )
    if definition.get("inputs"):
        yield Problem("unsaid", "the inputs of a run, with their types and defaults", "/inputs")
    settings = definition.get("settings") or {}
    for key in ("failure_policy", "max_failures", "max_steps", "rerun_on_failure"):
        if settings.get(key) not in (None, "continue"):
            yield Problem("unsaid", f"{key}: {settings[key]}", f"/settings/{key}")


def _node(node: Mapping[str, Any], followers: list[str]) -> Json:
    data = node.get("data") or {}
    unites = data.get("unites")
    return {
        "node_name": node["kind"],
        "namespace": node.get("namespace") or "",
        "identifier": node["id"],
        "inputs": data.get("inputs") or {},
        "next_nodes": followers,
        "unites": {
            "identifier": unites["identifier"],
            "strategy": unites.get("strategy") or "ALL_SUCCESS",
        }
        if unites
        else None,
        **({"lease": data["lease"]} if data.get("lease") else {}),
    }
