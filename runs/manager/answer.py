"""Answering a waiting state on the page of its run."""

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from graphs.definition import errors
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, staff_page
from graphs.web.schema_forms import answer_form
from runs.engine.answer import answer_state
from runs.manager.lookups import run_for
from runs.manager.run_page import render_run_page
from runs.models import State


@require_POST
@staff_page("cancel")
def answer(request: HttpRequest, pk: int, state: uuid.UUID) -> HttpResponse:
    """Record the answer to a waiting state.

    An answer that doesn't fit the question's schema is shown again with its errors.
    """
    run = run_for(request, pk)
    waiting = get_object_or_404(State, run=run, pk=state)
    form = answer_form(waiting, request.POST)
    if not form.is_valid():
        return render_run_page(request, run, status=422)

    try:
        answer_state(run, state, form.value(), caller_of(request))
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
    else:
        messages.success(request, f"{waiting.identifier} was answered.")
    return redirect("run_page", pk)
