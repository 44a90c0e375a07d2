"""How the nodes of a definition are registered, and what is wrong with it."""

from graphs.auth.callers import Caller
from graphs.definition import lint, validation
from graphs.definition.types import Definition
from graphs.definition.validation import Kind, Problem
from graphs.models import Graph
from graphs.services.kinds import Kinds
from graphs.services.publish import find_problems


def kinds_of(graph: Graph, definition: Definition, caller: Caller) -> dict[str, Kind | None]:
    """What each node of the definition is registered as; None if nothing is."""
    kinds = Kinds(graph.namespace.name, definition, caller)
    return {
        node["id"]: kinds.find(node.get("namespace") or "", node["kind"])
        for node in definition["nodes"]
    }


def problems_of(
    graph: Graph, definition: Definition, caller: Caller
) -> tuple[list[Problem], list[Problem]]:
    """The errors and warnings of a definition, checked with the graph's namespace and secrets."""
    kinds = Kinds(graph.namespace.name, definition, caller)
    secrets = set(graph.secrets.values_list("name", flat=True))
    errors = find_problems(definition, kinds, secrets)
    if validation.shape_problems(definition):
        return errors, []
    return errors, lint.warnings(definition)
