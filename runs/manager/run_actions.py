"""What a run's page asks of it: cancel, pause, resume, retry and archive."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, staff_page
from runs.actions import annotate
from runs.engine import control, retry
from runs.manager.lookups import run_for
from runs.models import Run

VERBS: dict[str, Callable[[Run, Caller], Any]] = {
    "cancel": control.cancel_run,
    "pause": control.pause_run,
    "resume": control.resume_run,
    "retry": retry.retry_failed,
    "archive": annotate.archive_run,
    "unarchive": annotate.unarchive_run,
}


@require_POST
@staff_page()
def steer_run(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Ask one of the verbs of a run, and show it."""
    run = run_for(request, pk)
    try:
        VERBS[verb](run, caller_of(request))
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
    else:
        messages.success(request, f"{run}: {verb} was carried out.")
    return redirect("run_page", run.pk)
