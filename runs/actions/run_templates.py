"""Run templates: saving a run's configuration, launching it, cloning it with changes, and how far its runs are."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import Avg, Count, Q
from django.utils import timezone

from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import cron, errors, payloads
from runs.core import sql, statuses
from runs.engine.start import RunOptions, start_run
from runs.models import AuditEntry, Run, RunTemplate, State

log = logging.getLogger(__name__)
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
BATCH = 100
LONGEST_NAME = 200


def save(template: RunTemplate, caller: Caller) -> RunTemplate:
    """Store a new or changed template. Raises Forbidden, Malformed and, for a taken name, Conflict."""
    caller.require("start", template.namespace_id)
    template.name = template.name.strip()
    if not template.name or len(template.name) > LONGEST_NAME or not template.name.isprintable():
        raise errors.Malformed(f"A template's name has 1 to {LONGEST_NAME} printable characters.")
    if template.graph.namespace_id != template.namespace_id:
        raise errors.Malformed("A template lies in the namespace of its graph.")
    for part in (template.inputs, template.store, template.labels):
        try:
            payloads.dump(part)
        except payloads.NotJson as error:
            raise errors.Malformed(f"The template can't be stored: {error}.") from None
    _schedule(template)
    action = "change_template" if template.pk else "save_template"
    try:
        with transaction.atomic():
            template.save()
            AuditEntry.objects.record_global(
                caller, action, f"{template.namespace.name}/{template.name}"
            )
    except IntegrityError:
        raise errors.Conflict(
            f"There is a template {template.name!r} in this namespace already."
        ) from None
    return template


def _schedule(template: RunTemplate) -> None:
    template.next_at, template.error = None, ""
    if not template.expression:
        return
    try:
        cron.check(template.expression, template.time_zone)
    except ValueError as error:
        raise errors.Malformed(f"{error}.") from None
    template.next_at = cron.next_time(template.expression, template.time_zone, timezone.now())


def from_run(run: Run, name: str, caller: Caller, description: str = "") -> RunTemplate:
    """A template of what a run was given, on the newest version of its graph. Raises Conflict for a run without a graph."""
    if run.graph is None:
        raise errors.Conflict("The run has no graph that a template could launch.")
    caller.require("payloads", run.namespace_id)
    made = RunTemplate(
        namespace=run.namespace, name=name, description=description, graph=run.graph, dataset=run.dataset, inputs=run.initial_data, store=run.store,
        labels=run.labels, workspace=run.workspace, created_by=caller.user,
    )  # fmt: skip
    return save(made, caller)


def clone(template: RunTemplate, name: str, caller: Caller, **changes: Any) -> RunTemplate:
    """The same under another name, with these values instead; without the schedule."""
    values = {column: getattr(template, column) for column in COPIED} | changes
    return save(RunTemplate(name=name, created_by=caller.user, **values), caller)


def launch(
    template: RunTemplate,
    caller: Caller,
    run_id: str = "",
    inputs: Mapping[str, Any] | None = None,
    trigger: str = Run.Trigger.TEMPLATE,
) -> Run:
    """A run of the template, with these inputs instead if they are given."""
    options = RunOptions(
        run_id=run_id, inputs=template.inputs if inputs is None else inputs, store=template.store, labels=template.labels, workspace=template.workspace,
        name=f"{template.name} {timezone.now():%Y-%m-%d %H:%M}",
    )  # fmt: skip
    if run_id:
        options = replace(options, name=template.name)  # the same again for a repeated call
    with transaction.atomic():
        run = start_run(
            template.graph, options, template.dataset, caller, trigger, template.version
        )
        Run.objects.filter(pk=run.pk).update(template=template)
    run.template = template
    return run


def remove(template: RunTemplate, caller: Caller) -> None:
    """Forget a template; its runs stay."""
    caller.require("start", template.namespace_id)
    AuditEntry.objects.record_global(
        caller, "delete_template", f"{template.namespace.name}/{template.name}"
    )
    template.delete()


@dataclass(frozen=True)
class Progress:
    """What a template's runs came to: counts, the mean progress of those that are active, and the nodes of its graph that succeeded in any of them."""

    runs: int
    completed: int
    failed: int
    active: int
    active_progress: int | None
    completed_nodes: list[str]
    percent_complete: int


def progress_of(templates: Iterable[RunTemplate]) -> dict[int, Progress]:
    """The progress of each template, in two statements."""
    known = {template.pk: template for template in templates}
    failed, active = (statuses.FAILED, statuses.PARTIAL), statuses.ACTIVE_RUNS
    counted = (
        Run.objects.filter(template__in=known)
        .order_by()
        .values("template")
        .annotate(
            total=Count("pk"), completed=Count("pk", filter=Q(status=statuses.COMPLETED)), failed=Count("pk", filter=Q(status__in=failed)),
            active=Count("pk", filter=Q(status__in=active)), mean=Avg("progress", filter=Q(status__in=active)),
        )
    )  # fmt: skip
    counts = {row["template"]: row for row in counted}
    done: dict[int, list[str]] = {}
    succeeded = State.objects.filter(run__template__in=known, status=statuses.SUCCESS).order_by(
        "identifier"
    )
    for template, identifier in succeeded.values_list("run__template", "identifier").distinct():
        done.setdefault(template or 0, []).append(identifier)
    return {
        pk: _progress(template, counts.get(pk, {}), done.get(pk, []))
        for pk, template in known.items()
    }


def _progress(template: RunTemplate, row: Mapping[str, Any], done: list[str]) -> Progress:
    order = template.runs_version.plan.order if template.runs_version else ()
    completed = [node for node in order if node in set(done)]
    mean = row.get("mean")
    return Progress(
        runs=row.get("total", 0), completed=row.get("completed", 0), failed=row.get("failed", 0), active=row.get("active", 0),
        active_progress=int(mean) if mean is not None else None, completed_nodes=completed,
        percent_complete=int(100 * len(completed) / len(order)) if order else 0,
    )  # fmt: skip


def launch_due(now: datetime | None = None) -> int:
    """Launch the templates whose time has come; how many runs that made. Each due time launches once, however many hosts look."""
    now = now or sql.clock()
    due = RunTemplate.objects.filter(next_at__lte=now).select_related(
        "namespace", "graph__namespace", "graph__current", "version", "dataset"
    )
    return sum(_launch(template, now) for template in due.order_by("next_at")[:BATCH])


def _launch(template: RunTemplate, now: datetime) -> bool:
    assert template.next_at is not None
    _, following = cron.passed(template.expression, template.time_zone, template.next_at, now)
    mine = RunTemplate.objects.filter(pk=template.pk, next_at=template.next_at)
    try:
        with transaction.atomic():
            if not mine.update(next_at=following, last_fired_at=now, error=""):
                return False
            launch(template, SYSTEM, trigger=Run.Trigger.SCHEDULE)
            return True
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:  # it must not keep the others from their time
        log.warning("template %s could not be launched: %s", template, error)
        mine.update(next_at=following, error=f"{error}"[:2000])
        return False
