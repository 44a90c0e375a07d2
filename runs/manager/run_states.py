"""Run States (seed 000): runs as cards with the counts of their states; the states of a chosen run; and starting one."""

from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Count, F, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from graphs.auth.callers import Caller
from graphs.definition import errors, redaction
from graphs.models import Graph
from graphs.web.page_guard import caller_of, in_admin, staff_page
from graphs.web.schema_forms import AREA, ObjectField
from graphs.web.ttl_cache import cached
from runs.core import statuses
from runs.engine.start import RunOptions, start_run
from runs.models import Run, State
from runs.queries import lists

CARDS, STATES = 24, 100


class StartForm(forms.Form):
    """A run of one of the graphs that the caller sees."""

    graph = forms.ModelChoiceField(queryset=Graph.objects.none())
    run_id = forms.CharField(
        required=False,
        max_length=200,
        label="Run id",
        help_text="Made for you when it is left empty.",
    )
    inputs = ObjectField(
        required=False,
        widget=forms.Textarea(attrs=AREA),
        help_text='A JSON object, such as {"name": "Ann"}.',
    )

    def __init__(self, caller: Caller, *args: Any) -> None:
        super().__init__(*args)
        found: Any = (
            Graph.objects.visible_to(caller)
            .filter(current__problems=[])
            .select_related("namespace", "current")
            .order_by("namespace__name", "name")
        )
        self.fields["graph"].queryset = found  # type: ignore[attr-defined]


@require_GET
@staff_page()
def run_states(request: HttpRequest) -> HttpResponse:
    """The newest runs as cards, and the states of the chosen one."""
    return _page(request, StartForm(caller_of(request)))


@require_POST
@staff_page("start")
def start(request: HttpRequest) -> HttpResponse:
    """Start a run and show it; what is wrong is said beside its field."""
    caller = caller_of(request)
    form = StartForm(caller, request.POST)
    if form.is_valid():
        try:
            options = RunOptions(
                run_id=form.cleaned_data["run_id"], inputs=form.cleaned_data["inputs"]
            )
            run = start_run(
                form.cleaned_data["graph"], options, caller=caller, trigger=Run.Trigger.ADMIN
            )
        except errors.StateManagerError as error:
            form.add_error(None, "; ".join([str(error), *map(str, error.extra.get("errors", []))]))
        else:
            messages.success(request, f"{run} was started.")
            return redirect(f"{reverse('run_states')}?run={run.pk}")
    return _page(request, form, 422)


def _page(request: HttpRequest, form: StartForm, code: int = 200) -> HttpResponse:
    caller = caller_of(request)
    visible = Run.objects.visible_to(caller)
    cards = list(
        visible.select_related("graph", "namespace")
        .defer("initial_data", "store", "data")
        .order_by("-created_at", "-id")[:CARDS]
    )
    context = {
        "cards": cards,
        "totals": _totals(visible, caller),
        "chosen": _chosen(request, visible),
        "form": form,
    }
    return render(
        request, "run_manager/states.html", in_admin(request, "Run States", **context), status=code
    )


def _totals(visible: Any, caller: Caller) -> dict[str, int]:
    """How many states there are, in how many runs, and how many of them succeeded."""
    every = (
        F("pending_count")
        + F("success_count")
        + F("errored_count")
        + F("retried_count")
        + F("cancelled_count")
    )

    def count() -> dict[str, int]:
        found = visible.aggregate(
            states=Sum(every), runs=Count("pk"), completed=Sum("success_count")
        )
        return {name: number or 0 for name, number in found.items()}

    return cached(
        ("totals", caller.namespaces), count, lambda found: found["runs"] > lists.EXACT_COUNT
    )


def _chosen(request: HttpRequest, visible: Any) -> dict[str, Any] | None:
    """The chosen run with a page of its states, all of them or those of one status."""
    text = request.GET.get("run", "")
    run = (
        visible.select_related("graph", "namespace").filter(pk=int(text)).first()
        if text.isascii() and text.isdigit() and len(text) < 19
        else None
    )
    if run is None:
        return {"missing": text} if text else None
    counts, status = State.objects.filter(run=run).summary(), request.GET.get("status", "")
    states = (
        State.objects.filter(status=status)
        if status in statuses.STATE_STATUSES
        else State.objects.all()
    )
    try:
        rows, following = lists.states_of_run(run, states, request.GET.get("after", ""), STATES)
    except errors.Malformed:
        rows, following = lists.states_of_run(run, states, "", STATES)
    State.objects.fill_inputs(rows)
    allowed = caller_of(request).can("payloads", run.namespace_id)
    for row in rows:
        row.inputs, row.outputs = (
            redaction.shown(row.inputs, allowed),
            redaction.shown(row.outputs, allowed),
        )
    return {
        "run": run,
        "counts": sorted(counts.items()),
        "status": status,
        "states": rows,
        "next": following,
    }
