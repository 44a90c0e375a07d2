"""What is allowed in a definition, but probably not meant. Pure; the definition's shape must be sound."""

from collections.abc import Iterator, Mapping
from typing import Any

from graphs.definition import plan, references, validation
from graphs.definition.validation import Problem


def warnings(definition: Mapping[str, Any]) -> list[Problem]:
    """In reading order; none keeps a graph from running."""
    return [
        *_alone(definition),
        *_nameless(definition),
        *_conditions(definition),
        *_undeclared(definition),
        *_unused(definition),
    ]


def _alone(definition: Mapping[str, Any]) -> Iterator[Problem]:
    joined = {end for edge in plan.edges_of(definition) for end in edge}
    if len(definition["nodes"]) > 1:
        for at, node in enumerate(definition["nodes"]):
            if node["id"] not in joined:
                yield Problem(
                    "not_connected",
                    "no edge leads to it or from it; it runs by itself at the start",
                    f"/nodes/{at}",
                    node["id"],
                )


def _nameless(definition: Mapping[str, Any]) -> Iterator[Problem]:
    followed = {start for start, _ in plan.edges_of(definition)}
    for at, node in enumerate(definition["nodes"]):
        if node["id"] in followed and not references.can_name(node["id"]):
            message = "the nodes after it can't refer to its outputs: its id has a dot or a brace in it, or blanks around it"
            yield Problem("nameless", message, f"/nodes/{at}/id", node["id"])


def _conditions(definition: Mapping[str, Any]) -> Iterator[Problem]:
    for at, edge in enumerate(definition["edges"]):
        when = ((edge.get("data") or {}).get("when") or "").strip()
        if when in ("true", "false"):
            yield Problem(
                "constant_condition",
                f"the condition is always {when}",
                f"/edges/{at}/data/when",
                edge["from"],
                edge.get("id"),
            )


def _undeclared(definition: Mapping[str, Any]) -> Iterator[Problem]:
    """A program may give inputs that the graph doesn't declare, unless its schema forbids it; then it is an error."""
    inputs = definition.get("inputs")
    for at, node in enumerate([] if validation.closed(inputs) else definition["nodes"]):
        for key, value in ((node.get("data") or {}).get("inputs") or {}).items():
            for reference in _references(value):
                if reference.source == "run" and (
                    wrong := validation.undeclared(inputs, reference)
                ):
                    yield Problem(
                        "undeclared_input", wrong, f"/nodes/{at}/data/inputs/{key}", node["id"]
                    )


def _references(value: Any) -> list[references.Reference]:
    """Those that can be read; validation names the others."""
    try:
        return list(references.find(value))
    except references.BadReference:
        return []


def _unused(definition: Mapping[str, Any]) -> Iterator[Problem]:
    used = set()
    for node in definition["nodes"]:
        used |= {
            (found.source, found.path[0])
            for found in _references((node.get("data") or {}).get("inputs") or {})
            if found.source != "node"
        }
    inputs = definition.get("inputs")
    roots = {node["id"] for node in definition["nodes"]} - {
        edge["to"] for edge in definition["edges"]
    }
    taken = {
        name
        for node in definition["nodes"]
        if node["id"] in roots
        for name in (node.get("data") or {}).get("inputs") or {}
    }
    for name in (inputs.get("properties") or {}) if isinstance(inputs, dict) else ():
        if ("run", name) not in used and name not in taken:
            yield Problem(
                "unused_input",
                f"no node refers to the run's input {name!r}",
                f"/inputs/properties/{name}",
            )
    store = (definition.get("settings") or {}).get("store") or {}
    for name in store.get("default_values") or {}:
        if ("store", name) not in used:
            yield Problem(
                "unused_input",
                f"no node refers to the store's key {name!r}",
                f"/settings/store/default_values/{name}",
            )
