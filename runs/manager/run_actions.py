"""What a run's page asks of it: cancel, pause, resume, retry and archive."""

import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.web.page_guard import caller_of, staff_page
from runs.actions import annotate
from runs.engine import control, retry
from runs.models import Run

VERBS: dict[str, Callable[[Run, Caller], Any]] = {
    "cancel": control.cancel_run,
    "pause": control.pause_run,
    "resume": control.resume_run,
    "retry": retry.retry_failed,
    "archive": annotate.archive_run,
    "unarchive": annotate.unarchive_run,
}


def run_for(request: HttpRequest, pk: int) -> Run:
    """The run that a page is about, if the user may see it."""
    return get_object_or_404(Run.objects.visible_to(caller_of(request)).select_related("graph__current", "version", "namespace", "dataset", "parent"), pk=pk)


def uuid_of(text: str) -> str:
    """A state's id from a query; "" for what can't be one."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""


def told(error: errors.StateManagerError) -> str:
    """The error with everything that it lists."""
    return "; ".join([str(error), *map(str, error.extra.get("errors", []))])


@require_POST
@staff_page()
def steer_run(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Ask one of the verbs of a run, and show it."""
    run = run_for(request, pk)
    try:
        VERBS[verb](run, caller_of(request))
    except errors.StateManagerError as error:
        messages.error(request, told(error))
    else:
        messages.success(request, f"{run}: {verb} was carried out.")
    return redirect("run_page", run.pk)
