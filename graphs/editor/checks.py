"""How the nodes of a definition are registered, and what is wrong with it."""

from collections.abc import Mapping

from graphs.auth.callers import Caller
from graphs.definition import lint, validation
from graphs.definition.types import JsonObject
from graphs.definition.validation import Kind, Problem
from graphs.models import Graph
from graphs.services import publish


def kinds_of(graph: Graph, definition: Mapping, caller: Caller) -> dict[str, Kind | None]:
    """What each node of the definition is registered as; None if nothing is."""
    kinds = publish.Kinds(graph.namespace.name, definition, caller)
    return {
        node["id"]: kinds.find(node.get("namespace") or "", node["kind"])
        for node in definition["nodes"]
    }


def problems_of(
    graph: Graph, definition: JsonObject, caller: Caller
) -> tuple[list[Problem], list[Problem]]:
    """The errors and warnings of a definition, checked with the graph's namespace and secrets."""
    kinds = publish.Kinds(graph.namespace.name, definition, caller)
    secrets = set(graph.secrets.values_list("name", flat=True))
    errors = publish.judged(definition, kinds, secrets)
    if validation.shape_problems(definition):
        return errors, []
    return errors, lint.warnings(definition)
