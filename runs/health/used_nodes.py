"""Nodes that published graphs need and that nobody has, before a run waits for them."""

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from graphs.models import CronTrigger, Graph, RegisteredNode
from graphs.nodes.base import registry
from runs.core import statuses
from runs.health.probes import Finding
from runs.models import Run, RunTemplate

USED_WITHIN = timedelta(days=7)
MAX_GRAPHS = 200  # that are examined, the last changed ones

UsedNode = tuple[str, str]  # the namespace of external workers, "" for nodes of ours; the name


def findings() -> Iterator[Finding]:
    """Find nodes of graphs in use that no installed app has, or that no worker has registered."""
    graphs_by_node: dict[UsedNode, str] = {}
    for graph in _in_use().select_related("namespace", "current")[:MAX_GRAPHS]:
        nodes = graph.current.plan.nodes.values() if graph.current else ()
        for node in nodes:
            graphs_by_node.setdefault((node.worker_namespace, node.kind), str(graph))
    registered = _registered({node for node in graphs_by_node if node[0]})
    for used, needed_by in sorted(graphs_by_node.items()):
        namespace, name = used
        if namespace and used not in registered:
            yield Finding(
                "error",
                f"The graph {needed_by} needs the node {name!r} of {namespace!r}, but no worker has"
                " registered it.",
                "Start the program that registers the node.",
            )
        elif not namespace and name not in registry:
            yield Finding(
                "error",
                f"The graph {needed_by} needs the node {name!r}, but no installed app has it.",
                "Put the app back into APPS, or change the graph.",
            )


def _in_use() -> QuerySet[Graph]:
    """The graphs that run, ran lately, or are started by a schedule."""
    of_graph = Q(graph=OuterRef("pk"))
    lately = Q(status__in=statuses.ACTIVE_RUNS) | Q(created_at__gt=Now() - USED_WITHIN)
    return Graph.objects.filter(
        Exists(Run.objects.filter(of_graph & lately))
        | Exists(CronTrigger.objects.filter(of_graph, enabled=True))
        | Exists(RunTemplate.objects.filter(of_graph).exclude(expression="")),
        current__isnull=False,
    ).order_by("-updated_at")


def _registered(nodes: set[UsedNode]) -> set[UsedNode]:
    rows = RegisteredNode.objects.filter(
        namespace__name__in={namespace for namespace, _ in nodes},
        name__in={name for _, name in nodes},
    )
    return set(rows.values_list("namespace__name", "name"))
