"""What the commands that start runs share."""

from django.core.management.base import CommandError

from graphs.definition import errors
from graphs.models import Graph

MAX_GRAPHS_SHOWN = 10


def find_graph(name: str) -> Graph:
    """The graph NAMESPACE/GRAPH. Raises CommandError, which names some that exist."""
    namespace, _, graph_name = name.partition("/")
    graphs = Graph.objects.with_version()
    graph = graphs.filter(namespace__name=namespace, name=graph_name).first()
    if graph is None:
        names = ", ".join(map(str, graphs[:MAX_GRAPHS_SHOWN]))
        known = f"These exist: {names}." if names else "None exists yet; `demo` creates one."
        raise CommandError(f"There is no graph {name!r}. {known}")
    return graph


def describe(error: errors.StateManagerError) -> str:
    """The error with each of its problems on a line of its own."""
    problems = [str(problem) for problem in error.extra.get("errors", [])]
    return "\n  ".join([str(error), *problems])
