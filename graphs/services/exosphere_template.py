"""Graph templates, the form in which the `/v0` API reads and writes graphs. Pure.

A template can express less than a definition: it has no conditions, timeouts, labels, positions and
run settings. Those that a graph already has are kept when a program puts its template again.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from graphs.definition import retry_delay
from graphs.definition.types import Json, JsonObject
from graphs.definition.validation import Problem

EMPTY: JsonObject = {"nodes": [], "edges": []}


def definition_of(template: Mapping[str, Json], former: Mapping[str, Json] = EMPTY) -> JsonObject:
    """The definition that a template describes.

    `former` is the graph's definition so far, from which everything is kept that a template can't
    express. A node is the same as before if its id and its kind are the same.
    """
    former_nodes = {(node["id"], node["kind"]): node for node in former["nodes"]}
    former_edges = {(edge["from"], edge["to"]): edge for edge in former["edges"]}
    nodes = []
    edges = []
    for node in template["nodes"]:
        former_node = former_nodes.get((node["identifier"], node["node_name"]), {})
        nodes.append(_definition_node(node, former_node))
        for follower in node["next_nodes"]:
            pair = (node["identifier"], follower)
            edges.append(former_edges.get(pair) or {"from": pair[0], "to": pair[1]})

    kept = {key: former[key] for key in ("inputs", "metadata") if key in former}
    return {
        **kept,
        "nodes": nodes,
        "edges": edges,
        "settings": _settings(template, former.get("settings") or {}),
    }


def _definition_node(node: Mapping[str, Json], former: Mapping[str, Json]) -> JsonObject:
    kept = {key: former[key] for key in ("label", "position") if key in former}
    data = {
        key: value
        for key, value in (former.get("data") or {}).items()
        if key not in ("inputs", "unites")
    }
    data["inputs"] = node["inputs"]
    data |= {key: node[key] for key in ("unites", "lease") if node.get(key)}
    return {
        "id": node["identifier"],
        "kind": node["node_name"],
        "namespace": node["namespace"],
        **kept,
        "data": data,
    }


def _settings(template: Mapping[str, Json], former: Mapping[str, Json]) -> JsonObject:
    settings = {
        **former,
        "retry": template["retry_policy"],
        "store": template["store_config"],
    }
    if template.get("lease"):
        settings["lease"] = template["lease"]
    return settings


def problems(nodes: Sequence[Mapping[str, Json]]) -> Iterator[Problem]:
    """The problems of a template beyond those of its definition.

    A template has exactly one root, which is a node without predecessors that unites nothing, and a
    path leads from the root to every other node.
    """
    followers = {node["identifier"]: node["next_nodes"] for node in nodes}
    predecessors = Counter(name for names in followers.values() for name in names)
    roots = [
        node["identifier"]
        for node in nodes
        if not predecessors[node["identifier"]] and not node["unites"]
    ]
    if len(roots) != 1:
        listed = ", ".join(map(repr, roots)) or "none"
        message = f"a graph has exactly one root node; this one has {listed}"
        yield Problem("invalid_config", message, "/nodes")
        return

    connected = _reachable(roots[0], followers)
    for index, node in enumerate(nodes):
        if node["identifier"] not in connected:
            message = (
                f"the node {node['identifier']!r} is disconnected: no path leads to it from the "
                f"root {roots[0]!r}"
            )
            yield Problem("invalid_config", message, f"/nodes/{index}", node["identifier"])


def _reachable(root: str, followers: Mapping[str, Iterable[str]]) -> set[str]:
    """The nodes to which a path leads from the root, and the root itself."""
    reached = {root}
    to_visit = [root]
    while to_visit:
        for name in followers.get(to_visit.pop(), ()):
            if name in followers and name not in reached:
                reached.add(name)
                to_visit.append(name)
    return reached


def template_of(definition: Mapping[str, Json]) -> JsonObject:
    """A definition as a template. The definition may be a draft with problems.

    The template has `nodes`, `retry_policy`, `store_config`, and `lease` if it is set.
    """
    followers: dict[str, list[str]] = {node["id"]: [] for node in definition["nodes"]}
    for edge in definition["edges"]:
        if edge["from"] in followers:  # an edge of a draft may start nowhere
            followers[edge["from"]].append(edge["to"])

    settings = definition.get("settings") or {}
    store = settings.get("store") or {}
    template: JsonObject = {
        "nodes": [_template_node(node, followers[node["id"]]) for node in definition["nodes"]],
        "retry_policy": asdict(retry_delay.Policy.of(settings.get("retry"))),
        "store_config": {
            "required_keys": store.get("required_keys") or [],
            "default_values": store.get("default_values") or {},
        },
    }
    if settings.get("lease"):
        template["lease"] = settings["lease"]
    return template


def _template_node(node: Mapping[str, Json], followers: list[str]) -> JsonObject:
    data = node.get("data") or {}
    template_node: JsonObject = {
        "node_name": node["kind"],
        "namespace": node.get("namespace") or "",
        "identifier": node["id"],
        "inputs": data.get("inputs") or {},
        "next_nodes": followers,
        "unites": None,
    }
    if data.get("unites"):
        template_node["unites"] = {
            "identifier": data["unites"]["identifier"],
            "strategy": data["unites"].get("strategy") or "ALL_SUCCESS",
        }
    if data.get("lease"):
        template_node["lease"] = data["lease"]
    return template_node


def inexpressible(definition: Mapping[str, Json]) -> Iterator[Problem]:
    """What a run would lack if it started from the template of this definition.

    Labels and positions don't count, since they change nothing about a run.
    """
    for index, edge in enumerate(definition["edges"]):
        condition = (edge.get("data") or {}).get("when")
        if condition:
            message = f"the condition of {edge['from']} → {edge['to']}: {condition}"
            path = f"/edges/{index}/data/when"
            yield Problem("not_in_template", message, path, edge["from"], edge.get("id"))

    for index, node in enumerate(definition["nodes"]):
        for key in ("retry", "timeout", "side_effects"):
            if (node.get("data") or {}).get(key):
                path = f"/nodes/{index}/data/{key}"
                yield Problem("not_in_template", f"{key} of {node['id']}", path, node["id"])

    if definition.get("inputs"):
        message = "the inputs of a run, with their types and defaults"
        yield Problem("not_in_template", message, "/inputs")

    settings = definition.get("settings") or {}
    for key in (
        "failure_policy",
        "max_failures",
        "max_steps",
        "timeout",
        "start_by",
        "concurrency",
        "rerun_on_failure",
        "indexed_inputs",
    ):
        if settings.get(key) not in (None, "continue", []):
            yield Problem("not_in_template", f"{key}: {settings[key]}", f"/settings/{key}")
    if settings.get("priority"):
        message = f"priority: {settings['priority']}"
        yield Problem("not_in_template", message, "/settings/priority")
