"""The pages of run templates: the list, one template, and saving, launching and changing it."""

from typing import cast

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.models import Dataset
from graphs.web.json_fields import ObjectField
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page
from graphs.web.pickers import PickerField
from graphs.web.schema_forms import AREA
from runs.actions import run_templates
from runs.manager.choices import IN_NAMESPACE
from runs.manager.forms import has_inputs
from runs.manager.lookups import run_for
from runs.manager.rerun import InputsForm, inputs_form
from runs.models import Run, RunTemplate

ROWS = 50  # templates, or runs of a template, on a page
RELATED = ("namespace", "graph__namespace", "graph__current", "version", "dataset")


class NameForm(forms.Form):
    """The name and description of a template."""

    name = forms.CharField(max_length=200)
    description = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 3, "cols": 60})
    )


class EditForm(NameForm):
    """What a template starts its runs with, besides their inputs."""

    workspace = forms.CharField(required=False, max_length=200)
    labels = ObjectField(
        required=False,
        widget=forms.Textarea(attrs=AREA | {"rows": 2}),
        help_text='A JSON object of texts, such as {"team": "data"}.',
    )
    dataset = PickerField(
        Dataset.objects.none(),
        columns=IN_NAMESPACE,
        kind="datasets",
        required=False,
        empty_label="– none –",
    )

    def __init__(self, template: RunTemplate, data: QueryDict | None = None) -> None:
        initial = {name: getattr(template, name) for name in self.base_fields}
        super().__init__(data, initial=initial)
        datasets = Dataset.objects.filter(namespace=template.namespace_id)
        field = cast(PickerField, self.fields["dataset"])
        field.queryset = datasets.select_related("namespace").order_by("name")
        field.params = f"&graph={template.graph_id}"

    def clean_labels(self) -> dict[str, str]:
        labels: dict[str, str] = self.cleaned_data["labels"]
        if not all(isinstance(value, str) for value in labels.values()):
            raise ValidationError("The values of labels are texts.")
        return labels


class ScheduleForm(forms.Form):
    """When a template is launched automatically."""

    expression = forms.CharField(
        required=False,
        max_length=200,
        label="Schedule",
        help_text="A cron expression such as 0 6 * * 1-5. Leave it empty for no schedule.",
    )
    time_zone = forms.CharField(max_length=60, initial="UTC")

    def apply(self, template: RunTemplate, caller: Caller) -> None:
        """Save the schedule. Raises Malformed if the form or the schedule is not valid."""
        if not self.is_valid():
            problems = [f"{name}: {found[0]}" for name, found in self.errors.items()]
            raise errors.Malformed("; ".join(problems))
        values = {name: value.strip() for name, value in self.cleaned_data.items()}
        run_templates.change(template, caller, **values)


def _hide_error(caller: Caller, template: RunTemplate) -> None:
    """Hide the error, which may quote the inputs, from those who may not see payloads."""
    if template.error and not caller.can("payloads", template.namespace_id):
        template.error = "hidden: you may not see payloads"


def _visible(request: HttpRequest) -> QuerySet[RunTemplate]:
    return RunTemplate.objects.visible_to(caller_of(request)).select_related(*RELATED)


@require_GET
@staff_page()
def template_list(request: HttpRequest) -> HttpResponse:
    """The templates with the progress of their runs."""
    templates = _visible(request).order_by("namespace__name", "name")
    page = Paginator(templates, ROWS).get_page(request.GET.get("page"))
    progress = run_templates.progress_of(page.object_list)
    rows = [(template, progress[template.pk]) for template in page.object_list]
    for template in page.object_list:
        _hide_error(caller_of(request), template)
    context = in_admin(request, "Run templates", page=page, rows=rows)
    return render(request, "run_manager/templates.html", context)


@require_http_methods(["GET", "POST"])
@staff_page("start")
def new_template(request: HttpRequest, pk: int) -> HttpResponse:
    """Save the configuration of a run as a template."""
    run = run_for(request, pk)
    data = request.POST if request.method == "POST" else None
    form = NameForm(data, initial={"name": str(run)[:200]})
    if form.is_bound and form.is_valid():
        name, description = form.cleaned_data["name"], form.cleaned_data["description"]
        try:
            template = run_templates.from_run(run, name, caller_of(request), description)
        except errors.StateManagerError as error:
            form.add_error(None, message_of(error))
        else:
            messages.success(request, f"The template {template} was saved.")
            return redirect("run_template", template.pk)
    context = in_admin(request, "Save as template", run=run, form=form)
    status = 422 if form.is_bound else 200
    return render(request, "run_manager/template_new.html", context, status=status)


@require_GET
@staff_page()
def template_page(request: HttpRequest, pk: int) -> HttpResponse:
    """One template: its configuration, its runs, and forms to launch and change it."""
    template = get_object_or_404(_visible(request), pk=pk)
    return _page(request, template, _inputs_form(template))


def _inputs_form(template: RunTemplate, data: QueryDict | None = None) -> InputsForm:
    version = template.runs_version
    schema = version.plan.inputs_schema if version else None
    return inputs_form(schema, template.inputs, data)


def _page(
    request: HttpRequest, template: RunTemplate, form: InputsForm, status: int = 200
) -> HttpResponse:
    caller = caller_of(request)
    _hide_error(caller, template)
    runs = Run.objects.filter(template=template).select_related("version").order_by("-pk")
    schedule = {"expression": template.expression, "time_zone": template.time_zone}
    context = in_admin(
        request,
        str(template),
        template=template,
        progress=run_templates.progress_of([template])[template.pk],
        form=form,
        schedule=ScheduleForm(initial=schedule),
        page=Paginator(runs, ROWS).get_page(request.GET.get("page")),
        payloads=caller.can("payloads", template.namespace_id),
        may_start=caller.can("start", template.namespace_id),
    )
    return render(request, "run_manager/template.html", context, status=status)


@require_http_methods(["GET", "POST"])
@staff_page("start")
def edit_template(request: HttpRequest, pk: int) -> HttpResponse:
    """Change what the template starts its runs with. Runs that it has started stay as they are."""
    template, caller = get_object_or_404(_visible(request), pk=pk), caller_of(request)
    data = request.POST if request.method == "POST" else None
    form = EditForm(template, data)
    payloads = caller.can("payloads", template.namespace_id)
    inputs = _inputs_form(template, data if payloads and data and has_inputs(data) else None)
    if form.is_bound and form.is_valid() and (not inputs.is_bound or inputs.is_valid()):
        changes = dict(form.cleaned_data)
        if inputs.is_bound:
            changes["inputs"] = inputs.value()
        try:
            run_templates.change(template, caller, **changes)
        except errors.StateManagerError as error:
            form.add_error(None, message_of(error))
        else:
            messages.success(request, f"The template {template} was saved.")
            return redirect("run_template", pk)
    context = in_admin(
        request,
        "Edit the template",
        template=RunTemplate.objects.get(pk=pk),
        form=form,
        inputs=inputs,
        payloads=payloads,
    )
    status = 422 if form.is_bound else 200
    return render(request, "run_manager/template_edit.html", context, status=status)


@require_POST
@staff_page("start")
def launch_template(request: HttpRequest, pk: int) -> HttpResponse:
    """Start a run of the template, with the inputs of the form if it sent any."""
    template = get_object_or_404(_visible(request), pk=pk)
    form = _inputs_form(template, request.POST if has_inputs(request.POST) else None)
    if form.is_bound and not form.is_valid():
        return _page(request, template, form, 422)
    changed = form.is_bound and (form.has_changed() or not template.inputs)
    inputs = form.value() if changed else None
    try:
        run = run_templates.launch(template, caller_of(request), inputs=inputs)
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
        return redirect("run_template", pk)
    messages.success(request, f"{run} was started.")
    return redirect("run_page", run.pk)


@require_POST
@staff_page("start")
def change_template(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Clone the template under another name, change its schedule, or delete it."""
    template, caller = get_object_or_404(_visible(request), pk=pk), caller_of(request)
    try:
        if verb == "delete":
            run_templates.remove(template, caller)
            messages.success(request, f"The template {template} was deleted. Its runs remain.")
            return redirect("run_templates")
        if verb == "clone":
            name = request.POST.get("name", "").strip() or f"{template.name} (copy)"
            template = run_templates.clone(template, name, caller)
        else:
            ScheduleForm(request.POST).apply(template, caller)
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
        return redirect("run_template", pk)
    messages.success(request, f"The template {template} was saved.")
    return redirect("run_template", template.pk)
