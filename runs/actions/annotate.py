"""What people write on a run: that it is archived, its labels, and a status set by hand."""

from collections.abc import Mapping, Sequence

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from graphs.auth.callers import Caller
from graphs.definition import errors
from runs.core import statuses
from runs.engine import counters, status_rules, store
from runs.models import AuditEntry, LogLine, Run

MAX_LABELS, MAX_LABEL = 50, 200


def archive_run(run: Run, caller: Caller, archived: bool = True) -> Run:
    """Take an ended run out of the lists, or bring it back. Raises Conflict while it is active."""
    caller.require("change", run.namespace_id)
    with transaction.atomic():
        found = Run.objects.filter(
            pk=run.pk, status__in=statuses.ENDED_RUNS, archived_at__isnull=archived
        )
        if not found.update(
            archived_at=timezone.now() if archived else None,
            reruns_left=0,
            revision=F("revision") + 1,
            updated_at=timezone.now(),
        ):
            run.refresh_from_db()
            if not run.ended:
                raise errors.Conflict(
                    f"The run is {run.status}; only runs that have ended are archived.",
                    allowed=list(statuses.RUN_ACTIONS[run.status]),
                )
            return run
        AuditEntry.objects.record(caller, "archive" if archived else "unarchive", run)
    run.refresh_from_db()
    return run


def unarchive_run(run: Run, caller: Caller) -> Run:
    """Bring an archived run back into the lists."""
    return archive_run(run, caller, archived=False)


def label_run(run: Run, caller: Caller, add: Mapping[str, str], remove: Sequence[str] = ()) -> Run:
    """Set and remove labels. Raises Malformed for labels that are too long or too many."""
    caller.require("change", run.namespace_id)
    if any(
        not key or len(key) > MAX_LABEL or len(str(value)) > MAX_LABEL for key, value in add.items()
    ):
        raise errors.Malformed(
            f"Keys and values of labels are from 1 to {MAX_LABEL} characters long."
        )
    with transaction.atomic():
        locked = (
            Run.objects.select_for_update(no_key=True)
            .filter(pk=run.pk)
            .values_list("labels", flat=True)
            .first()
        )
        if locked is None:
            raise errors.NotFound(f"There is no run {run.run_id!r}.")
        labels = {key: value for key, value in locked.items() if key not in remove} | dict(add)
        if len(labels) > MAX_LABELS:
            raise errors.Malformed(f"A run has at most {MAX_LABELS} labels.")
        Run.objects.filter(pk=run.pk).update(
            labels=labels, revision=F("revision") + 1, updated_at=timezone.now()
        )
        said = [*(f"{key}={value}" for key, value in add.items()), *(f"-{key}" for key in remove)]
        AuditEntry.objects.record(caller, "label", run, " ".join(said))
    run.labels = labels
    return run


def set_status(run: Run, caller: Caller, status: str, reason: str) -> Run:
    """End the run with this status, whatever became of it; what of it is unfinished is cancelled.

    Raises Malformed without a reason or for a status that is no end, and Conflict when the run has it already.
    """
    caller.require("set_status", run.namespace_id)
    if status not in statuses.ENDED_RUNS:
        raise errors.Malformed(f"The status is one of {', '.join(statuses.ENDED_RUNS)}.")
    if not reason.strip():
        raise errors.Malformed("Setting a status by hand needs a reason.")
    with transaction.atomic():
        run_counters = counters.lock(
            [run.pk], {run.pk: run.version.plan} if run.version else {}
        ).get(run.pk)
        if run_counters is None:
            raise errors.NotFound(f"There is no run {run.run_id!r}.")
        if run_counters.status == status:
            raise errors.Conflict(
                f"The run is {status} already.",
                allowed=[each for each in statuses.ENDED_RUNS if each != status],
            )
        if run_counters.open:
            store.cancel_unfinished(run_counters)
        was, run_counters.status, run_counters.paused = run_counters.status, status, False
        run_counters.progress = status_rules.progress(status, 0, run_counters.progress)
        run_counters.error_message = "" if status == statuses.COMPLETED else reason
        AuditEntry.objects.record(caller, "set_status", run, f"{was} → {status}: {reason}")
        LogLine.objects.create(
            run=run,
            level="warning",
            message=f"Status set from {was} to {status} by {caller.label}: {reason}"[:2000],
        )
        run_counters.log_count += 1
        counters.store([run_counters])
        Run.objects.filter(pk=run.pk).update(reruns_left=0)  # a person has seen to it
    run.refresh_from_db()
    return run
