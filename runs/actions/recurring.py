"""Recurring reruns: asking for them, pausing, changing and deleting them.

`runs.actions.schedules` starts the reruns.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from django.db import IntegrityError, transaction

from graphs.auth.callers import Caller
from graphs.definition import errors, payloads, redaction
from graphs.definition.types import Json
from graphs.models import Namespace
from runs.actions import sent_inputs
from runs.actions.due_times import first_time, reschedule
from runs.models import AuditEntry, RecurringRerun, Run
from runs.queries.drivers import driver_of

MAX_RECURRING = 100  # in a namespace


@dataclass(frozen=True)
class Recurrence:
    """When a run is rerun, and how: as it was, or with these inputs, or on the newest version."""

    expression: str
    time_zone: str = "UTC"
    inputs: Mapping[str, Json] | None = None
    newest: bool = False


def repeat(run: Run, caller: Caller, recurrence: Recurrence) -> RecurringRerun:
    """Rerun the run at each due time from now on; for a thread of ours, the run of its node.

    Raises Forbidden without the right, Malformed for a schedule or inputs that can't be stored,
    NotFound if the run is gone, and Conflict if it has the same schedule already or the namespace
    has as many of them as it may have.
    """
    caller.require("rerun", run.namespace_id)
    _check_inputs(recurrence.inputs)
    run = driver_of(run) or run
    inputs = recurrence.inputs
    if inputs is not None:
        inputs = sent_inputs.restored(inputs, run.initial_data, caller, run.namespace_id)
    recurring = RecurringRerun(
        run=run,
        namespace_id=run.namespace_id,
        expression=recurrence.expression,
        time_zone=recurrence.time_zone,
        inputs=inputs,
        newest=recurrence.newest,
        author=caller.label[:150],
        next_at=first_time(recurrence.expression, recurrence.time_zone),
    )
    with transaction.atomic():
        # The first lock keeps the run from being deleted meanwhile, the second makes the limit
        # exact.
        if not Run.objects.select_for_update(no_key=True).filter(pk=run.pk).values("pk"):
            raise errors.NotFound(f"There is no run {run.run_id!r}.")
        list(Namespace.objects.select_for_update(no_key=True).filter(pk=run.namespace_id))
        if RecurringRerun.objects.filter(namespace=run.namespace_id).count() >= MAX_RECURRING:
            raise errors.Conflict(
                f"A namespace has at most {MAX_RECURRING} recurring reruns; delete one first."
            )
        _store(recurring, caller, "repeat_rerun")
    return recurring


def change(
    recurring: RecurringRerun,
    caller: Caller,
    enabled: bool | None = None,
    expression: str | None = None,
    time_zone: str | None = None,
) -> RecurringRerun:
    """Pause a recurring rerun, let it go on, or give it another schedule.

    What became due while it was paused is not made up for. Raises what `repeat` raises.
    """
    caller.require("rerun", recurring.namespace_id)
    with transaction.atomic():
        _lock(recurring)
        reschedule(recurring, enabled, expression, time_zone)
        _store(recurring, caller, "change_recurring")
    return recurring


def remove(recurring: RecurringRerun, caller: Caller) -> None:
    """Rerun the run no more; its reruns stay. Raises Forbidden without the right."""
    caller.require("rerun", recurring.namespace_id)
    with transaction.atomic():
        _lock(recurring)
        AuditEntry.objects.record(caller, "delete_recurring", recurring.run, str(recurring))
        recurring.delete()


def _lock(recurring: RecurringRerun) -> None:
    """Lock the run, as the schedules do, and read the row again. Raises NotFound if it is gone."""
    list(Run.objects.select_for_update(no_key=True).filter(pk=recurring.run_id).values("pk"))
    try:
        recurring.refresh_from_db()
    except RecurringRerun.DoesNotExist:
        raise errors.NotFound("This recurring rerun was deleted.") from None


def _check_inputs(inputs: Mapping[str, Json] | None) -> None:
    try:
        payloads.dump(inputs)
    except payloads.NotJson as error:
        raise errors.Malformed(f"The inputs can't be stored: {error}.") from None


def _store(recurring: RecurringRerun, caller: Caller, action: str) -> None:
    state = "" if recurring.enabled else ", paused"
    try:
        with transaction.atomic():
            recurring.save()
            AuditEntry.objects.record(caller, action, recurring.run, f"{recurring}{state}")
    except IntegrityError:
        raise errors.Conflict("The run is rerun on this schedule already.") from None


def hide_payloads(recurring: RecurringRerun, caller: Caller) -> RecurringRerun:
    """Hide secrets, and from those who may not see payloads all of what the reruns work on."""
    sees = caller.can("payloads", recurring.namespace_id)
    recurring.inputs = redaction.shown(recurring.inputs, sees)
    if recurring.error and not sees:
        recurring.error = redaction.HIDDEN
    return recurring
