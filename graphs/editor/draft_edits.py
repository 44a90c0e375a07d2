"""Changing the draft: what a form asks for is applied, merged with what others did, or refused."""

import json
from dataclasses import replace

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from graphs.definition import errors, merge, redaction
from graphs.definition.edits import Edit
from graphs.definition.names import parse_id
from graphs.definition.types import JsonObject
from graphs.editor.edit_forms import InvalidForm, change_for
from graphs.editor.flow import Flow
from graphs.editor.inspector import NodeForm
from graphs.editor.pages import graph_for, render_flow_page
from graphs.editor.settings_form import SettingsForm
from graphs.models import Graph
from graphs.services import drafts, undo
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page

TYPED_IN = ("change", "settings", "condition")  # forms that are saved while the user types
NOT_RESENT = ("choose", "seen", "csrfmiddlewaretoken")


@require_POST
@staff_page("start")
def edit(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Change the draft as the form says, undo, or redo.

    Changes that others made since the form was shown are merged. If both changed the same, the
    user is asked whose change to take.
    """
    graph = graph_for(request, pk)
    try:
        if request.POST.get("op") in ("undo", "redo"):
            return _changed(request, graph, _step(request, graph))
        return _changed(request, graph, _apply(request, graph))
    except InvalidForm as invalid:
        return _invalid(request, graph, invalid.form)
    except (drafts.Conflicting, drafts.Outdated) as conflict:
        return _conflict(request, graph, conflict)
    except errors.StateManagerError as error:
        return _refused(request, graph, error)


def _step(request: HttpRequest, graph: Graph) -> drafts.Applied:
    """Undo or redo a change."""
    form = request.POST
    draft = undo.step(graph, caller_of(request), redo=form["op"] == "redo")
    message = draft.change.message if draft.change else ""
    return drafts.Applied(draft, Edit(draft.definition, message, form.get("node", "")), alone=False)


def _apply(request: HttpRequest, graph: Graph) -> drafts.Applied:
    form, caller = request.POST, caller_of(request)
    base = drafts.Base.of(form.get("revision", ""))
    change = change_for(form, graph, caller)
    choice, seen = form.get("choose", ""), parse_id(form.get("seen", ""))
    return drafts.apply(graph, base, change, caller, choice, seen)


def _changed(request: HttpRequest, graph: Graph, applied: drafts.Applied) -> HttpResponse:
    """The parts of the page that changed; without a script, the page."""
    form, draft = request.POST, applied.draft
    ids = [node["id"] for node in draft.definition["nodes"]]
    node = applied.edit.node if applied.edit.node in ids else ""
    choice = _choice(request, node)
    query = {"view": form.get("view", ""), **choice}
    flow = Flow(caller_of(request), graph, query, draft)
    address = flow.address(**choice)
    if not request.headers.get("HX-Request"):
        return redirect(address)

    parts = ["bar", flow.drawing]
    if not _keeps_inspector(request, flow, applied, node):
        parts.append("inspector")
    context = {"flow": flow, "parts": parts, "swapped": True, "edit_message": applied.edit.message}
    response = render(request, "flow/_parts.html", context)
    response["HX-Trigger"] = json.dumps({"flow-changed": {"node": node, "alone": applied.alone}})
    response["HX-Replace-Url"] = address
    return response


def _choice(request: HttpRequest, node: str) -> dict[str, str]:
    """The node or edge that is chosen after the change."""
    form = request.POST
    if form.get("op") == "condition":
        return {"start": form.get("start", ""), "end": form.get("end", "")}
    return {"node": node} if node and form.get("op") != "settings" else {}


def _keeps_inspector(request: HttpRequest, flow: Flow, applied: drafts.Applied, node: str) -> bool:
    """Whether the form on the page stays, because the user may still be typing in it.

    It is replaced if others changed the draft, too: otherwise its next save would undo what they
    did.
    """
    form = request.POST
    is_same_form = form.get("op") in TYPED_IN and node == form.get("node", "")
    if not applied.alone or not is_same_form or "show" in form:
        return False
    return not node or not NodeForm(flow.definition, node, flow.kinds, form).reference_moved


def _invalid(request: HttpRequest, graph: Graph, form: NodeForm | SettingsForm) -> HttpResponse:
    """The form again, with its errors. It is still a change of the draft that it was shown for."""
    base = request.POST.get("revision")
    flow = Flow(caller_of(request), graph, request.POST, form=form, base=base)
    if not request.headers.get("HX-Request"):
        return render_flow_page(request, flow, 422)
    context = {
        "flow": flow,
        "parts": ["inspector"],
        "swapped": True,
        "error": "Some fields are not valid. Nothing was saved.",
    }
    return render(request, "flow/_parts.html", context)


def _conflict(
    request: HttpRequest, graph: Graph, conflict: drafts.Conflicting | drafts.Outdated
) -> HttpResponse:
    """Ask whose change to take. The form holds everything that was sent, so nothing is lost."""
    sent = []
    for name, values in request.POST.lists():
        if name not in NOT_RESENT:
            sent += [(name, value) for value in values]
    context: JsonObject = {"graph": graph, "back": reverse("flow", args=[graph.pk])}
    if isinstance(conflict, drafts.Outdated):
        context["base"] = drafts.draft_of(graph).base
        context["sent"] = [(name, value) for name, value in sent if name != "revision"]
    else:
        context["conflict"] = conflict
        may_see = caller_of(request).can("payloads", graph.namespace_id)
        context["conflicts"] = [_conflict_shown(each, may_see) for each in conflict.conflicts]
        context["sent"] = sent
    if request.headers.get("HX-Request"):
        response = render(request, "flow/_conflict.html", context)
        response["HX-Retarget"] = "#fl-conflict"
        response["HX-Reswap"] = "innerHTML"
        return response
    context = in_admin(request, "Conflicting changes", **context)
    return render(request, "flow/conflict.html", context, status=412)


def _conflict_shown(conflict: merge.Conflict, may_see: bool) -> merge.Conflict:
    """The conflict without secrets if the user may not see payloads."""
    if may_see:
        return conflict
    name = " ".join(conflict.place[2:])
    values = {
        side: redaction.shown({name: getattr(conflict, side)})[name]
        for side in ("base", "mine", "theirs")
    }
    return replace(conflict, **values)


def _refused(request: HttpRequest, graph: Graph, error: errors.StateManagerError) -> HttpResponse:
    """Say why nothing was changed. Pasted JSON is shown again with its problems."""
    base = request.POST.get("revision")
    flow = Flow(caller_of(request), graph, request.POST, base=base)
    if request.headers.get("HX-Request"):
        context = {"flow": flow, "parts": ["bar"], "swapped": True, "error": message_of(error)}
        return render(request, "flow/_parts.html", context)
    if request.POST.get("view") == "json":
        return render_flow_page(
            request,
            flow,
            422,
            text=request.POST.get("json", ""),
            message=str(error),
            details=error.extra.get("errors", []),
        )
    messages.error(request, message_of(error))
    return redirect(flow.node_address)
