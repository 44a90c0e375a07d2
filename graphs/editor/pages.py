"""FlowView itself: the page of one graph's draft, each change of it, and what is wrong with it."""

import json
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from graphs.auth.callers import RIGHT_LABELS
from graphs.definition import errors
from graphs.definition.edits import Edit
from graphs.definition.names import parse_id
from graphs.editor import edit_forms
from graphs.editor.flow import VIEWS, Flow
from graphs.editor.inspector import NodeForm
from graphs.editor.settings_form import SettingsForm
from graphs.models import Graph
from graphs.services import drafts, undo
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page


def graph_for(request: HttpRequest, pk: int, right: str = "view") -> Graph:
    """The graph, if the user may see it. Raises PermissionDenied without the right in its namespace."""
    graph = get_object_or_404(Graph.objects.visible_to(caller_of(request)).with_version(), pk=pk)
    if not caller_of(request).can(right, graph.namespace_id):
        raise PermissionDenied(f"You may not {RIGHT_LABELS[right]} in this namespace.")
    return graph


@require_GET
@staff_page()
def flow_page(request: HttpRequest, pk: int) -> HttpResponse:
    """The draft; for a script that chose a node only what changes by that, and the picture if the draft is another than it shows."""
    flow = Flow(caller_of(request), graph_for(request, pk), request.GET)
    if request.headers.get("HX-Request"):
        parts = [
            "bar",
            "inspector",
            *([] if request.GET.get("shown") == flow.base else [flow.drawn]),
        ]
        return render(request, "flow/_parts.html", {"flow": flow, "parts": parts, "swapped": True})
    return whole(request, flow)


def whole(request: HttpRequest, flow: Flow, code: int = 200, **more: Any) -> HttpResponse:
    """The page as such; problems are looked up first, so that the picture shows them."""
    assert flow.problems is not None
    return render(
        request,
        "flow/flow.html",
        in_admin(request, flow.graph.name, flow=flow, views=VIEWS, **more),
        status=code,
    )


@require_GET
@staff_page()
def problems(request: HttpRequest, pk: int) -> HttpResponse:
    """What is wrong with the draft."""
    flow = Flow(caller_of(request), graph_for(request, pk), request.GET)
    assert flow.problems is not None
    return render(request, "flow/_problems.html", {"flow": flow})


@require_POST
@staff_page("start")
def edit(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Change the draft as the form says, undo, or redo. What somebody else changed meanwhile is merged, or asked about."""
    graph, caller, asked = graph_for(request, pk), caller_of(request), request.POST
    try:
        if asked.get("op") in ("undo", "redo"):
            draft = undo.step(graph, caller, redo=asked["op"] == "redo")
            back = Edit(
                draft.definition,
                draft.change.message if draft.change else "",
                asked.get("node", ""),
            )
            return _changed(request, graph, drafts.Applied(draft, back, alone=False))
        base, change = (
            drafts.Base.of(asked.get("revision", "")),
            edit_forms.asked_for(asked, graph, caller),
        )
        return _changed(
            request,
            graph,
            drafts.apply(
                graph,
                base,
                change,
                caller,
                asked.get("choose", ""),
                parse_id(asked.get("seen", "")),
            ),
        )
    except edit_forms.Unfit as unfit:
        return _unfit(request, graph, unfit.form)
    except (drafts.Conflicting, drafts.Outdated) as conflict:
        return _conflict(request, graph, conflict)
    except errors.StateManagerError as error:
        return _refused(request, graph, error)


def _changed(request: HttpRequest, graph: Graph, applied: drafts.Applied) -> HttpResponse:
    """The parts that changed. The form that somebody types in is left alone, unless others changed the draft, too: it would send what it shows."""
    draft, made = applied.draft, applied.edit
    node = made.node if any(each["id"] == made.node for each in draft.definition["nodes"]) else ""
    asked = request.POST
    chosen = {"node": node} if node and asked.get("op") != "settings" else {}
    if asked.get("op") == "condition":
        chosen = {"start": asked.get("start", ""), "end": asked.get("end", "")}
    flow = Flow(caller_of(request), graph, {"view": asked.get("view"), **chosen}, draft)
    address = flow.address(**chosen)
    if not request.headers.get("HX-Request"):
        return redirect(address)
    same = (
        applied.alone
        and asked.get("op") in ("change", "settings", "condition")
        and node == asked.get("node", "")
        and "show" not in asked
    )
    if same and node:
        same = not NodeForm(flow.definition, node, flow.kinds, asked).moved
    parts = ("bar", flow.drawn, *(() if same else ("inspector",)))
    answer = render(
        request,
        "flow/_parts.html",
        {"flow": flow, "parts": parts, "swapped": True, "said": made.message},
    )
    answer["HX-Trigger"] = json.dumps({"flow-changed": {"node": node, "alone": applied.alone}})
    answer["HX-Replace-Url"] = address
    return answer


def _unfit(request: HttpRequest, graph: Graph, form: NodeForm | SettingsForm) -> HttpResponse:
    """The form again, with what doesn't fit beside its field; nothing was changed, and the form is still one of the draft that it was shown of."""
    flow = Flow(
        caller_of(request), graph, request.POST, form=form, base=request.POST.get("revision")
    )
    if request.headers.get("HX-Request"):
        context = {
            "flow": flow,
            "parts": ("inspector",),
            "swapped": True,
            "wrong": "This doesn't fit yet; nothing was saved.",
        }
        return render(request, "flow/_parts.html", context)
    return whole(request, flow, 422)


def _conflict(
    request: HttpRequest, graph: Graph, conflict: drafts.Conflicting | drafts.Outdated
) -> HttpResponse:
    """Ask whose change counts; the form carries what was asked for, so nothing is lost."""
    kept = [
        (name, value)
        for name in request.POST
        for value in request.POST.getlist(name)
        if name not in ("choose", "seen", "csrfmiddlewaretoken")
    ]
    context = {"graph": graph, "kept": kept, "back": reverse("flow", args=[graph.pk])}
    if isinstance(conflict, drafts.Outdated):
        context |= {
            "now": drafts.draft_of(graph).base,
            "kept": [(name, value) for name, value in kept if name != "revision"],
        }
    else:
        context["conflict"] = conflict
    if request.headers.get("HX-Request"):
        answer = render(request, "flow/_conflict.html", context)
        answer["HX-Retarget"], answer["HX-Reswap"] = "#fl-conflict", "innerHTML"
        return answer
    return render(
        request,
        "flow/conflict.html",
        in_admin(request, "Two changes of the same", **context),
        status=412,
    )


def _refused(request: HttpRequest, graph: Graph, error: errors.StateManagerError) -> HttpResponse:
    flow = Flow(caller_of(request), graph, request.POST, base=request.POST.get("revision"))
    if request.headers.get("HX-Request"):
        return render(
            request,
            "flow/_parts.html",
            {"flow": flow, "parts": ("bar",), "swapped": True, "wrong": message_of(error)},
        )
    if request.POST.get("view") == "json":
        return whole(
            request,
            flow,
            422,
            text=request.POST.get("json", ""),
            said=str(error),
            listed=error.extra.get("errors", []),
        )
    messages.error(request, message_of(error))
    return redirect(flow.address(**({"node": flow.node} if flow.node else {})))
