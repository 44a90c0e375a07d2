"""FlowView: the page of a graph's draft, and its problems."""

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from graphs.auth.callers import RIGHT_LABELS
from graphs.definition.types import Json
from graphs.editor.flow import VIEWS, Flow
from graphs.models import Graph
from graphs.web.page_guard import caller_of, in_admin, staff_page


def graph_for(request: HttpRequest, pk: int, right: str = "view") -> Graph:
    """The graph of a page.

    Raises Http404 if it doesn't exist or the user may not see it, and PermissionDenied if the
    user lacks the right in its namespace.
    """
    graph = get_object_or_404(Graph.objects.visible_to(caller_of(request)).with_version(), pk=pk)
    if not caller_of(request).can(right, graph.namespace_id):
        raise PermissionDenied(f"You may not {RIGHT_LABELS[right]} in this namespace.")
    return graph


@require_GET
@staff_page()
def flow_page(request: HttpRequest, pk: int) -> HttpResponse:
    """The draft.

    A script that has chosen a node gets only the parts that change: the bar, the inspector, and
    the drawing if it shows another draft than `shown`, or another part of a large one.
    """
    flow = Flow(caller_of(request), graph_for(request, pk), request.GET)
    if not request.headers.get("HX-Request"):
        return render_flow_page(request, flow)
    parts = ["bar", "inspector"]
    if request.GET.get("shown") != flow.base or flow.is_large:
        parts.append(flow.drawing)
    return render(request, "flow/_parts.html", {"flow": flow, "parts": parts, "swapped": True})


def render_flow_page(
    request: HttpRequest, flow: Flow, status: int = 200, **context: Json
) -> HttpResponse:
    """The whole page."""
    load_problems(flow)
    page_context = in_admin(request, flow.graph.name, flow=flow, views=VIEWS, **context)
    return render(request, "flow/flow.html", page_context, status=status)


@require_GET
@staff_page()
def problems(request: HttpRequest, pk: int) -> HttpResponse:
    """The panel with the problems of the draft."""
    flow = Flow(caller_of(request), graph_for(request, pk), request.GET)
    load_problems(flow)
    return render(request, "flow/_problems.html", {"flow": flow})


def load_problems(flow: Flow) -> None:
    """Look up the problems before the drawing is rendered, so that it marks them."""
    assert flow.problems is not None
