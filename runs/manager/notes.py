"""Writing and deleting notes on the page of a run."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from graphs.definition import errors
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, staff_page
from runs.actions import notes
from runs.manager.lookups import run_for
from runs.manager.run_page import render_run_page


@require_POST
@staff_page("change")
def add_note(request: HttpRequest, pk: int) -> HttpResponse:
    """Write a note. A text that is refused is shown again."""
    run = run_for(request, pk)
    try:
        notes.add_note(run, caller_of(request), request.POST.get("text", ""))
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
        return render_run_page(request, run, "notes", status=422)
    return redirect("run_tab", pk, "notes")


@require_POST
@staff_page()
def delete_note(request: HttpRequest, pk: int, note: int) -> HttpResponse:
    run = run_for(request, pk)
    try:
        notes.delete_note(run, caller_of(request), note)
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
    return redirect("run_tab", pk, "notes")
