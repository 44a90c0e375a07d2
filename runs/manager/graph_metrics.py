"""The page of a graph's metrics."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from graphs.models import Graph
from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.models import Run
from runs.queries import metrics, slots


@require_GET
@staff_page()
def graph_metrics(request: HttpRequest, pk: int) -> HttpResponse:
    """How long the newest runs of the graph and their nodes took, how often they failed, and which
    of its runs are active or wait for a slot."""
    caller = caller_of(request)
    graph = get_object_or_404(Graph.objects.visible_to(caller), pk=pk)
    context = in_admin(
        request,
        "Metrics",
        graph=graph,
        metrics=metrics.of_graph(Run.objects.filter(graph=graph)),
        concurrency=slots.of_graph(graph, caller.can("payloads", graph.namespace_id)),
    )
    return render(request, "run_manager/graph_metrics.html", context)
