"""Run…: what a run of the drawn graph is given, and starting it. A second click on the same form finds the run that the first one made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from graphs import drafting, errors
from graphs.api.finding import number
from graphs.models import Dataset, Graph, GraphVersion
from runs import sql
from runs.flow.flow import Flow
from runs.flow.pages import graph_for
from runs.flow.versions import version_of
from runs.manager.access import caller_of, in_admin, staff_page
from runs.manager.rerunning import inputs_form
from runs.manager.steering import told
from runs.models import Run, RunTemplate
from runs.starting import RunOptions, start_run

MOST_CHOICES = 200


class RunForm(forms.Form):
    """What a run has beside its inputs."""

    dataset = forms.ModelChoiceField(queryset=Dataset.objects.none(), required=False, empty_label="– none –")
    name = forms.CharField(required=False, max_length=200, help_text="Lists of runs show it.")

    def __init__(self, graph: Graph, reads: bool, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["dataset"].required = reads
        self.fields["dataset"].help_text = "The graph reads its tables." if reads else ""
        self.fields["dataset"].queryset = Dataset.objects.filter(namespace=graph.namespace_id).select_related("namespace").order_by("name")  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Subject:
    """What shall run: a version or, without one, the draft."""

    definition: dict[str, Any]
    version: GraphVersion | None = None

    @property
    def key(self) -> str:
        return str(self.version.number) if self.version else "draft"

    @property
    def reads_dataset(self) -> bool:
        """Whether any node reads tables of the run's dataset."""
        return any(node["kind"] == "dataset.read" for node in self.definition["nodes"])


def _subject(flow: Flow, asked: str) -> Subject:
    """What was asked for; else the draft, if it can run and is newer than the current version."""
    version = version_of(flow.graph, asked)
    if version is None and (not flow.differs or (asked != "draft" and (flow.errors or flow.outdated))):
        version = flow.graph.current
    return Subject(version.definition, version) if version else Subject(flow.definition)


@require_http_methods(["GET", "POST"])
@staff_page("start")
def run_graph(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask what the run is given; start it; show it."""
    graph, posted = graph_for(request, pk, "start"), request.POST if request.method == "POST" else None
    asked: Mapping[str, Any] = posted or {}
    flow = Flow(caller_of(request), graph, request.GET)
    subject = _subject(flow, (posted or request.GET).get("version", ""))
    template = _template(request, graph)
    last = None if template else Run.objects.filter(graph=graph, version=graph.current_id).order_by("-pk").first()
    fitting = Dataset.objects.filter(namespace=graph.namespace_id)[:2]
    dataset = template.dataset_id if template else last.dataset_id if last else fitting[0].pk if len(fitting) == 1 and subject.reads_dataset else None
    form = RunForm(graph, subject.reads_dataset, posted, initial={"dataset": dataset, "name": graph.name})
    seen = caller_of(request).can("payloads", graph.namespace_id)
    inputs = inputs_form(subject.definition.get("inputs"), template.inputs if template and seen else {}, posted)
    said, code = "", 200 if posted is None else 422
    if posted is not None and form.is_valid() and inputs.is_valid():
        try:
            run = _started(request, flow, subject, form, inputs, template)
        except errors.StateManagerError as error:
            if made := Run.objects.filter(graph=graph, run_id=asked.get("run_id") or None).first():
                return redirect("run_page", made.pk)  # the first of two clicks was faster
            said = told(error) if not isinstance(error, errors.InvalidGraph) else str(error)
            code = 409 if isinstance(error, errors.Conflict) else code
        else:
            messages.success(request, f"{run} was started.")
            return redirect("run_page", run.pk)
    context = {
        "flow": flow, "subject": subject, "form": form, "inputs": inputs, "template": template, "said": said,
        "run_id": asked.get("run_id") or sql.dashed(sql.uuid7()), "templates": RunTemplate.objects.filter(graph=graph).order_by("name")[:MOST_CHOICES],
        "stuck": flow.errors and (subject.version is None or (subject.version == graph.current and not flow.differs)),
    }  # fmt: skip
    return render(request, "flow/run.html", in_admin(request, f"Run {graph.name}", **context), status=code)


def _template(request: HttpRequest, graph: Graph) -> RunTemplate | None:
    asked = request.POST.get("template") or request.GET.get("template", "")
    return RunTemplate.objects.filter(graph=graph, pk=number(asked) or 0).select_related("dataset").first()


@transaction.atomic
def _started(request: HttpRequest, flow: Flow, subject: Subject, form: RunForm, inputs: Any, template: RunTemplate | None) -> Run:
    """What the page showed is what runs. The draft is published first: a run always has a version that never changes."""
    graph, caller = flow.graph, caller_of(request)
    if request.POST.get("version") != subject.key:
        raise errors.Conflict("What this form was to run isn't there any more. Look at what runs now, then run it.")
    if subject.version is None:
        graph = drafting.publish(graph, drafting.Base.of(request.POST.get("revision", "")), caller, "published to be run")
    unseen = template is not None and not caller.can("payloads", graph.namespace_id)
    options = RunOptions(
        run_id=request.POST.get("run_id", ""), inputs=template.inputs if template and unseen else inputs.value(),
        name=form.cleaned_data["name"], labels=template.labels if template else {},
        store=template.store if template else {}, workspace=template.workspace if template else "",
    )  # fmt: skip
    run = start_run(graph, options, form.cleaned_data["dataset"], caller, Run.Trigger.ADMIN, subject.version)
    if template:
        Run.objects.filter(pk=run.pk, template=None).update(template=template)
    return run
