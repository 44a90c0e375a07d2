"""Run templates: saving them, launching them by hand and on a schedule, and their progress."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypedDict

from django.db import IntegrityError, transaction
from django.db.models import Avg, Count, Q
from django.utils import timezone

from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import cron, errors, labels, names, payloads, time_zones
from graphs.definition.types import Json
from runs.actions import sent_inputs
from runs.actions.due_times import first_time
from runs.core import db_errors, sql, statuses
from runs.engine import run_inputs
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import AuditEntry, Run, RunTemplate, State

log = logging.getLogger(__name__)
BATCH = 100
MAX_ERROR_LENGTH = 2000
SCHEDULE = {"expression", "time_zone"}
COPIED = (
    "namespace",
    "description",
    "graph",
    "version",
    "dataset",
    "inputs",
    "store",
    "labels",
    "workspace",
)


# --- saving ---------------------------------------------------------------------------------------


def save(template: RunTemplate, caller: Caller) -> RunTemplate:
    """Store a new or changed template.

    Raises Forbidden without the right, Malformed for values that can't be stored, and Conflict if
    the namespace has another template of this name.
    """
    caller.require("start", template.namespace_id)
    _check(template)
    template.error = ""
    template.next_at = _first_time(template)
    return _store(template, caller, "change_template" if template.pk else "save_template")


def _store(
    template: RunTemplate, caller: Caller, action: str, columns: Iterable[str] | None = None
) -> RunTemplate:
    try:
        with transaction.atomic():
            template.save(update_fields=columns)
            _audit(template, caller, action)
    except IntegrityError:
        raise errors.Conflict(
            f"The namespace has a template {template.name!r} already. Choose another name."
        ) from None
    return template


def change(template: RunTemplate, caller: Caller, **changes: Any) -> RunTemplate:
    """Change these columns. What was not changed keeps its value, whoever else changes it.

    Secrets that were shown as dots and come back as such are kept. Raises what `save` raises.
    """
    for name in {"inputs", "store"} & changes.keys():
        former = getattr(template, name)
        changes[name] = sent_inputs.restored(changes[name], former, caller, template.namespace_id)
    for name, value in changes.items():
        setattr(template, name, value)
    caller.require("start", template.namespace_id)
    _check(template)
    template.error = ""
    columns = {*changes, "error"}
    if columns & SCHEDULE:
        template.next_at = _first_time(template)
        columns.add("next_at")
    return _store(template, caller, "change_template", columns)


def _check(template: RunTemplate) -> None:
    names.checked("template", template.name)
    if template.graph.namespace_id != template.namespace_id:
        raise errors.Malformed("A template must be in the namespace of its graph.")
    if template.dataset and template.dataset.namespace_id != template.namespace_id:
        raise errors.Malformed("A template takes a dataset of its own namespace.")
    labels.check(template.labels)
    try:
        time_zones.check(template.time_zone)
    except ValueError as error:
        raise errors.Malformed(f"{error}.") from None
    for value in (template.inputs, template.store, template.labels):
        try:
            payloads.dump(value)
        except payloads.NotJson as error:
            raise errors.Malformed(f"The template can't be stored: {error}.") from None


def _first_time(template: RunTemplate) -> datetime | None:
    """When the template is launched next; None without a schedule."""
    if not template.expression:
        return None
    return first_time(template.expression, template.time_zone)


def from_run(run: Run, name: str, caller: Caller, description: str = "") -> RunTemplate:
    """Save a template with the configuration of a run, for the newest version of its graph.

    Raises Conflict for a run without a graph, and what `save` raises.
    """
    if run.graph is None:
        raise errors.Conflict("The run has no graph that a template could launch.")
    caller.require("payloads", run.namespace_id)
    template = RunTemplate(
        namespace=run.namespace,
        name=name,
        description=description,
        graph=run.graph,
        dataset=run.dataset,
        inputs=run.initial_data,
        store=run.store,
        labels=run.labels,
        workspace=run.workspace,
        created_by=caller.user,
    )
    return save(template, caller)


def clone(template: RunTemplate, name: str, caller: Caller, **changes: Any) -> RunTemplate:
    """Save a copy under another name, with these columns changed and without the schedule."""
    if "inputs" in changes:
        sent, namespace = changes["inputs"], template.namespace_id
        changes["inputs"] = sent_inputs.restored(sent, template.inputs, caller, namespace)
    values = {column: getattr(template, column) for column in COPIED} | changes
    return save(RunTemplate(name=name, created_by=caller.user, **values), caller)


def remove(template: RunTemplate, caller: Caller) -> None:
    """Delete a template. Its runs stay. Raises Forbidden without the right."""
    caller.require("start", template.namespace_id)
    with transaction.atomic():
        _audit(template, caller, "delete_template")
        template.delete()


def _audit(template: RunTemplate, caller: Caller, action: str) -> None:
    detail = f"{template.namespace.name}/{template.name}"
    AuditEntry.objects.record_global(caller, action, detail, template.namespace_id)


# --- launching ------------------------------------------------------------------------------------


def launch(
    template: RunTemplate,
    caller: Caller,
    run_id: str = "",
    inputs: Mapping[str, Json] | None = None,
    trigger: str = Run.Trigger.TEMPLATE,
) -> Run:
    """Start a run of the template. `inputs` replace those of the template.

    Raises what starting a run raises.
    """
    if inputs is None:
        inputs = template.inputs
    else:
        inputs = sent_inputs.restored(inputs, template.inputs, caller, template.namespace_id)
    options = RunOptions(
        run_id=run_id,
        inputs=inputs,
        store=template.store,
        labels=template.labels,
        workspace=template.workspace,
        name=f"{template.name} {timezone.now():%Y-%m-%d %H:%M}",
    )
    if run_id:
        # A repeated request must have the same options to get the run of the first one.
        options = replace(options, name=template.name)
    is_hidden = not caller.can("payloads", template.namespace_id)
    with transaction.atomic(), run_inputs.hidden(is_hidden):
        run = start_run(
            template.graph, options, template.dataset, caller, trigger, template.version
        )
        Run.objects.filter(pk=run.pk).update(template=template)
    run.template = template
    return run


def launch_due(now: datetime | None = None) -> int:
    """Launch the templates whose time has come. Returns the number of runs started.

    Several hosts may call this: each due time launches one run.
    """
    now = now or sql.clock()
    due = RunTemplate.objects.filter(next_at__lte=now).select_related(
        "namespace", "graph__namespace", "graph__current", "version", "dataset"
    )
    return sum(_launch_due(template, now) for template in due.order_by("next_at")[:BATCH])


def _launch_due(template: RunTemplate, now: datetime) -> bool:
    """Launch a template for its due time. Returns whether this call did."""
    assert template.next_at is not None
    _, next_at = cron.passed(template.expression, template.time_zone, template.next_at, now)
    # `next_at` is the guard: of several hosts, one moves it, and starts the run with that.
    unchanged = RunTemplate.objects.filter(pk=template.pk, next_at=template.next_at)
    try:
        with transaction.atomic():
            if not unchanged.update(next_at=next_at, last_fired_at=now, error=""):
                return False
            launch(template, SYSTEM, trigger=Run.Trigger.SCHEDULE)
            return True
    except Exception as error:  # a defect in one template must not keep the others from launching
        if db_errors.is_away(error):
            raise
        if db_errors.is_contention(error):
            return False  # the next round tries again
        log.warning("template %s could not be launched: %s", template, error)
        unchanged.update(next_at=next_at, error=f"{error}"[:MAX_ERROR_LENGTH])
        return False


# --- what the runs came to ------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """What the runs of a template came to.

    `active_progress` is the mean progress of the active runs in percent, None without any.
    `completed_nodes` succeeded in at least one run; `percent_complete` is their share of the graph.
    """

    runs: int
    completed: int
    failed: int
    active: int
    active_progress: int | None
    completed_nodes: list[str]
    percent_complete: int


class _Counts(TypedDict):
    runs: int
    completed: int
    failed: int
    active: int
    mean_progress: float | None


_NO_RUNS = _Counts(runs=0, completed=0, failed=0, active=0, mean_progress=None)


def progress_of(templates: Iterable[RunTemplate]) -> dict[int, Progress]:
    """The progress of each template by its pk, in two statements."""
    by_pk = {template.pk: template for template in templates}
    counts = _counts_of(by_pk)
    succeeded = _succeeded_nodes(by_pk)
    return {
        pk: _progress(template, counts.get(pk, _NO_RUNS), succeeded.get(pk, set()))
        for pk, template in by_pk.items()
    }


def _counts_of(template_pks: Iterable[int]) -> dict[int, _Counts]:
    failed = Q(status__in=statuses.UNSUCCESSFUL)
    active = Q(status__in=statuses.ACTIVE_RUNS)
    rows = (
        Run.objects.filter(template__in=template_pks)
        .order_by()
        .values("template")
        .annotate(
            run_count=Count("pk"),
            completed=Count("pk", filter=Q(status=statuses.COMPLETED)),
            failed=Count("pk", filter=failed),
            active=Count("pk", filter=active),
            mean_progress=Avg("progress", filter=active),
        )
    )
    return {
        row["template"]: _Counts(
            runs=row["run_count"],
            completed=row["completed"],
            failed=row["failed"],
            active=row["active"],
            mean_progress=row["mean_progress"],
        )
        for row in rows
    }


def _succeeded_nodes(template_pks: Iterable[int]) -> dict[int, set[str]]:
    states = State.objects.filter(run__template__in=template_pks, status=statuses.SUCCESS)
    nodes: dict[int, set[str]] = {}
    for pk, node in states.order_by().values_list("run__template", "identifier").distinct():
        assert pk is not None
        nodes.setdefault(pk, set()).add(node)
    return nodes


def _progress(template: RunTemplate, counts: _Counts, succeeded: set[str]) -> Progress:
    version = template.runs_version
    order = version.plan.order if version else ()
    completed_nodes = [node for node in order if node in succeeded]
    mean_progress = counts["mean_progress"]
    return Progress(
        runs=counts["runs"],
        completed=counts["completed"],
        failed=counts["failed"],
        active=counts["active"],
        active_progress=None if mean_progress is None else int(mean_progress),
        completed_nodes=completed_nodes,
        percent_complete=100 * len(completed_nodes) // len(order) if order else 0,
    )
