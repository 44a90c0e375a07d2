"""The page that asks how a run is run again, and shows what would happen."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import TypedDict

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from graphs.definition import errors, redaction
from graphs.definition.differences import Difference, some_differences
from graphs.definition.merge import same
from graphs.definition.types import Json, JsonObject
from graphs.web.formats import exact
from graphs.web.json_fields import ObjectField
from graphs.web.links import back_to
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page
from graphs.web.schema_forms import AREA, SchemaForm
from graphs.web.touched_form import TouchedForm
from runs.actions import partial_rerun
from runs.actions.recurring import Recurrence, repeat
from runs.actions.rerun import RerunOptions, rerun
from runs.core import sql
from runs.manager.choices import nodes_of
from runs.manager.forms import has_inputs
from runs.manager.lookups import run_for
from runs.models import Run
from runs.queries.drivers import driver_of, has_driver, sentence


class JsonInputs(TouchedForm):
    """The inputs of a run as JSON. Secrets in `given` are hidden, and restored by `value()`."""

    inputs = ObjectField(
        required=False,
        widget=forms.Textarea(attrs=AREA),
        help_text='A JSON object, such as {"name": "Ann"}.',
    )

    def __init__(
        self, data: Mapping[str, str] | None = None, given: JsonObject | None = None
    ) -> None:
        self.given = given or {}
        super().__init__(data, initial={"inputs": redaction.shown(self.given)})

    def value(self) -> JsonObject:
        return dict(redaction.restored(self.cleaned_data["inputs"], self.given))


InputsForm = SchemaForm | JsonInputs


class Preview(TypedDict):
    """What a rerun would do: the states, if only a part is run again, and the changed inputs."""

    parts: partial_rerun.Parts | None
    inputs: list[Difference]


def inputs_form(
    schema: Mapping[str, Json] | None, given: JsonObject, data: Mapping[str, str] | None = None
) -> InputsForm:
    """A form for the inputs of a graph.

    It has a field for each property if the schema declares every given input; otherwise one field
    for JSON.
    """
    properties = (schema or {}).get("properties") or {}
    if schema and properties and given.keys() <= properties.keys():
        return SchemaForm(schema, data, given, prefix="input")
    return JsonInputs(data, given)


@require_http_methods(["GET", "POST"])
@staff_page("rerun")
def rerun_run(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask how the run is run again; show a preview; or start the rerun and show it."""
    run = run_for(request, pk)
    if has_driver(run):
        return _of_driver(request, run)
    form = _inputs_form(request, run)
    if request.method == "GET":
        return _page(request, run, form)
    if form.is_bound and not form.is_valid():
        return _page(request, run, form, status=422)

    try:
        options = _options(request, run, form)
        if "preview" in request.POST:
            return _page(request, run, form, preview=_preview(run, options))
        if request.POST.get("expression", "").strip():
            return _repeat(request, run, options)
        new_run = rerun(run, caller_of(request), options)
    except errors.StateManagerError as error:
        return _page(request, run, form, message=message_of(error), status=422)
    messages.success(request, f"{new_run} was started.")
    return redirect("run_page", new_run.pk)


def _of_driver(request: HttpRequest, run: Run) -> HttpResponse:
    """Ask about the run whose node runs this thread: that is what is run again."""
    try:
        driver = driver_of(run)
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
        return redirect("run_page", run.pk)
    assert driver is not None
    messages.info(request, f"{sentence(run)} A rerun is one of that run.")
    return redirect("run_manager_rerun", driver.pk)


def _repeat(request: HttpRequest, run: Run, options: RerunOptions) -> HttpResponse:
    """Rerun the run on the schedule of the form, and show all schedules."""
    if options.partly or options.delay:
        raise errors.Malformed("On a schedule the whole run is rerun, at the due times.")
    recurrence = Recurrence(
        request.POST["expression"].strip(),
        request.POST.get("time_zone", "").strip() or "UTC",
        options.inputs,
        options.newest,
    )
    recurring = repeat(run, caller_of(request), recurrence)
    messages.success(request, f"{run} is rerun at {recurring}, next {exact(recurring.next_at)}.")
    return redirect("run_recurring")


def _inputs_form(request: HttpRequest, run: Run) -> InputsForm:
    """The form of the inputs, bound if the user may see inputs and sent some."""
    schema = run.version.plan.inputs_schema if run.version else None
    sent = has_inputs(request.POST) and _sees_payloads(request, run)
    return inputs_form(schema, run.initial_data, request.POST if sent else None)


def _sees_payloads(request: HttpRequest, run: Run) -> bool:
    return caller_of(request).can("payloads", run.namespace_id)


def _options(request: HttpRequest, run: Run, form: InputsForm) -> RerunOptions:
    """What the form asks for. Raises Malformed if its parts contradict each other."""
    start = request.POST.get("from", "start")
    at = request.POST.get("at", "")
    inputs = form.value() if form.is_bound and form.has_changed() else None
    if inputs is not None and same(inputs, run.initial_data):
        inputs = None
    if inputs is not None and start != "start":
        raise errors.Malformed("The inputs can only be changed in a rerun from the start.")
    return RerunOptions(
        newest=request.POST.get("version") == "newest",
        failed=start == "failed",
        node=request.POST.get("node", "") if start == "node" else "",
        inputs=inputs,
        delay=_delay(at) if at else 0.0,
        idempotency_key=request.POST.get("asked", "")[:100],
    )


def _delay(text: str) -> float:
    """Seconds until a time, in the zone of the user unless it has an offset.

    Raises Malformed if the text is no time or the time is past.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise errors.Malformed(
            f"{text[:40]!r} is not a time. Use a form such as 2030-01-31T06:00."
        ) from None
    if not moment.tzinfo:
        moment = timezone.make_aware(moment)
    now = sql.clock()
    if moment < now:
        raise errors.Malformed("This time is in the past.")
    return (moment - now).total_seconds()


def _preview(run: Run, options: RerunOptions) -> Preview:
    before = redaction.shown(run.initial_data)
    after = redaction.shown(dict(options.inputs)) if options.inputs is not None else before
    return {
        "parts": partial_rerun.parts(run, options.node) if options.partly else None,
        "inputs": some_differences(before, after),
    }


def _page(
    request: HttpRequest,
    run: Run,
    form: InputsForm,
    message: str = "",
    preview: Preview | None = None,
    status: int = 200,
) -> HttpResponse:
    fields = request.POST or request.GET
    context = in_admin(
        request,
        "Rerun",
        run=run,
        form=form,
        message=message,
        preview=preview,
        back=back_to(request, "run_manager"),
        start=fields.get("from", "start"),
        node=fields.get("node", ""),
        version=fields.get("version", ""),
        at=fields.get("at", ""),
        expression=fields.get("expression", ""),
        time_zone=fields.get("time_zone", "UTC"),
        changed=form.is_bound and form.has_changed(),
        nodes=nodes_of(run) if run.version else [],
        payloads=_sees_payloads(request, run),
        idempotency_key=request.POST.get("asked") or uuid.uuid4().hex,
    )
    return render(request, "run_manager/rerun.html", context, status=status)
