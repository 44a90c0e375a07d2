"""The JSON view of a draft: checking pasted JSON, and downloading the draft in other formats."""

import json
from collections.abc import Callable, Mapping

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET, require_POST

from graphs.auth import acts
from graphs.definition import errors, redaction
from graphs.definition.types import Definition, Json
from graphs.editor.checks import problems_of
from graphs.editor.flow import Flow, shown
from graphs.editor.pages import graph_for, render_flow_page
from graphs.editor.pasted import parse_definition
from graphs.models import Graph
from graphs.rendering import mermaid, svg
from graphs.services import drafts, exosphere_template
from graphs.web.downloads import attachment
from graphs.web.page_guard import caller_of, staff_page

MAX_NAME = 100  # characters of a file name
CONTENT_TYPES = {
    "json": "application/json",
    "mmd": "text/plain; charset=utf-8",
    "svg": "image/svg+xml",
    "template.json": "application/json",
}


@require_POST
@staff_page()
def check(request: HttpRequest, pk: int) -> HttpResponse:
    """The problems of pasted JSON. Nothing is changed."""
    graph, caller = graph_for(request, pk), caller_of(request)
    flow = Flow(caller, graph, {"view": "json"})
    text, former = request.POST.get("json", ""), flow.draft.definition
    try:
        definition = redaction.definition_restored(parse_definition(text, former), former)
        wrong, warnings = problems_of(graph, definition, caller)
    except errors.StateManagerError as error:
        details = error.extra.get("errors", [])
        return render_flow_page(request, flow, 422, text=text, message=str(error), details=details)
    checked = {"errors": wrong, "warnings": warnings}
    return render_flow_page(request, flow, text=text, checked=checked)


@require_GET
@staff_page()
def export(request: HttpRequest, pk: int, form: str) -> HttpResponse:
    """The draft as a file.

    A graph template can't express everything that a draft may have. If it would lose something,
    the page says what, and the download needs `?anyway`.
    """
    graph = graph_for(request, pk)
    definition = shown(graph, drafts.draft_of(graph).definition, caller_of(request))
    if form == "template.json" and "anyway" not in request.GET:
        lost = list(exosphere_template.inexpressible(definition))
        if lost:
            return _confirm_loss(request, graph, lost)
    try:
        file = EXPORTS[form](graph, definition)
    except errors.TooLarge as error:
        flow = Flow(caller_of(request), graph, {"view": "json"})
        return render_flow_page(request, flow, 413, message=str(error))
    acts.record(caller_of(request), "export_graph", graph.namespace_id, f"{graph}: {form}")
    return HttpResponse(
        file,
        content_type=CONTENT_TYPES[form],
        headers=attachment(f"{graph.name[:MAX_NAME]}.{form}"),
    )


def _confirm_loss(request: HttpRequest, graph: Graph, lost: list[Json]) -> HttpResponse:
    flow = Flow(caller_of(request), graph, {"view": "json"})
    message = "A graph template can't express these parts of the draft:"
    return render_flow_page(request, flow, 409, message=message, details=lost, anyway=True)


def _dump(value: Mapping[str, Json]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


EXPORTS: dict[str, Callable[[Graph, Definition], str]] = {
    "json": lambda graph, definition: _dump({"name": graph.name, **definition}),
    "mmd": lambda graph, definition: mermaid.mermaid(definition),
    "svg": lambda graph, definition: svg.of_definition(definition, graph.name),
    "template.json": lambda graph, definition: _dump(exosphere_template.template_of(definition)),
}
