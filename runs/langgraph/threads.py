"""Storing and copying the checkpoints of LangGraph threads. A thread is a run without a graph.

Values are (type, bytes) pairs. How they are serialized is not known here (`runs.langgraph.saver`).
Every write locks the run first, so it can't race the deletion of the thread. The id of a deleted
thread is refused for as long as its tombstone exists.
"""

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from graphs.definition import errors, names
from graphs.definition.types import JsonObject
from graphs.models import Namespace
from runs.core import sql, statuses
from runs.core.failpoints import failpoint
from runs.engine import counters, quota
from runs.engine.counters import RunCounters
from runs.external import documents, queue
from runs.langgraph import status, thread_bytes
from runs.langgraph.checkpoints import BATCH, NewCheckpoint, TaskWrites, check_lengths
from runs.models import Checkpoint, CheckpointBlob, CheckpointWrite, LogLine, Run, Tombstone

DROPPED = "checkpoints_deleted_until"  # in a run's metadata
LOCK_SECONDS = 20
MAX_PENDING = 500
EVERY = Q()


@dataclass(frozen=True)
class Writer:
    """Who writes to a thread.

    `claim` is the number with which the program took the thread's run from the queue, if it did.
    `origin` tells, for threads that a node of ours makes, which run the node belongs to.
    """

    claim: int | None = None
    origin: JsonObject | None = None


NOBODY = Writer()


def put(namespace: Namespace, thread_id: str, new: NewCheckpoint, writer: Writer = NOBODY) -> None:
    """Store a checkpoint with its values. A thread that doesn't exist yet is created.

    Raises Gone if the thread was deleted, and Conflict if its run was cancelled (unless the
    checkpoint holds new input), is held by another program, or its id belongs to another kind of
    run. Raises Malformed for a name that is too long, and TooLarge if the thread or its namespace
    would store more than it may.
    """
    check_lengths(new.ns, new.checkpoint_id, channels=new.versions, versions=new.versions.values())
    with transaction.atomic():
        run_counters = _lock_thread(namespace, thread_id, writer)
        if new.metadata.get("source") != "input":
            _refuse_cancelled(run_counters, thread_id)
        run_counters.keep(thread_bytes.added_by_checkpoint(run_counters.pk, new))
        _store(run_counters.pk, new)
        if not new.ns and not status.is_behind(run_counters.pk, new.checkpoint_id):
            _follow(run_counters, new)
        counters.store([run_counters])
        queue.follow(run_counters, writer.claim)
        failpoint("checkpoint-put-before-commit")
    failpoint("after-checkpoint-put-commit")


def _store(run: int, new: NewCheckpoint) -> None:
    kind, body = new.body
    Checkpoint.objects.update_or_create(
        run_id=run,
        ns=new.ns,
        checkpoint_id=new.checkpoint_id,
        defaults={
            "parent_checkpoint_id": new.parent,
            "type": kind,
            "body": body,
            "metadata": new.metadata,
            "versions": dict(new.versions),
            "pending": ",".join(new.pending)[:MAX_PENDING],
        },
    )
    blobs = [
        CheckpointBlob(
            run_id=run, ns=new.ns, channel=channel, version=version, type=kind, body=body
        )
        for (channel, version), (kind, body) in new.values.items()
    ]
    CheckpointBlob.objects.bulk_create(blobs, ignore_conflicts=True)


def _follow(run_counters: RunCounters, new: NewCheckpoint) -> None:
    """Make the run show the node, step and status of its new newest checkpoint."""
    if new.pending:
        run_counters.current_node = new.pending[0][:200]
    step = new.metadata.get("step")
    if isinstance(step, int):
        run_counters.current_step = max(0, step)
    status.update(run_counters, even_cancelled=True)


def put_writes(
    namespace: Namespace, thread_id: str, task: TaskWrites, writer: Writer = NOBODY
) -> None:
    """Store what a task wrote.

    A write to a control channel replaces an earlier one; other writes that exist are kept. Writes
    on top of a checkpoint that was deleted are dropped, because nothing refers to them.

    Raises what `put` raises.
    """
    channels = [write.channel for write in task.writes]
    check_lengths(task.ns, task.checkpoint_id, task.task_id, channels)
    with transaction.atomic():
        run_counters = _lock_thread(namespace, thread_id, writer)
        run = run_counters.pk
        exists = Checkpoint.objects.filter(
            run=run, ns=task.ns, checkpoint_id=task.checkpoint_id
        ).exists()
        if exists:
            _refuse_cancelled(run_counters, thread_id)
        elif not task.ns and task.checkpoint_id <= dropped_until(run):
            return
        run_counters.keep(thread_bytes.added_by_writes(run, task))
        _store_writes(run, task)
        if not task.ns:
            status.update_after_writes(run_counters, task.checkpoint_id, channels, task.error)
        counters.store([run_counters])
        queue.follow(run_counters, writer.claim)


def _store_writes(run: int, task: TaskWrites) -> None:
    rows = [
        CheckpointWrite(
            run_id=run,
            ns=task.ns,
            checkpoint_id=task.checkpoint_id,
            task_id=task.task_id,
            task_path=task.task_path,
            idx=write.idx,
            channel=write.channel,
            type=write.value[0],
            body=write.value[1],
        )
        for write in task.writes
    ]
    ordinary = [row for row in rows if row.idx >= 0]
    CheckpointWrite.objects.bulk_create(ordinary, ignore_conflicts=True)
    # PostgreSQL can't update a row twice in one statement, so only the last write to each counts.
    control = {row.idx: row for row in rows if row.idx < 0}
    CheckpointWrite.objects.bulk_create(
        control.values(),
        update_conflicts=True,
        unique_fields=["run", "ns", "checkpoint_id", "task_id", "idx"],
        update_fields=["task_path", "channel", "type", "body"],
    )


def copy_thread(namespace: Namespace, source: str, target: str) -> None:
    """Copy a thread under another id. What the target has already is kept.

    Does nothing if there is no thread `source`. Raises Gone, Conflict and TooLarge as `put` does.
    """
    source_run = run_of(namespace, source)
    if source_run is None:
        return
    with transaction.atomic():
        counters.lock([source_run])
        run_counters = _lock_thread(namespace, target)
        _copy(run_counters, source_run, EVERY, EVERY)
        status.update(run_counters)
        counters.store([run_counters])


def copy_until(namespace: Namespace, source: Run, until: str, target: str) -> Run:
    """Copy a thread up to a checkpoint of its main namespace, under an id that is new.

    The writes on top of that checkpoint are left out, so that the tasks that follow it run again.
    Raises Conflict if there is a run with the id, and Gone, Malformed and TooLarge as `put` does.
    """
    with transaction.atomic():
        counters.lock([source.pk])
        if Run.objects.filter(namespace=namespace, run_id=target).exists():
            raise errors.Conflict(f"There is a run {target!r} already. Choose another id.")
        run_counters = _lock_thread(namespace, target)
        _copy(run_counters, source.pk, Q(checkpoint_id__lte=until), Q(checkpoint_id__lt=until))
        status.update(run_counters)
        counters.store([run_counters])
    return Run.objects.get(pk=run_counters.pk)


def _copy(run_counters: RunCounters, source: int, checkpoints: Q, writes: Q) -> None:
    """Copy these checkpoints and writes of a thread, and all values, to a locked run."""
    of_source: list[QuerySet[Any]] = [
        Checkpoint.objects.filter(checkpoints, run=source).exclude(ns=documents.NS),
        CheckpointBlob.objects.filter(run=source),
        CheckpointWrite.objects.filter(writes, run=source),
    ]
    run_counters.keep(sum(thread_bytes.of(rows) for rows in of_source))
    for rows in of_source:
        _copy_rows(rows.order_by("pk"), run_counters.pk)
    run_counters.stored_bytes = thread_bytes.of_thread(run_counters.pk)


def _copy_rows(rows: QuerySet[Any], target: int) -> None:
    for start in range(0, rows.count(), BATCH):
        copies = list(rows[start : start + BATCH])
        for row in copies:
            row._state.adding = True
            row.pk = None
            row.run_id = target
        rows.model._default_manager.bulk_create(copies, ignore_conflicts=True)


# --- the run of a thread ------------------------------------------------------------------------


def _lock_thread(namespace: Namespace, thread_id: str, writer: Writer = NOBODY) -> RunCounters:
    """Lock the thread's run, which is created if there is none, and return its counters.

    Raises Malformed for an impossible id, Gone for a deleted one, Conflict for one that belongs to
    another kind of run or that another program holds, and TooLarge if the namespace has no room
    for a new one.
    """
    run_id = names.checked("run id", thread_id)
    if run_id != thread_id:
        raise errors.Malformed("The id of a thread can't begin or end with a space.")
    run, created = Run.objects.get_or_create(
        namespace=namespace,
        run_id=run_id,
        defaults={
            "workspace": namespace.name,
            "metadata": {"driver": "langgraph"},
            "max_steps": None,
            "origin": writer.origin,
        },
    )
    if created:
        quota.require_room(namespace)
        Tombstone.objects.refuse(namespace.pk, run_id)
        LogLine.objects.create(run=run, message="A LangGraph application stores this thread")
    sql.wait_for_locks(LOCK_SECONDS)
    run_counters = counters.lock([run.pk]).get(run.pk)
    if run_counters is None:
        raise errors.Gone(f"The run {run_id!r} was deleted at this moment.")
    if not created:
        _refuse_other_kinds(run)
        queue.admit_thread(run, writer.claim)
    run_counters.log_count += created
    return run_counters


def _refuse_other_kinds(run: Run) -> None:
    """Raises Conflict for a run that isn't a thread. Only under the run's lock is that certain."""
    if run.graph_id is not None:
        owner = "a run of a graph"
    elif Checkpoint.objects.filter(run=run, ns=documents.NS).exists():
        owner = "a run that another program reports"
    else:
        return
    raise errors.Conflict(
        f"The id {run.run_id!r} belongs to {owner}. Choose another id for the thread."
    )


def _refuse_cancelled(run_counters: RunCounters, thread_id: str) -> None:
    if run_counters.status == statuses.RUN_CANCELLED:
        raise errors.Conflict(
            f"The run {thread_id!r} was cancelled. New input would start it again.", allowed=[]
        )


def run_of(namespace: Namespace, thread_id: str) -> int | None:
    """Return the primary key of a thread's run, or None if there is none."""
    return (
        Run.objects.filter(namespace=namespace, run_id=thread_id, graph=None)
        .values_list("pk", flat=True)
        .first()
    )


def dropped_until(run: int) -> str:
    """Return the id of the newest deleted checkpoint of a run, or "".

    Ids sort by time, so a checkpoint with a greater id is a new one.
    """
    metadata = Run.objects.values_list("metadata", flat=True).get(pk=run)
    checkpoint_id = metadata.get(DROPPED, "")
    return checkpoint_id if isinstance(checkpoint_id, str) else ""
