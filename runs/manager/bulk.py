"""Starting a bulk operation: the page that says what would happen and asks for confirmation."""

import uuid

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from graphs.auth.callers import RIGHT_LABELS
from graphs.definition import errors
from graphs.definition.names import parse_id
from graphs.definition.types import JsonObject
from graphs.web.json_fields import ObjectField
from graphs.web.links import back_to
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.actions import bulk, bulk_runner, export
from runs.actions.bulk_params import PARAMS
from runs.core import statuses
from runs.manager.forms import labels_of
from runs.manager.run_list import page_of

RUNS_SHOWN = 20  # runs that the confirmation lists by name
UNTYPED_MAX = 100  # deleting more runs than this needs the number typed
# Actions whose button has no focus at first: Enter must not delete or cancel, or there are fields.
UNFOCUSED = ("delete", "cancel", "label", "set_status")
TITLES = {
    "delete": "Delete",
    "archive": "Archive",
    "unarchive": "Unarchive",
    "rerun": "Rerun",
    "retry": "Retry the failed states of",
    "cancel": "Cancel",
    "pause": "Pause",
    "resume": "Resume",
    "label": "Label",
    "set_status": "Set the status of",
    "export": "Export",
}


@require_POST
@staff_page()
def ask(request: HttpRequest, action: str) -> HttpResponse:
    """Show what the action would do to the selected runs, or do it once the user has confirmed.

    The form selects runs by their ids, or all runs that match the filters of the list.
    """
    caller, back = caller_of(request), back_to(request, "run_manager")
    query = _query(request, back)
    if not query.get("pk", True):
        messages.warning(request, "Choose at least one run.")
        return redirect(back)

    try:
        preview = bulk.preview(action, query, caller)
    except errors.Forbidden:
        label = RIGHT_LABELS[bulk.ACTIONS[action].right]
        raise PermissionDenied(f"You may not {label}.") from None
    except errors.StateManagerError as error:
        messages.error(request, str(error))
        return redirect(back)
    if not preview.total:
        by_id = "pk" in query
        messages.warning(
            request,
            "The selected runs no longer exist." if by_id else "No runs match any more.",
        )
        return redirect(back)

    if "confirmed" not in request.POST:
        return _confirmation(request, action, query, preview, back)
    objection = _objection(request, action, preview)
    if objection:
        return _confirmation(request, action, query, preview, back, objection)
    try:
        return _begin(request, action, query, back)
    except errors.Malformed as error:
        return _confirmation(request, action, query, preview, back, message_of(error))
    except errors.StateManagerError as error:
        messages.error(request, str(error))
        return redirect(back)


def _query(request: HttpRequest, back: str) -> JsonObject:
    """The selected runs, or the filters of the list that the form was sent from."""
    if "all" in request.POST:
        return page_of(request, QueryDict(back.partition("?")[2])).filters
    ids = map(parse_id, request.POST.getlist("run"))
    return {"pk": [pk for pk in ids if pk is not None][: bulk.MAX_CHOSEN]}


def _objection(request: HttpRequest, action: str, preview: bulk.Preview) -> str:
    """Why the confirmed form must be confirmed again; "" if it need not be."""
    total, form = preview.total, request.POST
    if "all" in form and form.get("shown") != _fingerprint(preview):
        return (
            "The runs that match have changed since you were asked."
            f" {total:,} match now. Check them again."
        )
    typed = form.get("typed", "").replace(",", "").strip()
    if _needs_typing(action, preview) and typed != str(total):
        return f"Type {total} to confirm that this many runs are deleted."
    if action == "set_status" and not form.get("reason", "").strip():
        return "Give a reason for setting the status by hand."
    if action == "label" and not (form.get("add", "").strip() or form.get("remove", "").strip()):
        return "Enter the labels to add or to remove."
    return ""


def _fingerprint(preview: bulk.Preview) -> str:
    """Changes when other runs match than those that the user was shown."""
    return f"{preview.total}-{preview.bound}"


def _needs_typing(action: str, preview: bulk.Preview) -> bool:
    return action == "delete" and preview.total > UNTYPED_MAX


def _confirmation(
    request: HttpRequest,
    action: str,
    query: JsonObject,
    preview: bulk.Preview,
    back: str,
    objection: str = "",
) -> HttpResponse:
    runs = bulk.targets(query, caller_of(request)).order_by("-pk")[:RUNS_SHOWN]
    plural = "s" if preview.total != 1 else ""
    label = f"{TITLES[action]} {preview.total:,} run{plural}"
    context = in_admin(
        request,
        f"{label}?",
        label=label,
        focused=action not in UNFOCUSED,
        action=action,
        preview=preview,
        runs=runs,
        more=max(0, preview.total - RUNS_SHOWN),
        back=back,
        objection=objection,
        everything="all" in request.POST,
        selected=query.get("pk", []),
        end_statuses=statuses.ENDED_RUNS,
        needs_typing=_needs_typing(action, preview),
        idempotency_key=request.POST.get("asked") or uuid.uuid4(),
        fingerprint=_fingerprint(preview),
        form=request.POST,
        formats=export.FORMATS,
    )
    status = 422 if objection else 200
    return render(request, "run_manager/bulk.html", context, status=status)


def _begin(request: HttpRequest, action: str, query: JsonObject, back: str) -> HttpResponse:
    """Start the operation. Raises Malformed if its parameters are wrong."""
    form = request.POST
    operation = bulk.ask(
        action,
        query,
        caller_of(request),
        _params(action, request, back),
        form.get("reason", "").strip(),
        _uuid(form.get("asked", "")),
    )
    bulk_runner.run_inline(operation)
    if operation.over and not operation.failed and action != "export":
        runs = "runs were" if operation.done != 1 else "run was"
        messages.success(request, f"{operation.done} {runs} {bulk.ACTIONS[action].done}.")
        return redirect(back)
    return redirect("run_manager_operation", operation.pk)


def _params(action: str, request: HttpRequest, back: str) -> JsonObject:
    """The parameters of the operation. Raises Malformed for what can't be read."""
    form = request.POST
    names = set(PARAMS.get(action, ())) - {"columns"}
    params: JsonObject = {name: form[name] for name in names if form.get(name)}
    if "inputs" in params:
        params["inputs"] = _inputs_of(params["inputs"])
    if action == "label":
        params["add"] = labels_of(form.get("add", ""))
        params["remove"] = form.get("remove", "").split()
    if action == "export" and form.get("columns") == "view":
        page = page_of(request, QueryDict(back.partition("?")[2]))
        params |= {"columns": page.columns, "ordering": page.ordering}
    return params


def _inputs_of(text: str) -> JsonObject:
    try:
        return dict(ObjectField(required=False).clean(text))
    except ValidationError as error:
        raise errors.Malformed(f"Inputs: {' '.join(error.messages)}") from None


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
