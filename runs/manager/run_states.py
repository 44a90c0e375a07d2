"""The Run States page: runs as cards, the states of the chosen run, and a start form."""

from dataclasses import dataclass
from typing import TypedDict
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.db.models import Count, F, QuerySet, Sum
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition.names import parse_id
from graphs.definition.types import JsonObject
from graphs.models import Graph
from graphs.web import pickers
from graphs.web.json_fields import ObjectField
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page
from graphs.web.pickers import PickerField
from graphs.web.schema_forms import AREA
from graphs.web.ttl_cache import cached
from runs.core import statuses
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.manager.choices import IN_NAMESPACE, runnable_graphs
from runs.manager.run_tabs import redact_payloads
from runs.models import Run, State
from runs.queries import lists
from runs.queries.filters import RunFilters
from runs.queries.search import parse

CARDS, STATES = 24, 100
MAX_PAGE = 10**9
STATE_COUNT = (
    F("pending_count")
    + F("success_count")
    + F("errored_count")
    + F("retried_count")
    + F("cancelled_count")
)


class StartForm(forms.Form):
    """Starts a run of one of the graphs that the caller may see."""

    graph = PickerField(Graph.objects.none(), columns=IN_NAMESPACE, kind="runnable")
    run_id = forms.CharField(
        required=False,
        max_length=200,
        label="Run id",
        help_text="Leave it empty to have one generated.",
    )
    inputs = ObjectField(
        required=False,
        widget=forms.Textarea(attrs=AREA),
        help_text='A JSON object, such as {"name": "Ann"}.',
    )

    def __init__(self, caller: Caller, data: QueryDict | None = None) -> None:
        super().__init__(data)
        runnable = runnable_graphs(caller).select_related("namespace", "current")
        self.fields["graph"].queryset = runnable  # type: ignore[attr-defined]


class Totals(TypedDict):
    """Counts over all runs that the caller sees. `completed` counts states."""

    states: int
    runs: int
    completed: int


@require_GET
@staff_page()
def run_states(request: HttpRequest) -> HttpResponse:
    """A page of runs as cards, and the states of the chosen one.

    A poll of htmx gets what has changed, or 304.
    """
    return _page(request, StartForm(caller_of(request)))


@require_POST
@staff_page("start")
def start(request: HttpRequest) -> HttpResponse:
    """Start a run and show it. A form with errors is shown again."""
    caller = caller_of(request)
    form = StartForm(caller, request.POST)
    if not form.is_valid():
        return _page(request, form, 422)
    fields = form.cleaned_data
    options = RunOptions(run_id=fields["run_id"], inputs=fields["inputs"])
    try:
        run = start_run(fields["graph"], options, caller=caller, trigger=Run.Trigger.ADMIN)
    except errors.StateManagerError as error:
        form.add_error(None, message_of(error))
        return _page(request, form, 422)
    messages.success(request, f"{run} was started.")
    return redirect(f"{reverse('run_states')}?run={run.pk}")


@dataclass(frozen=True)
class Cards:
    """A page of the runs that match the search, newest first.

    `keep` is the part of the query that links to other runs keep, `notices` say what in the search
    was not understood.
    """

    runs: list[Run]
    number: int
    more: bool
    search: str
    keep: str
    notices: list[str]

    @property
    def active(self) -> bool:
        return any(not run.ended for run in self.runs)

    @property
    def older(self) -> str:
        return self._link(self.number + 1) if self.more else ""

    @property
    def newer(self) -> str:
        return self._link(self.number - 1) if self.number > 1 else ""

    def _link(self, number: int) -> str:
        return f"?{urlencode({'search': self.search, 'page': number})}"

    @property
    def picker(self) -> SafeString:
        """The field of the search, which suggests run ids."""
        return pickers.suggestions(
            "search",
            [],
            "runs",
            self.search,
            id="rm-run-search",
            label="Search run ids and names",
            empty="Run id, name, or tokens such as status:failed",
        )


def _cards(request: HttpRequest, visible: QuerySet[Run], caller: Caller) -> Cards:
    number = min(parse_id(request.GET.get("page")) or 1, MAX_PAGE)
    search = request.GET.get("search", "").strip()
    runs, notices = visible, []
    if search:
        # Archived runs have states, too.
        filters = RunFilters.of_mapping({"search": search, "archived": ["yes", "no"]})
        runs, problems = filters.apply_valid(visible, caller)
        notices = [*parse(search).notices, *problems.values()]
    page = lists.run_page(runs, CARDS * (number - 1), CARDS + 1).select_related("graph")
    found = list(page.defer("initial_data", "store", "data"))
    kept = {"search": search, "page": number if number > 1 else ""}
    keep = urlencode({name: value for name, value in kept.items() if value})
    return Cards(
        found[:CARDS], number, len(found) > CARDS, search, f"{keep}&" if keep else "", notices
    )


def _page(request: HttpRequest, form: StartForm, status: int = 200) -> HttpResponse:
    caller = caller_of(request)
    visible = Run.objects.visible_to(caller)
    cards = _cards(request, visible, caller)
    polls = bool(request.headers.get("HX-Request")) and "known" in request.GET
    known = set(filter(None, request.GET.get("known", "").split(".")))
    chosen = _chosen(request, visible)
    shown = [_mark(run) for run in cards.runs]
    changes = chosen is not None and "run" in chosen and _mark(chosen["run"]) not in known
    if chosen and "run" in chosen:
        shown.append(_mark(chosen["run"]))
    if polls and known == set(shown):
        return HttpResponse(status=304)
    chosen_is_active = bool(chosen and "run" in chosen and not chosen["run"].ended)
    context = {
        "cards": cards,
        "totals": _totals(visible, caller),
        "chosen": chosen,
        "known": ".".join(shown),
        "poll_link": _poll_link(request),
        # The first page shows runs that start, too.
        "live": cards.number == 1 or cards.active or chosen_is_active,
    }
    if polls:
        context |= {"swapped": True, "chosen_changed": changes}
        return render(request, "run_manager/_run_states_live.html", context)
    context = in_admin(request, "Run States", form=form, **context)
    return render(request, "run_manager/states.html", context, status=status)


def _mark(run: Run) -> str:
    return f"{run.pk}-{run.revision}"


def _poll_link(request: HttpRequest) -> str:
    query = request.GET.copy()
    query.pop("known", None)
    return f"?{query.urlencode()}&" if query else "?"


def _totals(visible: QuerySet[Run], caller: Caller) -> Totals:
    def count() -> Totals:
        sums = visible.aggregate(
            states=Sum(STATE_COUNT), runs=Count("pk"), completed=Sum("success_count")
        )
        return {
            "states": sums["states"] or 0,
            "runs": sums["runs"],
            "completed": sums["completed"] or 0,
        }

    return cached(
        ("totals", caller.namespaces), count, lambda totals: totals["runs"] > lists.EXACT_COUNT
    )


def _chosen(request: HttpRequest, visible: QuerySet[Run]) -> JsonObject | None:
    """The run that `?run=` names with a page of its states, all of them or those of one status.

    None if no run was asked for; `missing` holds the text if there is no such run.
    """
    text = request.GET.get("run", "")
    if not text:
        return None
    pk = parse_id(text)
    run = visible.select_related("graph", "namespace").filter(pk=pk).first() if pk else None
    if run is None:
        return {"missing": text}

    status = request.GET.get("status", "").upper()
    states = State.objects.all()
    if status in statuses.STATE_STATUSES:
        states = states.filter(status=status)
    rows, following = _page_of_states(run, states, request.GET.get("after", ""))
    State.objects.fill_inputs(rows)
    redact_payloads(rows, caller_of(request).can("payloads", run.namespace_id))
    return {
        "run": run,
        "counts": sorted(State.objects.filter(run=run).summary().items()),
        "status": status,
        "states": rows,
        "next": following,
    }


def _page_of_states(
    run: Run, states: QuerySet[State], after: str
) -> tuple[list[lists.StateRow], str | None]:
    """A page of states and the cursor of the next. A cursor that can't be read starts over."""
    try:
        return lists.states_of_run(run, states, after, STATES)
    except errors.Malformed:
        return lists.states_of_run(run, states, "", STATES)
