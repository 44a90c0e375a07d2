"""What people change on a run after the fact: whether it is archived, its labels, its status."""

from collections.abc import Mapping, Sequence

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition import labels as label_rules
from runs.core import statuses
from runs.engine import counters, status_rules, store
from runs.models import AuditEntry, LogLine, Run

MAX_MESSAGE_LENGTH = 2000


def archive_run(run: Run, caller: Caller, archived: bool = True) -> Run:
    """Archive a run that has ended, which takes it out of the lists; or bring it back.

    Does nothing if that is done already. Raises Forbidden without the right, and Conflict if the
    run is active.
    """
    caller.require("change", run.namespace_id)
    now = timezone.now()
    with transaction.atomic():
        to_change = Run.objects.filter(
            pk=run.pk, status__in=statuses.ENDED_RUNS, archived_at__isnull=archived
        )
        changed = to_change.update(
            archived_at=now if archived else None,
            reruns_left=0,
            revision=F("revision") + 1,
            updated_at=now,
        )
        if changed:
            AuditEntry.objects.record(caller, "archive" if archived else "unarchive", run)
    run.refresh_from_db()
    if not changed and not run.ended:
        raise errors.Conflict(
            f"The run is {run.status}; only runs that have ended are archived.",
            allowed=list(statuses.RUN_ACTIONS[run.status]),
        )
    return run


def unarchive_run(run: Run, caller: Caller) -> Run:
    """Bring an archived run back into the lists."""
    return archive_run(run, caller, archived=False)


def label_run(run: Run, caller: Caller, add: Mapping[str, str], remove: Sequence[str] = ()) -> Run:
    """Set and remove labels of a run.

    Raises Forbidden without the right, Malformed for labels that are too long or too many, and
    NotFound if the run is gone.
    """
    caller.require("change", run.namespace_id)
    label_rules.check(add)
    with transaction.atomic():
        locked = Run.objects.select_for_update(no_key=True).filter(pk=run.pk)
        old_labels = locked.values_list("labels", flat=True).first()
        if old_labels is None:
            raise errors.NotFound(f"There is no run {run.run_id!r}.")
        labels = {key: value for key, value in old_labels.items() if key not in remove}
        labels |= add
        if len(labels) > len(old_labels):  # a run that has too many already can lose some
            label_rules.check(labels)
        Run.objects.filter(pk=run.pk).update(
            labels=labels, revision=F("revision") + 1, updated_at=timezone.now()
        )
        added = [f"{key}={value}" for key, value in add.items()]
        removed = [f"-{key}" for key in remove]
        AuditEntry.objects.record(caller, "label", run, " ".join([*added, *removed]))
    run.labels = labels
    return run


def set_status(run: Run, caller: Caller, status: str, reason: str) -> Run:
    """End the run with this status, whatever its states say. Unfinished states are cancelled.

    Raises Forbidden without the right, Malformed without a reason or for a status that is not
    final, NotFound if the run is gone, and Conflict if the run has the status already.
    """
    caller.require("set_status", run.namespace_id)
    if status not in statuses.ENDED_RUNS:
        raise errors.Malformed(f"The status is one of {', '.join(statuses.ENDED_RUNS)}.")
    if not reason.strip():
        raise errors.Malformed("Setting a status by hand needs a reason.")
    with transaction.atomic():
        plans = {run.pk: run.version.plan} if run.version else {}
        run_counters = counters.lock([run.pk], plans).get(run.pk)
        if run_counters is None:
            raise errors.NotFound(f"There is no run {run.run_id!r}.")
        if run_counters.status == status:
            others = [other for other in statuses.ENDED_RUNS if other != status]
            raise errors.Conflict(f"The run is {status} already.", allowed=others)
        old_status = run_counters.status
        _end_with_status(run_counters, status, reason)

        AuditEntry.objects.record(caller, "set_status", run, f"{old_status} → {status}: {reason}")
        message = f"Status set from {old_status} to {status} by {caller.label}: {reason}"
        LogLine.objects.create(run=run, level="warning", message=message[:MAX_MESSAGE_LENGTH])
        run_counters.log_count += 1
        counters.store([run_counters])
        # A person has decided what the run came to, so it is not rerun automatically.
        Run.objects.filter(pk=run.pk).update(reruns_left=0)
    run.refresh_from_db()
    return run


def _end_with_status(run_counters: counters.RunCounters, status: str, reason: str) -> None:
    if run_counters.open:
        store.cancel_unfinished(run_counters)
    run_counters.status = status
    run_counters.paused = False
    run_counters.progress = status_rules.progress(status, 0, run_counters.progress)
    run_counters.error_message = "" if status == statuses.COMPLETED else reason
