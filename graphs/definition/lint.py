"""What a definition allows, but its author probably did not mean. Pure.

The definition must have the right shape: `validation.shape_problems` finds nothing.
"""

from collections.abc import Iterator

from graphs.definition import input_rules, plan, references
from graphs.definition.problems import Problem, object_at
from graphs.definition.references import Reference
from graphs.definition.types import Definition, Json, JsonObject, NodeDefinition


def warnings(definition: Definition) -> list[Problem]:
    """The warnings in reading order. None of them keeps a graph from running."""
    return [
        *_unconnected_nodes(definition),
        *_unnameable_nodes(definition),
        *_constant_conditions(definition),
        *_undeclared_inputs(definition),
        *_unused_inputs(definition),
        *_unused_store_keys(definition),
    ]


def _unconnected_nodes(definition: Definition) -> Iterator[Problem]:
    if len(definition["nodes"]) == 1:
        return
    connected = {end for edge in plan.edges_of(definition) for end in edge}
    for at, node in enumerate(definition["nodes"]):
        if node["id"] not in connected:
            message = (
                "no edge leads to this node or from it, so it runs at the start of the run;"
                " connect it, or delete it"
            )
            yield Problem("not_connected", message, f"/nodes/{at}", node["id"])


def _unnameable_nodes(definition: Definition) -> Iterator[Problem]:
    """Nodes with an id that no reference can hold, where other nodes follow."""
    followed = {start for start, _ in plan.edges_of(definition)}
    for at, node in enumerate(definition["nodes"]):
        if node["id"] in followed and not references.can_name(node["id"]):
            message = (
                "the nodes after it can't refer to its outputs, because its id contains a dot or a"
                " brace, or starts or ends with a space; rename it"
            )
            yield Problem("nameless", message, f"/nodes/{at}/id", node["id"])


def _constant_conditions(definition: Definition) -> Iterator[Problem]:
    advice = {
        "true": "the condition is always true; delete it",
        "false": "the condition is always false, so the edge is never taken; delete the edge",
    }
    for at, edge in enumerate(definition["edges"]):
        condition = ((edge.get("data") or {}).get("when") or "").strip()
        if message := advice.get(condition):
            path = f"/edges/{at}/data/when"
            yield Problem("constant_condition", message, path, edge["from"], edge.get("id"))


def _undeclared_inputs(definition: Definition) -> Iterator[Problem]:
    """References to inputs of the run that the graph does not declare.

    A start may set such inputs, unless the graph's schema forbids it; then validation reports an
    error instead.
    """
    schema = definition.get("inputs")
    if input_rules.is_closed(schema):
        return
    for at, node in enumerate(definition["nodes"]):
        for key, value in _inputs_of(node).items():
            for reference in _readable_references(value):
                if reference.source != "run":
                    continue
                if message := input_rules.undeclared_input(schema, reference):
                    path = f"/nodes/{at}/data/inputs/{key}"
                    yield Problem("undeclared_input", message, path, node["id"])


def _unused_inputs(definition: Definition) -> Iterator[Problem]:
    """Inputs of the run to which no node refers. A root takes them by their names, too."""
    used = _used_names(definition, "run")
    roots = {node["id"] for node in definition["nodes"]}
    roots -= {edge["to"] for edge in definition["edges"]}
    for node in definition["nodes"]:
        if node["id"] in roots:
            used |= set(_inputs_of(node))
    for name in object_at(definition.get("inputs"), "properties"):
        if name not in used:
            message = f"no node refers to the run's input {name!r}; use it, or delete it"
            yield Problem("unused_input", message, f"/inputs/properties/{name}")


def _unused_store_keys(definition: Definition) -> Iterator[Problem]:
    used = _used_names(definition, "store")
    for name in object_at(definition.get("settings"), "store", "default_values"):
        if name not in used:
            message = f"no node refers to the store's key {name!r}; use it, or delete it"
            yield Problem("unused_input", message, f"/settings/store/default_values/{name}")


def _used_names(definition: Definition, source: str) -> set[str]:
    """The first parts of all references to the inputs of the run, or to the store."""
    used: set[str] = set()
    for node in definition["nodes"]:
        for reference in _readable_references(_inputs_of(node)):
            if reference.source == source:
                used.add(reference.path[0])
    return used


def _inputs_of(node: NodeDefinition) -> JsonObject:
    return (node.get("data") or {}).get("inputs") or {}


def _readable_references(value: Json) -> list[Reference]:
    """The references in a value; none if one of them is broken, which validation reports."""
    try:
        return list(references.find(value))
    except references.BadReference:
        return []
