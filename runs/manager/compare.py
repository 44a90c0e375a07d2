"""The page that compares two runs."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from graphs.definition import errors, redaction
from graphs.definition.differences import Difference, some_differences
from graphs.definition.names import parse_id
from graphs.definition.types import JsonObject
from graphs.web.links import back_to
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.core import statuses
from runs.models import Run
from runs.queries.compare import Comparison, NodePair, compare

SUGGESTIONS = 5
MAX_NODES = 500  # that the table has
RELATED = ("graph__namespace", "version", "dataset__namespace", "namespace")
SUGGESTION_FIELDS = ("pk", "run_id", "name", "status", "created_at")


@require_http_methods(["GET", "POST"])
@staff_page()
def compare_page(request: HttpRequest) -> HttpResponse:
    """Two runs side by side. A POST brings the two runs that were selected in the list."""
    if request.method == "POST":
        selected = request.POST.getlist("run")
        if len(selected) != 2:
            messages.warning(request, "Select two runs to compare them.")
            return redirect(back_to(request, "run_manager"))
        newer, older = selected
        return redirect(f"{reverse('run_manager_compare')}?a={older}&b={newer}")

    a, b = _run(request, "a"), _run(request, "b")
    context: JsonObject = {"a": a, "b": b}
    try:
        context |= _comparison(request, a, b) if a and b else {}
    except errors.TooLarge as error:
        messages.error(request, message_of(error))
        context["b"] = None
    if not (context["a"] and context["b"]):
        context["suggestions"] = _suggestions(request, a or b)
    return render(request, "run_manager/compare.html", in_admin(request, "Compare runs", **context))


def _run(request: HttpRequest, name: str) -> Run | None:
    """The run whose row id or run id this parameter holds, if the user may see it."""
    text = request.GET.get(name, "").strip()
    if not text:
        return None
    runs = Run.objects.visible_to(caller_of(request)).select_related(*RELATED)
    pk = parse_id(text)
    run = runs.filter(pk=pk).first() if pk is not None else None
    return run or runs.filter(run_id=text).first()


def _suggestions(request: HttpRequest, run: Run | None) -> list[Run]:
    """Runs to compare this one with: its parent, and the newest completed ones of its graph."""
    if run is None:
        return []
    others = Run.objects.visible_to(caller_of(request)).exclude(pk=run.pk).only(*SUGGESTION_FIELDS)
    parent = others.filter(pk=run.parent_id) if run.parent_id else others.none()
    same_graph = others.none()
    if run.graph_id:
        completed = others.filter(graph=run.graph_id, status=statuses.COMPLETED)
        same_graph = completed.order_by("-pk")[:SUGGESTIONS]
    return [*parent, *same_graph]


def _comparison(request: HttpRequest, a: Run, b: Run) -> JsonObject:
    caller = caller_of(request)
    payloads = all(caller.can("payloads", run.namespace_id) for run in (a, b))
    comparison = compare(a, b, payloads)
    only_different = request.GET.get("all") != "1"
    node = _chosen_node(comparison, request.GET.get("node"))
    nodes = _nodes(comparison, only_different)
    return {
        "comparison": comparison,
        "nodes": nodes,
        "only_different": only_different,
        "node": node,
        "outputs": _output_differences(node, payloads) if node else [],
        "hidden": len(comparison.nodes) - len(nodes),
    }


def _chosen_node(comparison: Comparison, name: str | None) -> NodePair | None:
    """The node of this name; else the first one at which the runs differ."""
    for pair in comparison.nodes:
        if pair.node == name:
            return pair
    return comparison.divergence


def _nodes(comparison: Comparison, only_different: bool) -> list[NodePair]:
    """The nodes that differ; with `only_different` False followed by the others."""
    if only_different:
        return [pair for pair in comparison.nodes if not pair.same][:MAX_NODES]
    return sorted(comparison.nodes, key=lambda pair: pair.same)[:MAX_NODES]


def _output_differences(node: NodePair, payloads: bool) -> list[Difference]:
    outputs = [redaction.shown(side.outputs, payloads) for side in (node.a, node.b)]
    return some_differences(*outputs)
