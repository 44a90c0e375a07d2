"""The page that starts a run of a graph: what the run is given, and which version runs.

The form holds a new run id, so sending it twice finds the run that the first click started.
"""

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from graphs.definition import errors, uuids
from graphs.definition.names import parse_id
from graphs.definition.types import JsonObject
from graphs.editor.flow import Flow
from graphs.editor.pages import graph_for
from graphs.models import Graph
from graphs.services import drafts
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.manager.rerun import InputsForm, inputs_form
from runs.manager.start_forms import RunForm, fitting_dataset, subject_of
from runs.models import Run, RunTemplate

MAX_CHOICES = 200
RECENT = 1000  # newest runs of the graph that are searched for the user's last one


class StartPage:
    """The page for one request: what is to be run, and the two forms filled in for it."""

    def __init__(self, request: HttpRequest, graph: Graph) -> None:
        self.request, self.graph = request, graph
        self.caller = caller_of(request)
        self.data = request.POST if request.method == "POST" else None
        self.flow = Flow(self.caller, graph, request.GET)
        self.subject = subject_of(self.flow, (self.data or request.GET).get("version", ""))
        self.template = self._template()
        self.last = None if self.template else self._last_run()
        self.sees_payloads = self.caller.can("payloads", graph.namespace_id)
        initial = {"dataset": self._dataset(), "name": graph.name}
        self.form = RunForm(graph, self.subject.reads_dataset, self.data, initial)
        self.inputs = self._inputs_form()
        self.needs_fields = self._mark_required()

    def _template(self) -> RunTemplate | None:
        """The template that the form is filled in from."""
        text = self.request.POST.get("template") or self.request.GET.get("template", "")
        templates = RunTemplate.objects.filter(graph=self.graph, pk=parse_id(text) or 0)
        return templates.select_related("dataset").first()

    def _last_run(self) -> Run | None:
        """The user's newest run among the recent runs of the graph.

        A form that was sent names the run that it was filled in from.
        """
        runs, user = Run.objects.filter(graph=self.graph), self.request.user.pk
        if self.data is not None:
            pk = parse_id(self.data.get("last", "")) or 0
            return runs.filter(user=user, pk=pk).first()
        recent = runs.order_by("-pk").values("pk")[:RECENT]
        return Run.objects.filter(pk__in=recent, user=user).order_by("-pk").first()

    def _dataset(self) -> int | None:
        """The dataset of the template or of the last run; else one that has the tables."""
        if self.template:
            return self.template.dataset_id
        last = self.last or Run.objects.filter(graph=self.graph).order_by("-pk").first()
        if last and last.dataset_id:
            return last.dataset_id
        return fitting_dataset(self.graph, self.subject.tables)

    def _inputs_form(self) -> InputsForm:
        given = self._given_inputs() if self.sees_payloads else {}
        return inputs_form(self.subject.definition.get("inputs"), given, self.data)

    def _given_inputs(self) -> JsonObject:
        """The inputs of the template, or those of the last run that are still declared."""
        if self.template:
            return self.template.inputs
        if self.last is None:
            return {}
        given, declared = self.last.initial_data, self.subject.inputs
        if not declared:
            return dict(given)
        return {name: value for name, value in given.items() if name in declared}

    def _mark_required(self) -> bool:
        """Mark required fields with a star. Returns whether there are any."""
        fields = [*self.form.fields.values(), *self.inputs.fields.values()]
        required = [field for field in fields if field.required]
        for field in required:
            field.label, field.label_suffix = f"{field.label} *", ""
        return bool(required)

    @property
    def cannot_run(self) -> bool:
        """Whether the draft has errors and there is no other version to run instead."""
        is_draft = self.subject.version is None
        is_unchanged = self.subject.version == self.graph.current and not self.flow.differs
        return bool(self.flow.errors) and (is_draft or is_unchanged)

    def is_valid(self) -> bool:
        return self.form.is_valid() and self.inputs.is_valid()

    @transaction.atomic
    def start(self) -> Run:
        """Start the run that the page shows.

        A draft is published first, because a run always has a version, which never changes.
        Raises Conflict if the form was shown for something else, and what starting raises.
        """
        form, graph = self.request.POST, self.graph
        if form.get("version") != self.subject.key:
            raise errors.Conflict(
                "What this form was going to run no longer exists. Check what would run now."
            )
        if self.subject.version is None:
            base = drafts.Base.of(form.get("revision", ""))
            graph = drafts.publish(graph, base, self.caller, "published to be run")
        dataset = self.form.cleaned_data["dataset"]
        version = self.subject.version
        run = start_run(graph, self._options(), dataset, self.caller, Run.Trigger.ADMIN, version)
        if self.template:
            Run.objects.filter(pk=run.pk, template=None).update(template=self.template)
        return run

    def _options(self) -> RunOptions:
        """The options of the run. A user who may not see a template's inputs can't change them."""
        template = self.template
        inputs = template.inputs if template and not self.sees_payloads else self.inputs.value()
        return RunOptions(
            run_id=self.request.POST.get("run_id", ""),
            inputs=inputs,
            name=self.form.cleaned_data["name"],
            labels=template.labels if template else {},
            store=template.store if template else {},
            workspace=template.workspace if template else "",
        )

    def render(self, message: str, status: int) -> HttpResponse:
        templates = RunTemplate.objects.filter(graph=self.graph).order_by("name")
        run_id = self.data.get("run_id") if self.data else ""
        context = in_admin(
            self.request,
            f"Run {self.graph.name}",
            flow=self.flow,
            subject=self.subject,
            form=self.form,
            inputs=self.inputs,
            needs_fields=self.needs_fields,
            template=self.template,
            templates=templates[:MAX_CHOICES],
            last=self.last,
            message=message,
            run_id=run_id or uuids.dashed(uuids.uuid7()),
            cannot_run=self.cannot_run,
        )
        return render(self.request, "flow/run.html", context, status=status)


@require_http_methods(["GET", "POST"])
@staff_page("start")
def run_graph(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask what the run is given; or start it and show it."""
    graph = graph_for(request, pk, "start")
    page = StartPage(request, graph)
    if request.method == "GET":
        return page.render("", 200)
    if not page.is_valid():
        return page.render("", 422)
    try:
        run = page.start()
    except errors.StateManagerError as error:
        run_id = request.POST.get("run_id") or None
        started = Run.objects.filter(graph=graph, run_id=run_id).first()
        if started:  # the first click of a double click was faster
            return redirect("run_page", started.pk)
        # The page lists the problems of an invalid graph itself.
        invalid = isinstance(error, errors.InvalidGraph)
        message = str(error) if invalid else message_of(error)
        return page.render(message, 409 if isinstance(error, errors.Conflict) else 422)
    messages.success(request, f"{run} was started.")
    return redirect("run_page", run.pk)
