"""Deleting LangGraph threads, or some of their checkpoints with everything that belongs to them."""

from collections.abc import Iterable, Sequence

from django.db import transaction

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.models import Namespace
from runs.actions import delete
from runs.engine import counters
from runs.engine.counters import RunCounters
from runs.langgraph import checkpoints, status, thread_bytes, threads
from runs.models import Checkpoint, CheckpointBlob, CheckpointWrite, Run

DELTA_METADATA = "counters_since_delta_snapshot"


def delete_thread(namespace: Namespace, thread_id: str) -> None:
    """Delete the thread's run and leave a tombstone. Does nothing if there is no such thread."""
    run = threads.run_of(namespace, thread_id)
    if run is not None:
        delete.delete_runs([run], SYSTEM, even_active=True)


def delete_for_runs(namespace: Namespace, run_ids: Iterable[str]) -> None:
    """Delete the checkpoints that these LangGraph runs (`run_id` in the metadata) made."""
    rows = checkpoints.of_namespace(namespace).filter(metadata__run_id__in=list(run_ids))
    for run in rows.order_by("run_id").values_list("run_id", flat=True).distinct():
        with transaction.atomic():
            run_counters = counters.lock([run]).get(run)
            if run_counters:
                _drop(run_counters, list(rows.filter(run=run)))


def prune(namespace: Namespace, thread_ids: Iterable[str], keep_latest: bool) -> None:
    """Delete the checkpoints of these threads, all of them or all but the newest of each namespace.

    Raises Conflict for a thread whose newest checkpoint needs older ones.
    """
    for thread_id in thread_ids:
        run = threads.run_of(namespace, thread_id)
        if run is None:
            continue
        with transaction.atomic():
            run_counters = counters.lock([run]).get(run)
            if run_counters:
                rows = checkpoints.of_namespace(namespace).filter(run=run)
                rows = rows.order_by("ns", "checkpoint_id")
                _drop(run_counters, _prunable(thread_id, list(rows), keep_latest))


def _prunable(thread_id: str, rows: list[Checkpoint], keep_latest: bool) -> list[Checkpoint]:
    if not keep_latest:
        return rows
    newest = {row.ns: row for row in rows}  # the last one of each namespace
    if any(DELTA_METADATA in row.metadata for row in newest.values()):
        raise errors.Conflict(
            f"The thread {thread_id!r} can't be pruned: it stores channels as differences,"
            " so older checkpoints hold a part of its newest state."
        )
    return [row for row in rows if newest[row.ns] is not row]


def delete_one(run_counters: RunCounters, row: Checkpoint) -> None:
    """Delete one checkpoint of a locked run. Raises Conflict if a later one needs it."""
    later = Checkpoint.objects.filter(
        run=run_counters.pk, ns=row.ns, checkpoint_id__gt=row.checkpoint_id
    )
    if any(DELTA_METADATA in metadata for metadata in later.values_list("metadata", flat=True)):
        raise errors.Conflict(
            "The checkpoint can't be deleted: the thread stores channels as differences, so later"
            " checkpoints need it."
        )
    _drop(run_counters, [row])


def _drop(run_counters: RunCounters, rows: Sequence[Checkpoint]) -> None:
    """Delete these checkpoints of a run, their writes, and values that no other one refers to."""
    run = run_counters.pk
    for row in rows:
        CheckpointWrite.objects.filter(run=run, ns=row.ns, checkpoint_id=row.checkpoint_id).delete()
    Checkpoint.objects.filter(pk__in=[row.pk for row in rows]).delete()
    for ns in {row.ns for row in rows}:
        _delete_unused_values(run, ns)

    newest_dropped = max((row.checkpoint_id for row in rows if not row.ns), default="")
    if newest_dropped:
        _remember_dropped(run, newest_dropped)
        # A run that has ended stays as it is: nothing will write to what is left of it.
        if run_counters.open and not status.is_behind(run, newest_dropped):
            status.update(run_counters)
    run_counters.stored_bytes = thread_bytes.of_thread(run)
    counters.store([run_counters])


def _delete_unused_values(run: int, ns: str) -> None:
    used: set[tuple[str, str]] = set()
    remaining = Checkpoint.objects.filter(run=run, ns=ns)
    for versions in remaining.values_list("versions", flat=True):
        used.update(versions.items())
    values = CheckpointBlob.objects.filter(run=run, ns=ns).defer("body")
    unused = [value.pk for value in values if (value.channel, value.version) not in used]
    CheckpointBlob.objects.filter(pk__in=unused).delete()


def _remember_dropped(run: int, checkpoint_id: str) -> None:
    """Note how far checkpoints were deleted, so that late writes on top of them are dropped."""
    metadata = Run.objects.values_list("metadata", flat=True).get(pk=run)
    until = max(checkpoint_id, threads.dropped_until(run))
    Run.objects.filter(pk=run).update(metadata=metadata | {threads.DROPPED: until})
