"""The page of recurring reruns, and its buttons."""

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition.names import parse_id
from graphs.models.querysets import InNamespaces
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.actions import recurring
from runs.models import RecurringRerun

ROWS = 50
VERBS = ("pause", "resume", "delete")
DONE = {"pause": "is paused", "resume": "goes on", "delete": "was deleted; its reruns remain"}


def _visible(caller: Caller) -> InNamespaces:
    rows = RecurringRerun.objects.visible_to(caller).select_related("run__namespace")
    return rows.order_by("-pk")


@require_GET
@staff_page()
def recurring_list(request: HttpRequest) -> HttpResponse:
    """The recurring reruns of all runs, or with `?run=` of one run."""
    caller = caller_of(request)
    rows = _visible(caller)
    run = parse_id(request.GET.get("run", ""))
    if run is not None:
        rows = rows.filter(run=run)
    page = Paginator(rows, ROWS).get_page(request.GET.get("page"))
    shown = [
        (recurring.hide_payloads(row, caller), caller.can("rerun", row.namespace_id))
        for row in page.object_list
    ]
    context = in_admin(request, "Recurring reruns", page=page, rows=shown)
    return render(request, "run_manager/recurring.html", context)


@require_POST
@staff_page("rerun")
def act_on_recurring(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Pause, resume or delete a recurring rerun."""
    caller = caller_of(request)
    row = get_object_or_404(_visible(caller), pk=pk)
    name = f"The rerun of {row.run} at {row}"
    try:
        if verb == "delete":
            recurring.remove(row, caller)
        else:
            recurring.change(row, caller, enabled=verb == "resume")
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
    else:
        messages.success(request, f"{name} {DONE[verb]}.")
    return redirect("run_recurring")
