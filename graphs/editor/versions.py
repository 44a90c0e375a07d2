"""Publishing a draft, the history of versions, restoring one, copies, and what leaves the house: JSON, Mermaid, SVG, templates."""

import json
from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from graphs.definition import errors, merge, plan
from graphs.definition.differences import Difference, some_differences
from graphs.definition.edits import EMPTY, Edit
from graphs.definition.names import parse_id
from graphs.definition.types import Definition, JsonObject
from graphs.editor import edit_forms
from graphs.editor.flow import Flow, found_in
from graphs.editor.pages import graph_for, whole
from graphs.models import Graph, GraphVersion
from graphs.rendering import mermaid, svg
from graphs.services import drafts, exosphere_template
from graphs.services.publish import free_name
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page

VERSIONS = 50
EXPORTS = ("json", "mmd", "svg", "template.json")


class NoteForm(forms.Form):
    """What a version is for."""

    note = forms.CharField(
        required=False,
        max_length=500,
        label="What changed, and why",
        widget=forms.Textarea(attrs={"rows": 2, "cols": 60}),
    )


@require_http_methods(["GET", "POST"])
@staff_page("start")
def publish(request: HttpRequest, pk: int) -> HttpResponse:
    """Show what publishing would change and what keeps it from it; then do it. When that is refused, the page says why of the draft as it is now."""
    graph, caller = graph_for(request, pk, "start"), caller_of(request)
    form = NoteForm(request.POST if request.method == "POST" else None)
    said, code = "", 422 if form.is_bound else 200
    if form.is_bound and form.is_valid():
        try:
            drafts.publish(
                graph,
                drafts.Base.of(request.POST.get("revision", "")),
                caller,
                form.cleaned_data["note"],
            )
        except errors.StateManagerError as error:
            said, code, graph = (
                str(error),
                409 if isinstance(error, errors.Conflict) else code,
                graph_for(request, pk, "start"),
            )
        else:
            messages.success(
                request,
                f"{graph.name} was published as version {graph_for(request, pk).current.number}.",
            )  # type: ignore[union-attr]
            return redirect("flow", pk)
    flow = Flow(caller, graph, request.GET)
    context = {
        "flow": flow,
        "form": form,
        "said": said,
        "differences": _differences(_definition(graph.current), flow.definition),
    }
    return render(
        request, "flow/publish.html", in_admin(request, "Publish", **context), status=code
    )


def _definition(version: GraphVersion | None) -> Definition:
    return version.definition if version else EMPTY


def _differences(before: Definition, after: Definition) -> list[Difference]:
    return some_differences(_plain(before), _plain(after))


def _plain(definition: Definition) -> JsonObject:
    """By name, and without the namespace that publishing writes out for built-in nodes."""
    found = merge.named(definition)
    for node in found["nodes"].values():
        if node.get("namespace") == plan.BUILTIN:
            node.pop("namespace")
    return found


@require_GET
@staff_page()
def history(request: HttpRequest, pk: int) -> HttpResponse:
    """The versions and the last changes of the draft; with ?version= what that version changed, or what differs from it now."""
    graph, caller = graph_for(request, pk), caller_of(request)
    flow = Flow(caller, graph, request.GET)
    page = Paginator(
        graph.versions.select_related("created_by").defer("definition").order_by("-number"),
        VERSIONS,
    ).get_page(request.GET.get("page"))
    chosen = version_of(graph, request.GET.get("version", ""))
    context: dict[str, Any] = {
        "flow": flow,
        "graph": graph,
        "page": page,
        "chosen": chosen,
        "changes": graph.draft_changes.defer("definition").order_by("-revision")[:20],
    }
    if chosen:
        before = graph.versions.filter(number__lt=chosen.number).order_by("-number").first()
        context |= {
            "changed": _differences(_definition(before), chosen.definition),
            "since": _differences(chosen.definition, flow.definition),
            "svg": svg.of_definition(chosen.definition, f"Version {chosen.number}"),
        }
    return render(request, "flow/history.html", in_admin(request, "History", **context))


def version_of(graph: Graph, number: str) -> GraphVersion | None:
    """The version of this number, if there is one."""
    return graph.versions.filter(number=parse_id(number) or 0).first()


@require_POST
@staff_page("start")
def restore(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """Make a former version the draft; publishing it is another step."""
    graph = graph_for(request, pk)
    version = version_of(graph, str(number))
    if version is None:
        raise Http404
    try:
        made = Edit(version.definition, f"Restore version {number}")
        drafts.apply(graph, drafts.draft_of(graph).base, lambda _: made, caller_of(request))
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
    else:
        messages.success(request, f"The draft is version {number} now; nothing was published.")
    return redirect("flow", pk)


@require_POST
@staff_page("start")
def copy(request: HttpRequest, pk: int) -> HttpResponseBase:
    """A new graph in the same namespace: with what a conflicting form asked for, or with the draft as it is."""
    graph, caller, asked = graph_for(request, pk), caller_of(request), request.POST
    try:
        definition = (
            drafts.at(graph, drafts.Base.of(asked.get("revision", "")))
            if asked.get("op")
            else drafts.draft_of(graph).definition
        )
        if asked.get("op"):
            definition = edit_forms.asked_for(asked, graph, caller)(definition).definition
        made = drafts.begin(
            graph.namespace,
            free_name(graph.namespace, f"{graph.name}-copy"),
            caller,
            definition,
            f"Copy of {graph.name}",
        )
    except edit_forms.Unfit as unfit:
        return whole(request, Flow(caller, graph, asked, form=unfit.form), 422)
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
        return redirect("flow", pk)
    messages.success(request, f"This is {made.name}, a copy of {graph.name}.")
    return redirect("flow", made.pk)


@require_POST
@staff_page()
def check(request: HttpRequest, pk: int) -> HttpResponse:
    """What is wrong with pasted JSON; nothing is changed."""
    graph, caller = graph_for(request, pk), caller_of(request)
    flow, text = Flow(caller, graph, {"view": "json"}), request.POST.get("json", "")
    try:
        wrong, warnings = found_in(graph, edit_forms.parsed(text, flow.definition), caller)
    except errors.StateManagerError as error:
        return whole(
            request, flow, 422, text=text, said=str(error), listed=error.extra.get("errors", [])
        )
    return whole(request, flow, text=text, checked={"wrong": wrong, "warnings": warnings})


@require_GET
@staff_page()
def export(request: HttpRequest, pk: int, form: str) -> HttpResponse:
    """The draft as a file. A template that would say less than the draft is refused with what it would leave out, unless that is known."""
    graph = graph_for(request, pk)
    definition = drafts.draft_of(graph).definition
    if (
        form == "template.json"
        and "anyway" not in request.GET
        and (listed := list(exosphere_template.inexpressible(definition)))
    ):
        said = "A graph template has no words for some of what this draft says:"
        return whole(
            request,
            Flow(caller_of(request), graph, {"view": "json"}),
            409,
            said=said,
            listed=listed,
            anyway=True,
        )
    made = {
        "json": lambda: json.dumps(
            {"name": graph.name, **definition}, ensure_ascii=False, indent=2
        ),
        "mmd": lambda: mermaid.mermaid(definition),
        "svg": lambda: svg.of_definition(definition, graph.name),
        "template.json": lambda: json.dumps(
            exosphere_template.template_of(definition), ensure_ascii=False, indent=2
        ),
    }[form]()
    kinds = {"mmd": "text/plain; charset=utf-8", "svg": "image/svg+xml"}
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in graph.name)[
        :100
    ]
    return HttpResponse(
        made,
        content_type=kinds.get(form, "application/json"),
        headers={"Content-Disposition": f'attachment; filename="{name}.{form}"'},
    )
