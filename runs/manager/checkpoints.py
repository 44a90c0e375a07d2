"""The buttons of a checkpoint on the page of its run."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from graphs.definition import errors
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, staff_page
from runs.langgraph import edits
from runs.manager.lookups import run_for
from runs.models import Checkpoint


@require_POST
@staff_page()
def act_on_checkpoint(request: HttpRequest, pk: int, checkpoint: int, verb: str) -> HttpResponse:
    """Fork the thread from the checkpoint and show the new run, or delete the checkpoint."""
    run = run_for(request, pk)
    row = get_object_or_404(Checkpoint, run=run, pk=checkpoint)
    try:
        forked = edits.VERBS[verb](run, row, caller_of(request))
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
        return redirect("run_tab", pk, "checkpoints")
    if forked is None:
        messages.success(request, f"The checkpoint {row} was deleted.")
        return redirect("run_tab", pk, "checkpoints")
    messages.success(
        request,
        f"{forked.run_id} goes on from {row}. Its program takes it up when it is invoked with"
        " this thread id and without input.",
    )
    return redirect("run_page", forked.pk)
