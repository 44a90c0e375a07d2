"""The page that asks how a run is to be run again, and shows what would happen."""

import uuid
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from graphs.definition import errors, redaction
from graphs.definition.differences import some_differences
from graphs.web.links import back_to
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, staff_page
from graphs.web.schema_forms import AREA, ObjectField, SchemaForm
from runs.actions import partial_rerun
from runs.actions.rerun import RerunOptions, rerun
from runs.manager.lookups import run_for
from runs.models import Run


class JsonInputs(forms.Form):
    """The inputs of a run as JSON."""

    inputs = ObjectField(
        required=False,
        widget=forms.Textarea(attrs=AREA),
        help_text='A JSON object, such as {"name": "Ann"}.',
    )

    def __init__(self, data: Any = None, given: dict[str, Any] | None = None) -> None:
        super().__init__(data, initial={"inputs": redaction.shown(given or {})})
        self.given = given or {}

    def value(self) -> dict[str, Any]:
        return dict(redaction.restored(self.cleaned_data["inputs"], self.given))


def inputs_form(schema: Any, given: dict[str, Any], post: Any = None) -> SchemaForm | JsonInputs:
    """A form of a graph's inputs: its fields if a schema names them all, else JSON."""
    properties = (schema or {}).get("properties") or {}
    if properties and given.keys() <= properties.keys():
        return SchemaForm(schema, post, given, prefix="input")
    return JsonInputs(post, given)


@require_http_methods(["GET", "POST"])
@staff_page("rerun")
def rerun_run(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask how; show what would happen if that is asked for; or do it and go to the new run."""
    run = run_for(request, pk)
    caller, payloads = caller_of(request), caller_of(request).can("payloads", run.namespace_id)
    schema = run.version.plan.inputs_schema if run.version else None
    form = inputs_form(
        schema,
        run.initial_data,
        request.POST if request.method == "POST" and _has_inputs(request) and payloads else None,
    )
    if request.method == "GET" or (form.is_bound and not form.is_valid()):
        return _page(request, run, form, code=200 if request.method == "GET" else 422)
    try:
        options = _options_of(request, run, form)
        if "preview" in request.POST:
            return _page(request, run, form, preview=_preview(run, options))
        made = rerun(run, caller, options)
    except errors.StateManagerError as error:
        return _page(request, run, form, said=message_of(error), code=422)
    messages.success(request, f"{made} was started.")
    return redirect("run_page", made.pk)


def _has_inputs(request: HttpRequest) -> bool:
    return any(name == "inputs" or name.startswith("input-") for name in request.POST)


def _options_of(request: HttpRequest, run: Run, form: Any) -> RerunOptions:
    start, inputs = (
        request.POST.get("from", "start"),
        form.value() if form.is_bound and form.has_changed() else None,
    )
    changed = inputs is not None and inputs != run.initial_data
    if changed and start != "start":
        raise errors.Malformed("Other inputs are for a rerun from the start.")
    at = request.POST.get("at", "")
    return RerunOptions(
        newest=request.POST.get("version") == "newest", failed=start == "failed", node=request.POST.get("node", "") if start == "node" else "",
        inputs=inputs if changed else None, delay=_delay(at) if at else 0.0, idempotency_key=request.POST.get("asked", "")[:100],
    )  # fmt: skip


def _delay(text: str) -> float:
    """Seconds until a moment in UTC. Raises Malformed for what is no time, or over."""
    try:
        moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise errors.Malformed(f"{text[:40]!r} is no time.") from None
    if moment < timezone.now():
        raise errors.Malformed("The time is over already.")
    return (moment - timezone.now()).total_seconds()


def _preview(run: Run, options: RerunOptions) -> dict[str, Any]:
    before = redaction.shown(run.initial_data)
    after = redaction.shown(dict(options.inputs)) if options.inputs is not None else before
    return {
        "parts": partial_rerun.parts(run, options.node) if options.partly else None,
        "inputs": some_differences(before, after),
    }


def _page(
    request: HttpRequest, run: Run, form: Any, said: str = "", preview: Any = None, code: int = 200
) -> HttpResponse:
    asked = request.POST or request.GET
    context = {
        "run": run, "form": form, "said": said, "preview": preview, "back": back_to(request, "run_manager"), "start": asked.get("from", "start"),
        "node": asked.get("node", ""), "version": asked.get("version", ""), "at": asked.get("at", ""), "changed": form.is_bound and form.has_changed(),
        "nodes": [node for node in run.version.plan.order if node in run.node_counts] if run.version else [],
        "payloads": caller_of(request).can("payloads", run.namespace_id), "asked": request.POST.get("asked") or uuid.uuid4().hex,
    }  # fmt: skip
    return render(
        request, "run_manager/rerun.html", in_admin(request, "Rerun", **context), status=code
    )
