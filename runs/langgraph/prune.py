"""Deleting LangGraph threads, or some of their checkpoints, with all that belongs to them."""

from collections.abc import Iterable, Sequence

from django.db import transaction

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.models import Namespace
from runs.actions import delete
from runs.engine import counters
from runs.engine.counters import RunCounters
from runs.langgraph import status, threads
from runs.models import Checkpoint, CheckpointBlob, CheckpointWrite, Run


def delete_thread(namespace: Namespace, thread_id: str) -> None:
    """Delete the thread's run with all its traces; a tombstone stays. None is no error."""
    if pk := threads.run_of(namespace, thread_id):
        delete.delete_runs([pk], SYSTEM, even_active=True)


def delete_for_runs(namespace: Namespace, run_ids: Iterable[str]) -> None:
    """Delete the checkpoints that these LangGraph runs (`run_id` of the metadata) made, with their writes."""
    rows = threads.checkpoints_of(namespace).filter(metadata__run_id__in=list(run_ids))
    for pk in rows.order_by("run_id").values_list("run_id", flat=True).distinct():
        with transaction.atomic():
            run_counters = counters.lock([pk]).get(pk)
            if run_counters:
                _drop(run_counters, list(rows.filter(run=pk)))


def prune(namespace: Namespace, thread_ids: Iterable[str], keep_latest: bool) -> None:
    """Keep the newest checkpoint of each namespace of these threads, or none. Raises Conflict for one whose channels are kept as differences."""
    for thread_id in thread_ids:
        if not (pk := threads.run_of(namespace, thread_id)):
            continue
        with transaction.atomic():
            run_counters = counters.lock([pk]).get(pk)
            if run_counters is None:
                continue
            rows = list(
                threads.checkpoints_of(namespace).filter(run=pk).order_by("ns", "checkpoint_id")
            )
            kept = {row.ns: row for row in rows} if keep_latest else {}
            if any("counters_since_delta_snapshot" in row.metadata for row in kept.values()):
                raise errors.Conflict(
                    f"The thread {thread_id!r} keeps channels as differences; older checkpoints hold a part of its newest state."
                )
            _drop(run_counters, [row for row in rows if kept.get(row.ns) is not row])


def _drop(run_counters: RunCounters, rows: Sequence[Checkpoint]) -> None:
    """Delete these checkpoints of a run with their writes, and the values that no other refers to; how far they went is noted."""
    for row in rows:
        CheckpointWrite.objects.filter(
            run=run_counters.pk, ns=row.ns, checkpoint_id=row.checkpoint_id
        ).delete()
    Checkpoint.objects.filter(pk__in=[row.pk for row in rows]).delete()
    for ns in {row.ns for row in rows}:
        left = Checkpoint.objects.filter(run=run_counters.pk, ns=ns).values_list(
            "versions", flat=True
        )
        used = {(channel, version) for versions in left for channel, version in versions.items()}
        unused = [
            blob.pk
            for blob in CheckpointBlob.objects.filter(run=run_counters.pk, ns=ns).defer("body")
            if (blob.channel, blob.version) not in used
        ]
        CheckpointBlob.objects.filter(pk__in=unused).delete()
    if gone := max((row.checkpoint_id for row in rows if not row.ns), default=""):
        metadata = Run.objects.values_list("metadata", flat=True).get(pk=run_counters.pk)
        Run.objects.filter(pk=run_counters.pk).update(
            metadata=metadata | {threads.DROPPED: max(gone, threads.dropped_until(run_counters.pk))}
        )
        if not Checkpoint.objects.filter(
            run=run_counters.pk, ns="", checkpoint_id__gt=gone
        ).exists():
            status.judge(run_counters)
    counters.store([run_counters])
