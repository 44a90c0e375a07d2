"""Publishing a draft, the history of versions, restoring one, and copying the graph."""

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
from graphs.editor.edit_forms import InvalidForm, change_for
from graphs.editor.flow import Flow, shown
from graphs.editor.pages import graph_for, render_flow_page
from graphs.models import Graph, GraphVersion
from graphs.rendering import svg
from graphs.services import drafts
from graphs.services.publish import free_name
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page

VERSIONS = 50  # versions on a page
CHANGES = 20  # changes of the draft that the history lists


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
    """Show what publishing would change and what prevents it; or publish.

    If publishing is refused, the page shows the draft as it is now.
    """
    graph, caller = graph_for(request, pk, "start"), caller_of(request)
    if request.method == "GET":
        return _publish_page(request, graph, NoteForm())
    form = NoteForm(request.POST)
    if not form.is_valid():
        return _publish_page(request, graph, form, status=422)
    try:
        base = drafts.Base.of(request.POST.get("revision", ""))
        published = drafts.publish(graph, base, caller, form.cleaned_data["note"])
    except errors.StateManagerError as error:
        graph = graph_for(request, pk, "start")
        status = 409 if isinstance(error, errors.Conflict) else 422
        return _publish_page(request, graph, form, str(error), status)
    number = published.current.number if published.current else 0
    messages.success(request, f"{graph.name} was published as version {number}.")
    return redirect("flow", pk)


def _publish_page(
    request: HttpRequest, graph: Graph, form: NoteForm, message: str = "", status: int = 200
) -> HttpResponse:
    flow = Flow(caller_of(request), graph, request.GET)
    context = in_admin(
        request,
        "Publish",
        flow=flow,
        form=form,
        message=message,
        differences=_differences(_definition(graph.current, flow), flow.definition),
    )
    return render(request, "flow/publish.html", context, status=status)


def _definition(version: GraphVersion | None, flow: Flow) -> Definition:
    return shown(flow.graph, version.definition, flow.caller) if version else EMPTY


def _differences(before: Definition, after: Definition) -> list[Difference]:
    return some_differences(_by_name(before), _by_name(after))


def _by_name(definition: Definition) -> JsonObject:
    """The nodes by their ids, without the namespace that publishing adds to built-in ones."""
    named = merge.named(definition)
    for node in named["nodes"].values():
        if node.get("namespace") == plan.BUILTIN:
            node.pop("namespace")
    return named


@require_GET
@staff_page()
def history(request: HttpRequest, pk: int) -> HttpResponse:
    """The versions and the last changes of the draft.

    `?version=` shows what this version changed, and how the draft differs from it.
    """
    graph = graph_for(request, pk)
    flow = Flow(caller_of(request), graph, request.GET)
    versions = graph.versions.select_related("created_by").defer("definition").order_by("-number")
    changes = graph.draft_changes.defer("definition").order_by("-revision")
    chosen = version_of(graph, request.GET.get("version", ""))
    context = in_admin(
        request,
        "History",
        flow=flow,
        graph=graph,
        page=Paginator(versions, VERSIONS).get_page(request.GET.get("page")),
        changes=changes[:CHANGES],
        chosen=chosen,
    )
    if chosen:
        older = graph.versions.filter(number__lt=chosen.number).order_by("-number").first()
        definition = _definition(chosen, flow)
        context["changed"] = _differences(_definition(older, flow), definition)
        context["changed_since"] = _differences(definition, flow.definition)
        try:
            context["svg"] = svg.of_definition(chosen.definition, f"Version {chosen.number}")
        except errors.TooLarge as error:
            context["no_picture"] = str(error)
    return render(request, "flow/history.html", context)


def version_of(graph: Graph, number: str) -> GraphVersion | None:
    """The version with this number, if there is one."""
    return graph.versions.filter(number=parse_id(number) or 0).first()


@require_POST
@staff_page("start")
def restore(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """Make an older version the draft, without publishing it."""
    graph = graph_for(request, pk)
    version = version_of(graph, str(number))
    if version is None:
        raise Http404
    edit = Edit(version.definition.copy(), f"Restore version {number}")
    try:
        drafts.apply(graph, drafts.draft_of(graph).base, lambda _: edit, caller_of(request))
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
    else:
        messages.success(request, f"The draft is now version {number}. Nothing was published.")
    return redirect("flow", pk)


@require_POST
@staff_page("start")
def copy(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Copy the graph within its namespace.

    The copy is the draft, or what a form that conflicts with it would have made.
    """
    graph, caller = graph_for(request, pk), caller_of(request)
    try:
        definition = _definition_to_copy(request, graph)
        name = free_name(graph.namespace, f"{graph.name}-copy")
        message = f"Copy of {graph.name}"
        graph_copy = drafts.begin(graph.namespace, name, caller, definition, message)
    except InvalidForm as invalid:
        flow = Flow(caller, graph, request.POST, form=invalid.form)
        return render_flow_page(request, flow, 422)
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
        return redirect("flow", pk)
    messages.success(request, f"This is {graph_copy.name}, a copy of {graph.name}.")
    return redirect("flow", graph_copy.pk)


def _definition_to_copy(request: HttpRequest, graph: Graph) -> Definition:
    form = request.POST
    if not form.get("op"):
        return drafts.draft_of(graph).definition
    definition = drafts.at(graph, drafts.Base.of(form.get("revision", "")))
    return change_for(form, graph, caller_of(request))(definition).definition
