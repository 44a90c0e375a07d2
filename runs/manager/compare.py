"""The page that compares two runs."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from graphs.definition import redaction
from graphs.definition.differences import some_differences
from graphs.web.links import back_to
from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.core import statuses
from runs.models import Run
from runs.queries import compare as compare_module


@require_http_methods(["GET", "POST"])
@staff_page()
def compare(request: HttpRequest) -> HttpResponse:
    """Two runs side by side; a POST brings the two that were ticked in the list."""
    if request.method == "POST":
        ticked = request.POST.getlist("run")
        if len(ticked) != 2:
            messages.warning(request, "Tick two runs to compare them.")
            return redirect(back_to(request, "run_manager"))
        return redirect(f"{reverse('run_manager_compare')}?a={ticked[1]}&b={ticked[0]}")
    a, b = _run(request, "a"), _run(request, "b")
    context: dict[str, Any] = {
        "a": a,
        "b": b,
        "suggested": _suggested(request, a or b) if not (a and b) else [],
    }
    if a and b:
        context |= _compared(request, a, b)
    return render(request, "run_manager/compare.html", in_admin(request, "Compare runs", **context))


def _run(request: HttpRequest, name: str) -> Run | None:
    """The run with this pk or run id, if the user sees it."""
    text = request.GET.get(name, "").strip().replace("\x00", "")
    if not text:
        return None
    runs = Run.objects.visible_to(caller_of(request)).select_related(
        "graph__namespace", "version", "dataset__namespace", "namespace"
    )
    by_pk = (
        runs.filter(pk=int(text)).first()
        if text.isascii() and text.isdigit() and len(text) < 19
        else None
    )
    return by_pk or runs.filter(run_id=text).first()


def _suggested(request: HttpRequest, run: Run | None) -> list[Run]:
    """Runs to compare one with: its parent, and the last of its graph that completed."""
    if run is None:
        return []
    seen = (
        Run.objects.visible_to(caller_of(request))
        .exclude(pk=run.pk)
        .only("pk", "run_id", "name", "status", "created_at")
    )
    parent = list(seen.filter(pk=run.parent_id)) if run.parent_id else []
    return parent + list(
        seen.filter(graph=run.graph_id, status=statuses.COMPLETED).order_by("-pk")[:5]
        if run.graph_id
        else []
    )


def _compared(request: HttpRequest, a: Run, b: Run) -> dict[str, Any]:
    caller = caller_of(request)
    payloads = all(caller.can("payloads", run.namespace_id) for run in (a, b))
    found = compare_module.compare(a, b, payloads)
    only = request.GET.get("all") != "1"
    node = next(
        (pair for pair in found.nodes if pair.node == request.GET.get("node")), found.divergence
    )
    outputs = (
        some_differences(*(redaction.shown(side.outputs, payloads) for side in (node.a, node.b)))
        if node
        else []
    )
    shown = (
        [pair for pair in found.nodes if not pair.same]
        if only
        else sorted(found.nodes, key=lambda pair: pair.same)
    )
    return {
        "found": found,
        "nodes": shown,
        "only": only,
        "node": node,
        "outputs": outputs,
        "hidden": len(found.nodes) - len(shown),
    }
