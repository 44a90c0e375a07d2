"""What is wrong with a definition: every problem at once, each with its place. Pure.

Nodes and edges of the wrong shape are reported and left out; the rules judge the rest.
"""

from collections import Counter
from collections.abc import Collection, Iterator

import jsonschema_rs

from graphs.definition import graph_rules, input_rules
from graphs.definition.json_schema import trusted_validator
from graphs.definition.problems import (
    MAX_MESSAGE,
    FindKind,
    Kind,
    Parts,
    Problem,
)
from graphs.definition.schema import EDGE_SCHEMA, GRAPH_SCHEMA, NODE_SCHEMA
from graphs.definition.topology import Cycle, TooEntangled
from graphs.definition.types import Definition, EdgeDefinition, Json, NodeDefinition

__all__ = ["FindKind", "Kind", "Problem", "problems", "shape_problems"]

_graph_validator = trusted_validator(GRAPH_SCHEMA)
_node_validator = trusted_validator(NODE_SCHEMA)
_edge_validator = trusted_validator(EDGE_SCHEMA)


def problems(
    definition: Json, find_kind: FindKind, secrets: Collection[str] | None = None
) -> list[Problem]:
    """Everything that is wrong with the definition, in reading order; empty if it can run.

    `secrets` are the names of the graph's secrets. Without them, secrets are not checked.
    """
    errors = list(_schema_errors(_graph_validator, definition, ""))
    if not _has_nodes_and_edges(definition):
        return errors

    nodes: list[tuple[int, NodeDefinition]] = []
    for at, node in enumerate(definition["nodes"]):
        wrong = _node_errors(at, node)
        errors += wrong
        if not wrong:
            nodes.append((at, node))

    edges: list[tuple[int, EdgeDefinition]] = []
    for at, edge in enumerate(definition["edges"]):
        wrong = _edge_errors(at, edge)
        errors += wrong
        if not wrong:
            edges.append((at, edge))

    kinds = {node["id"]: find_kind(node.get("namespace") or "", node["kind"]) for _, node in nodes}
    inputs, settings = definition.get("inputs"), definition.get("settings")
    return [*errors, *_rule_problems(Parts(nodes, edges, inputs, settings, kinds, secrets))]


def _rule_problems(parts: Parts) -> Iterator[Problem]:
    """The rules that need more than one part of the definition, or what is registered."""
    if not parts.nodes:
        yield Problem("missing_field", "a graph needs at least one node; add one", "/nodes")
    yield from graph_rules.id_problems(parts)
    yield from graph_rules.edge_problems(parts)
    yield from input_rules.kind_problems(parts)
    yield from input_rules.secret_problems(parts)
    yield from input_rules.schema_problems(parts)
    yield from input_rules.indexed_problems(parts)
    yield from input_rules.concurrency_problems(parts)
    try:
        shape = graph_rules.topology_of(parts)
    except Cycle as cycle:
        shape = None
        yield graph_rules.cycle_problem(cycle)
    except TooEntangled as error:
        shape = None
        yield graph_rules.entangled_problem(error)
    yield from graph_rules.unites_problems(parts, shape)
    for at, node in parts.nodes:
        yield from input_rules.input_problems(parts, at, node, shape)


def shape_problems(definition: Json) -> list[Problem]:
    """Why a definition can't even be drawn; a draft has none of these problems.

    Its nodes and edges have the right shape, every id is unique, and no two edges connect the
    same nodes in the same direction.
    """
    errors = list(_schema_errors(_graph_validator, definition, ""))
    if errors:
        return errors
    for at, node in enumerate(definition["nodes"]):
        errors += _node_errors(at, node)
    for at, edge in enumerate(definition["edges"]):
        errors += _edge_errors(at, edge)
    return errors or [*_duplicate_ids(definition), *_duplicate_edges(definition)]


def _duplicate_ids(definition: Definition) -> Iterator[Problem]:
    counts = Counter(node["id"] for node in definition["nodes"])
    for at, node in enumerate(definition["nodes"]):
        name = node["id"]
        if counts[name] > 1:
            yield graph_rules.duplicate_id(name, counts[name], at)


def _duplicate_edges(definition: Definition) -> Iterator[Problem]:
    counts = Counter((edge["from"], edge["to"]) for edge in definition["edges"])
    for (start, end), count in counts.items():
        if count > 1:
            message = f"there are {count} edges from {start!r} to {end!r}; keep one of them"
            yield Problem("duplicate_edge", message, "/edges", start)


def _has_nodes_and_edges(definition: Json) -> bool:
    return isinstance(definition, dict) and all(
        isinstance(definition.get(key), list) for key in ("nodes", "edges")
    )


def _node_errors(at: int, node: Json) -> list[Problem]:
    return list(_schema_errors(_node_validator, node, f"/nodes/{at}", node_id=_id_of(node)))


def _edge_errors(at: int, edge: Json) -> list[Problem]:
    return list(_schema_errors(_edge_validator, edge, f"/edges/{at}", edge_id=_id_of(edge)))


def _id_of(value: Json) -> str | None:
    name = value.get("id") if isinstance(value, dict) else None
    return name if isinstance(name, str) else None


def _schema_errors(
    validator: jsonschema_rs.Validator,
    value: Json,
    path: str,
    node_id: str | None = None,
    edge_id: str | None = None,
) -> Iterator[Problem]:
    for error in validator.iter_errors(value):
        place = path + "".join(f"/{part}" for part in error.instance_path)
        message = error.message[:MAX_MESSAGE]
        yield Problem(_type_of(error), message, place or "/", node_id, edge_id)


def _type_of(error: jsonschema_rs.ValidationError) -> str:
    if "type" in error.schema_path[-1:]:
        return "type_mismatch"
    is_missing = type(error.kind).__name__.endswith("Required")
    return "missing_field" if is_missing else "invalid_config"
