"""Run…: what a run of the drawn graph is given, and starting it. A second click on the same form finds the run that the first one made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from graphs.definition import errors, uuids
from graphs.definition.names import parse_id
from graphs.definition.types import Definition
from graphs.editor.flow import Flow
from graphs.editor.pages import graph_for
from graphs.editor.versions import version_of
from graphs.models import Dataset, Graph, GraphVersion
from graphs.services import drafts
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.engine.start import RunOptions, start_run
from runs.manager.rerun import inputs_form
from runs.models import Run, RunTemplate

MOST_CHOICES = 200
RECENT = 1000  # runs of a graph among which the user's last one is looked for


class RunForm(forms.Form):
    """What a run has beside its inputs."""

    dataset = forms.ModelChoiceField(
        queryset=Dataset.objects.none(), required=False, label="Dataset", empty_label="– none –"
    )
    name = forms.CharField(required=False, max_length=200, help_text="Lists of runs show it.")

    def __init__(self, graph: Graph, reads: bool, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["dataset"].required = reads
        self.fields["dataset"].help_text = "The graph reads its tables." if reads else ""
        self.fields["dataset"].queryset = (
            Dataset.objects.filter(namespace=graph.namespace_id)
            .select_related("namespace")
            .order_by("name")
        )  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Subject:
    """What shall run: a version or, without one, the draft."""

    definition: Definition
    version: GraphVersion | None = None

    @property
    def key(self) -> str:
        return str(self.version.number) if self.version else "draft"

    @property
    def inputs(self) -> dict[str, Any]:
        """The schemas of the inputs that it declares."""
        return (self.definition.get("inputs") or {}).get("properties") or {}

    @property
    def tables(self) -> set[str | None]:
        """The tables of the run's dataset that its nodes read; None for those that are only known when it runs."""
        nodes = [
            node.get("data") or {}
            for node in self.definition["nodes"]
            if node["kind"] == "dataset.read"
        ]
        named = [(data.get("inputs") or {}).get("table") for data in nodes]
        return {name if isinstance(name, str) and "${{" not in name else None for name in named}

    @property
    def reads_dataset(self) -> bool:
        return bool(self.tables)


def _subject(flow: Flow, asked: str) -> Subject:
    """What was asked for; else the draft, if it can run and is newer than the current version."""
    version = version_of(flow.graph, asked)
    if version is None and (
        not flow.differs or (asked != "draft" and (flow.errors or flow.outdated))
    ):
        version = flow.graph.current
    return Subject(version.definition, version) if version else Subject(flow.definition)


@require_http_methods(["GET", "POST"])
@staff_page("start")
def run_graph(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask what the run is given; start it; show it."""
    graph, posted = (
        graph_for(request, pk, "start"),
        request.POST if request.method == "POST" else None,
    )
    asked: Mapping[str, Any] = posted or {}
    flow = Flow(caller_of(request), graph, request.GET)
    subject = _subject(flow, (posted or request.GET).get("version", ""))
    template = _template(request, graph)
    last = None if template else _last(request, graph)
    form = RunForm(
        graph,
        subject.reads_dataset,
        posted,
        initial={"dataset": _dataset(graph, subject, template, last), "name": graph.name},
    )
    seen = caller_of(request).can("payloads", graph.namespace_id)
    inputs = inputs_form(
        subject.definition.get("inputs"), _given(subject, template, last) if seen else {}, posted
    )
    needed = [
        _marked(field)
        for field in (*form.fields.values(), *inputs.fields.values())
        if field.required
    ]
    said, code = "", 200 if posted is None else 422
    if posted is not None and form.is_valid() and inputs.is_valid():
        try:
            run = _started(request, flow, subject, form, inputs, template)
        except errors.StateManagerError as error:
            if made := Run.objects.filter(graph=graph, run_id=asked.get("run_id") or None).first():
                return redirect("run_page", made.pk)  # the first of two clicks was faster
            said = message_of(error) if not isinstance(error, errors.InvalidGraph) else str(error)
            code = 409 if isinstance(error, errors.Conflict) else code
        else:
            messages.success(request, f"{run} was started.")
            return redirect("run_page", run.pk)
    templates = RunTemplate.objects.filter(graph=graph).order_by("name")[:MOST_CHOICES]
    context = {
        "flow": flow, "subject": subject, "form": form, "inputs": inputs, "needed": needed, "template": template, "templates": templates, "last": last,
        "said": said, "run_id": asked.get("run_id") or uuids.dashed(uuids.uuid7()),
        "stuck": flow.errors and (subject.version is None or (subject.version == graph.current and not flow.differs)),
    }  # fmt: skip
    return render(
        request, "flow/run.html", in_admin(request, f"Run {graph.name}", **context), status=code
    )


def _template(request: HttpRequest, graph: Graph) -> RunTemplate | None:
    asked = request.POST.get("template") or request.GET.get("template", "")
    return (
        RunTemplate.objects.filter(graph=graph, pk=parse_id(asked) or 0)
        .select_related("dataset")
        .first()
    )


def _last(request: HttpRequest, graph: Graph) -> Run | None:
    """The user's newest run of the graph, if it is not too long ago; of a form that was sent the run that it was filled in from."""
    runs = Run.objects.filter(graph=graph)
    if request.method == "POST":
        return runs.filter(
            user=request.user.pk, pk=parse_id(request.POST.get("last", "")) or 0
        ).first()
    recent = runs.order_by("-pk").values("pk")[:RECENT]
    return Run.objects.filter(pk__in=recent, user=request.user.pk).order_by("-pk").first()


def _given(subject: Subject, template: RunTemplate | None, last: Run | None) -> dict[str, Any]:
    """What the inputs are filled in with: what the template says, else what the last run was given of what is still asked for."""
    if template or last is None:
        return template.inputs if template else {}
    return {
        name: value
        for name, value in last.initial_data.items()
        if not subject.inputs or name in subject.inputs
    }


def _dataset(
    graph: Graph, subject: Subject, template: RunTemplate | None, last: Run | None
) -> int | None:
    """The dataset of the template, else of the last run, else one that fits."""
    if template:
        return template.dataset_id
    former = last or Run.objects.filter(graph=graph).order_by("-pk").first()
    if former and former.dataset_id:
        return former.dataset_id
    return _fitting(graph, subject.tables) if subject.reads_dataset else None


def _fitting(graph: Graph, tables: set[str | None]) -> int | None:
    """The newest dataset that has every table; where some are only known when the graph runs, only one that no other rivals."""
    found, names = (
        Dataset.objects.filter(namespace=graph.namespace_id).order_by("-pk"),
        tables - {None},
    )
    if names:
        found = (
            found.filter(tables__name__in=names)
            .annotate(fitting=Count("tables"))
            .filter(fitting=len(names))
        )
    some = found.values_list("pk", flat=True)[:2]
    return some[0] if some and (None not in tables or len(some) == 1) else None


def _marked(field: forms.Field) -> forms.Field:
    """A required field says so before anybody sends the form."""
    field.label, field.label_suffix = f"{field.label} *", ""
    return field


@transaction.atomic
def _started(
    request: HttpRequest,
    flow: Flow,
    subject: Subject,
    form: RunForm,
    inputs: Any,
    template: RunTemplate | None,
) -> Run:
    """What the page showed is what runs. The draft is published first: a run always has a version that never changes."""
    graph, caller = flow.graph, caller_of(request)
    if request.POST.get("version") != subject.key:
        raise errors.Conflict(
            "What this form was to run isn't there any more. Look at what runs now, then run it."
        )
    if subject.version is None:
        graph = drafts.publish(
            graph, drafts.Base.of(request.POST.get("revision", "")), caller, "published to be run"
        )
    unseen = template is not None and not caller.can("payloads", graph.namespace_id)
    options = RunOptions(
        run_id=request.POST.get("run_id", ""), inputs=template.inputs if template and unseen else inputs.value(),
        name=form.cleaned_data["name"], labels=template.labels if template else {},
        store=template.store if template else {}, workspace=template.workspace if template else "",
    )  # fmt: skip
    run = start_run(
        graph, options, form.cleaned_data["dataset"], caller, Run.Trigger.ADMIN, subject.version
    )
    if template:
        Run.objects.filter(pk=run.pk, template=None).update(template=template)
    return run
