"""The buttons of a run's page: cancel, pause, resume, retry, put back into the queue, archive."""

from collections.abc import Callable

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
from runs.external import queue
from runs.manager.lookups import run_for
from runs.models import Run

VERBS: dict[str, Callable[[Run, Caller], object]] = {
    "cancel": control.cancel_run,
    "pause": control.pause_run,
    "resume": control.resume_run,
    "retry": retry.retry_failed,
    "release": queue.take_away,
    "archive": annotate.archive_run,
    "unarchive": annotate.unarchive_run,
}
DONE = {
    "cancel": "was cancelled",
    "pause": "was paused",
    "resume": "was resumed",
    "retry": "is retrying its failed states",
    "release": "is in the queue again",
    "archive": "was archived",
    "unarchive": "was unarchived",
}


@require_POST
@staff_page()
def act_on_run(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Apply one of the verbs to the run, and show its page."""
    run = run_for(request, pk)
    try:
        VERBS[verb](run, caller_of(request))
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
    else:
        messages.success(request, f"{run} {DONE[verb]}.")
    return redirect("run_page", run.pk)
