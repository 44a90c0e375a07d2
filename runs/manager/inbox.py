"""The inbox: every state that waits for a person, and the page on which it is answered."""

import uuid
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from graphs.web.page_guard import caller_of, in_admin, staff_page
from graphs.web.schema_forms import AnyForm, SchemaForm, form_for
from runs.actions.answers import MAX_ANSWERS, answer_each
from runs.models import State
from runs.queries import inbox
from runs.queries.filters import InvalidFilters

QUESTIONS = 50  # on a page
FILTERS = ("namespace", "graph", "identifier", "run_id", "assignee")


@require_GET
@staff_page()
def inbox_page(request: HttpRequest) -> HttpResponse:
    """The questions to people, oldest first. `?mine=1` shows those that are for the user."""
    caller = caller_of(request)
    filters = {name: request.GET[name] for name in FILTERS if request.GET.get(name)}
    try:
        states = inbox.waiting(caller, filters)
    except InvalidFilters as error:
        messages.error(request, str(error))
        return redirect("run_inbox")
    mine = request.GET.get("mine") == "1"
    if mine:
        states = inbox.mine(states, caller)
    page = Paginator(states, QUESTIONS).get_page(request.GET.get("page"))
    rows = inbox.shown(list(page.object_list), caller)
    context = in_admin(
        request,
        "Inbox",
        page=page,
        rows=rows,
        filters=filters,
        mine=mine,
        query=urlencode({**filters, **({"mine": 1} if mine else {})}),
        may_answer=any(row["may_answer"] for row in rows),
    )
    return render(request, "run_manager/inbox.html", context)


@require_http_methods(["GET", "POST"])
@staff_page("cancel")
def answer_questions(request: HttpRequest) -> HttpResponse:
    """Answer the chosen states, all with the same answer.

    `?state=` names a state, once for each; `?like=` chooses all states of the same node that take
    the same kind of answer. htmx gets only the form.
    """
    states = _chosen(request)
    if not states:
        messages.error(request, "Choose questions that have not been answered yet.")
        return redirect("run_inbox")
    if not inbox.answered_alike(states):
        messages.error(
            request,
            "The chosen questions take different kinds of answers. Choose questions of one node.",
        )
        return redirect("run_inbox")

    form = _form(request, states[0])
    if request.method == "POST" and form.is_valid():
        return _answer(request, states, form.value())
    caller = caller_of(request)
    context = in_admin(
        request,
        "Answer",
        rows=inbox.shown(states, caller),
        form=form,
        others=_others(request, states),
    )
    is_part = request.headers.get("HX-Request") and request.method == "GET"
    template = "run_manager/_inbox_form.html" if is_part else "run_manager/inbox_answer.html"
    return render(request, template, context, status=422 if form.is_bound else 200)


def _form(request: HttpRequest, state: State) -> SchemaForm | AnyForm:
    """The form for the answer. It keeps its prefix when the state that it was made for is gone."""
    schema = state.waiting_for.get("schema") or {}
    if request.method != "POST":
        return form_for(schema, prefix=str(state.pk))
    return form_for(schema, request.POST, prefix=request.POST.get("prefix", ""))


def _answer(request: HttpRequest, states: list[State], value: object) -> HttpResponse:
    refusals = answer_each({state.pk: value for state in states}, caller_of(request))
    answered = [state for state in states if state.pk not in refusals]
    if answered:
        word = "question was" if len(answered) == 1 else "questions were"
        messages.success(request, f"{len(answered)} {word} answered.")
    for sentence in dict.fromkeys(refusals.values()):
        messages.error(request, sentence)
    return redirect("run_inbox")


def _chosen(request: HttpRequest) -> list[State]:
    """The chosen states that still wait and that the user may answer, up to MAX_ANSWERS."""
    values = request.POST if request.method == "POST" else request.GET
    pks = [pk for text in values.getlist("state")[:MAX_ANSWERS] if (pk := _uuid(text))]
    caller = caller_of(request)
    like = _uuid(request.GET.get("like", ""))
    if like:
        state = inbox.waiting(caller).filter(pk=like).first()
        states = inbox.alike(state, caller, MAX_ANSWERS) if state else []
    else:
        states = list(inbox.waiting(caller).filter(pk__in=pks))
    return [state for state in states if caller.can("cancel", state.run.namespace_id)]


def _others(request: HttpRequest, states: list[State]) -> int:
    """How many further states could be answered with the only one that was chosen."""
    if len(states) != 1:
        return 0
    return len(inbox.alike(states[0], caller_of(request), MAX_ANSWERS)) - 1


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
