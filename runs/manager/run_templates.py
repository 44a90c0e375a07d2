"""Run templates on pages: the list with their progress, one with its runs, saving, launching, cloning, scheduling."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from graphs.definition import errors
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.actions import run_templates
from runs.manager.lookups import run_for
from runs.manager.rerun import inputs_form
from runs.models import Run, RunTemplate

RUNS = 50


class NameForm(forms.Form):
    """How a template is called."""

    name = forms.CharField(max_length=200)
    description = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 3, "cols": 60})
    )


class ScheduleForm(forms.Form):
    """When it runs by itself."""

    expression = forms.CharField(
        required=False,
        max_length=200,
        label="Schedule",
        help_text="Such as 0 6 * * 1-5; empty: never by itself.",
    )
    time_zone = forms.CharField(max_length=60, initial="UTC")


def _visible(request: HttpRequest) -> Any:
    found = RunTemplate.objects.visible_to(caller_of(request))
    return found.select_related(
        "namespace", "graph__namespace", "graph__current", "version", "dataset"
    )


@require_GET
@staff_page()
def template_list(request: HttpRequest) -> HttpResponse:
    """The templates, each with what its runs came to."""
    page = Paginator(_visible(request).order_by("namespace__name", "name"), RUNS).get_page(
        request.GET.get("page")
    )
    progress = run_templates.progress_of(page.object_list)
    rows = [(template, progress[template.pk]) for template in page.object_list]
    return render(
        request,
        "run_manager/templates.html",
        in_admin(request, "Run templates", page=page, rows=rows),
    )


@require_http_methods(["GET", "POST"])
@staff_page("start")
def new_template(request: HttpRequest, pk: int) -> HttpResponse:
    """Save what a run was given under a name."""
    run = run_for(request, pk)
    form = NameForm(
        request.POST if request.method == "POST" else None, initial={"name": str(run)[:200]}
    )
    if form.is_bound and form.is_valid():
        try:
            made = run_templates.from_run(
                run, form.cleaned_data["name"], caller_of(request), form.cleaned_data["description"]
            )
        except errors.StateManagerError as error:
            form.add_error(None, message_of(error))
        else:
            messages.success(request, f"The template {made} was saved.")
            return redirect("run_template", made.pk)
    context = in_admin(request, "Save as template", run=run, form=form)
    return render(
        request, "run_manager/template_new.html", context, status=422 if form.is_bound else 200
    )


@require_GET
@staff_page()
def template_page(request: HttpRequest, pk: int) -> HttpResponse:
    """One template: what it gives its runs, and its runs."""
    return _page(request, get_object_or_404(_visible(request), pk=pk))


def _page(
    request: HttpRequest, template: RunTemplate, form: Any = None, code: int = 200
) -> HttpResponse:
    runs = Run.objects.filter(template=template).select_related("version").order_by("-pk")
    schema = template.runs_version.plan.inputs_schema if template.runs_version else None
    context = {
        "template": template, "progress": run_templates.progress_of([template])[template.pk], "form": form or inputs_form(schema, template.inputs),
        "schedule": ScheduleForm(initial={"expression": template.expression, "time_zone": template.time_zone}),
        "page": Paginator(runs, RUNS).get_page(request.GET.get("page")), "payloads": caller_of(request).can("payloads", template.namespace_id),
        "may_start": caller_of(request).can("start", template.namespace_id),
    }  # fmt: skip
    return render(
        request,
        "run_manager/template.html",
        in_admin(request, str(template), **context),
        status=code,
    )


@require_POST
@staff_page("start")
def launch_template(request: HttpRequest, pk: int) -> HttpResponse:
    """Start a run of it, with other inputs if the form has them."""
    template = get_object_or_404(_visible(request), pk=pk)
    version = template.runs_version
    given = any(name == "inputs" or name.startswith("input-") for name in request.POST)
    form = inputs_form(
        version.plan.inputs_schema if version else None,
        template.inputs,
        request.POST if given else None,
    )
    if form.is_bound and not form.is_valid():
        return _page(request, template, form, 422)
    try:
        run = run_templates.launch(
            template,
            caller_of(request),
            inputs=form.value()
            if form.is_bound and (form.has_changed() or not template.inputs)
            else None,
        )
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
        return redirect("run_template", pk)
    messages.success(request, f"{run} was started.")
    return redirect("run_page", run.pk)


@require_POST
@staff_page("start")
def change_template(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Clone it under another name, give it a schedule, or forget it."""
    template, caller = get_object_or_404(_visible(request), pk=pk), caller_of(request)
    try:
        if verb == "delete":
            run_templates.remove(template, caller)
            messages.success(request, f"The template {template} was deleted; its runs stay.")
            return redirect("run_templates")
        if verb == "clone":
            template = run_templates.clone(
                template, request.POST.get("name", "").strip() or f"{template.name} (copy)", caller
            )
        else:
            form = ScheduleForm(request.POST)
            if not form.is_valid():
                raise errors.Malformed(
                    "; ".join(f"{name}: {wrong[0]}" for name, wrong in form.errors.items())
                )
            template.expression, template.time_zone = (
                form.cleaned_data["expression"].strip(),
                form.cleaned_data["time_zone"].strip(),
            )
            run_templates.save(template, caller)
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
        return redirect("run_template", pk)
    messages.success(request, f"The template {template} was saved.")
    return redirect("run_template", template.pk)
