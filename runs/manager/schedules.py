"""The schedules: what is started by itself and when, and the forms that add and change schedules.

Graphs, templates and reruns have schedules. Those of templates are changed on their own pages.
"""

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from graphs.auth.callers import Caller
from graphs.definition import errors, redaction
from graphs.definition.names import parse_id
from graphs.editor.pages import graph_for
from graphs.models import CronTrigger, Graph
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page
from graphs.web.pickers import PickerField
from runs.actions import graph_schedules
from runs.manager.choices import IN_NAMESPACE, runnable_graphs
from runs.manager.schedule_form import ScheduleForm
from runs.models import RunTemplate
from runs.queries.schedules import schedules_of

ROWS = 50
VERBS = ("pause", "resume", "delete", "run")
DONE = {"pause": "is paused", "resume": "goes on", "delete": "was deleted; its runs remain"}


class NewScheduleForm(ScheduleForm):
    """A schedule and the graph that it starts."""

    graph = PickerField(
        Graph.objects.none(), columns=IN_NAMESPACE, kind="runnable", empty_label="Choose a graph"
    )
    field_order = ("graph",)


@require_GET
@staff_page()
def schedule_list(request: HttpRequest) -> HttpResponse:
    """The schedules of graphs, or with `?graph=` of one graph."""
    caller = caller_of(request)
    rows = schedules_of(caller).order_by("graph__namespace__name", "graph__name", "pk")
    graph = _graph_of(request)
    if graph:
        rows = rows.filter(graph=graph)
    page = Paginator(rows, ROWS).get_page(request.GET.get("page"))
    shown = [_shown(row, caller) for row in page.object_list]
    context = in_admin(
        request, "Schedules", page=page, rows=shown, graph=graph,
        query=f"graph={graph.pk}" if graph else "",
    )  # fmt: skip
    return render(request, "run_manager/schedules.html", context)


@require_GET
@staff_page()
def scheduled_templates(request: HttpRequest) -> HttpResponse:
    """The templates that are launched on a schedule."""
    caller = caller_of(request)
    templates = RunTemplate.objects.visible_to(caller).exclude(expression="")
    templates = templates.select_related("namespace", "graph").order_by("namespace__name", "name")
    page = Paginator(templates, ROWS).get_page(request.GET.get("page"))
    for template in page.object_list:
        if template.error and not caller.can("payloads", template.namespace_id):
            template.error = redaction.HIDDEN
    context = in_admin(request, "Scheduled templates", page=page)
    return render(request, "run_manager/scheduled_templates.html", context)


def _graph_of(request: HttpRequest) -> Graph | None:
    """The graph that `?graph=` names by its key. Raises Http404 if the user sees no such graph."""
    text = request.GET.get("graph")
    return graph_for(request, parse_id(text) or 0) if text else None


def _shown(row: CronTrigger, caller: Caller) -> tuple[CronTrigger, bool]:
    """A schedule, and whether the user may change it."""
    namespace = row.graph.namespace_id
    if row.error and not caller.can("payloads", namespace):
        row.error = redaction.HIDDEN
    return row, caller.can("start", namespace)


@require_http_methods(["GET", "POST"])
@staff_page("start")
def new_schedule(request: HttpRequest) -> HttpResponse:
    """Add a schedule to a graph; `?graph=` chooses one."""
    caller = caller_of(request)
    form = NewScheduleForm(request.POST if request.method == "POST" else None)
    graphs = runnable_graphs(caller).select_related("namespace")
    startable = caller.namespaces_with("start")
    form.fields["graph"].queryset = (  # type: ignore[attr-defined]
        graphs if startable is None else graphs.filter(namespace__in=startable)
    )
    form.initial["graph"] = request.GET.get("graph", "")
    if form.is_bound and form.is_valid() and "preview" not in request.POST:
        values = form.cleaned_data
        try:
            schedule = graph_schedules.add(
                values["graph"], caller, values["schedule"], values["time_zone"]
            )
        except errors.StateManagerError as error:
            form.add_error(None, message_of(error))
        else:
            messages.success(request, f"{schedule.graph} is started at {schedule}.")
            return redirect(f"{reverse('run_schedules')}?graph={schedule.graph_id}")
    return _form_page(request, form, "New schedule")


@require_http_methods(["GET", "POST"])
@staff_page("start")
def edit_schedule(request: HttpRequest, pk: int) -> HttpResponse:
    """Change when a graph is started."""
    caller = caller_of(request)
    schedule = get_object_or_404(schedules_of(caller), pk=pk)
    graph_for(request, schedule.graph_id, "start")
    data = request.POST if request.method == "POST" else None
    form = ScheduleForm(data, schedule.expression, schedule.time_zone)
    if form.is_bound and form.is_valid() and "preview" not in request.POST:
        expression, zone = form.cleaned_data["schedule"], form.cleaned_data["time_zone"]
        try:
            graph_schedules.change(schedule, caller, expression=expression, time_zone=zone)
        except errors.StateManagerError as error:
            form.add_error(None, message_of(error))
        else:
            messages.success(request, f"{schedule.graph} is started at {schedule}.")
            return redirect("run_schedules")
    return _form_page(request, form, f"Schedule of {schedule.graph}")


def _form_page(request: HttpRequest, form: ScheduleForm, title: str) -> HttpResponse:
    context = in_admin(request, title, form=form)
    status = 422 if form.is_bound and not form.is_valid() else 200
    return render(request, "run_manager/schedule_edit.html", context, status=status)


@require_GET
@staff_page("start")
def schedule_times(request: HttpRequest) -> HttpResponse:
    """When the schedule of a form would be due, for htmx."""
    form = ScheduleForm(request.GET)
    form.full_clean()
    return render(request, "run_manager/_schedule_times.html", {"form": form})


@require_POST
@staff_page("start")
def act_on_schedule(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Pause, resume or delete a schedule, or start its graph now."""
    caller = caller_of(request)
    schedule = get_object_or_404(schedules_of(caller), pk=pk)
    name = f"The schedule {schedule} of {schedule.graph}"
    try:
        match verb:
            case "run":
                run = graph_schedules.start_now(schedule, caller)
                messages.success(request, f"{run} was started.")
                return redirect("run_page", run.pk)
            case "delete":
                graph_schedules.remove(schedule, caller)
            case _:
                graph_schedules.change(schedule, caller, enabled=verb == "resume")
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
    else:
        messages.success(request, f"{name} {DONE[verb]}.")
    return redirect("run_schedules")
