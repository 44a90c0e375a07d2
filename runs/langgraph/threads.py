"""LangGraph threads in our tables: storing, reading, copying, pruning their checkpoints, as bytes. A thread is a run without a graph.

Values come and go as (type, bytes): what serialises them is not known here (`runs.langgraph.saver`). Every write takes the run's lock first, so that it
never races the deletion of the thread; a deleted thread's id is refused for as long as its tombstone stands.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import models, transaction
from django.db.models import Q

from graphs.definition import errors, names
from graphs.models import Namespace
from runs.core import sql, statuses
from runs.core.failpoints import failpoint
from runs.engine import counters
from runs.engine.counters import RunCounters
from runs.external import documents
from runs.langgraph import status
from runs.models import Checkpoint, CheckpointBlob, CheckpointWrite, LogLine, Run, Tombstone

DROPPED = "checkpoints_deleted_until"  # in a run's metadata
BATCH = 100
LOCK_SECONDS = 20
Typed = tuple[str, bytes]


@dataclass(frozen=True)
class Write:
    """What a task wrote; `idx` is below 0 for LangGraph's own channels, whose last value counts, not the first."""

    channel: str
    idx: int
    value: Typed


@dataclass
class Kept:
    """A checkpoint as it is stored, with the values of its channels and what its tasks wrote, in LangGraph's order."""

    row: Checkpoint
    thread_id: str
    values: dict[tuple[str, str], Typed] = field(default_factory=dict)  # (channel, version)
    writes: list[CheckpointWrite] = field(default_factory=list)


def put(
    thread: tuple[Namespace, str], ns: str, checkpoint_id: str, parent: str, body: Typed, metadata: dict[str, Any],
    versions: Mapping[str, str], blobs: Mapping[tuple[str, str], Typed], pending: Sequence[str],
) -> None:  # fmt: skip
    """Store a checkpoint, the versions of its channels, the new values by (channel, version), and which nodes run next. Raises Gone and Conflict."""
    _check(ns, checkpoint_id, channels=versions, versions=versions.values())
    with transaction.atomic():
        run_counters = _open(thread)
        if run_counters.status == statuses.RUN_CANCELLED and metadata.get("source") != "input":
            raise errors.Conflict(
                f"The run {thread[1]!r} was cancelled; new input would start it again.", allowed=[]
            )
        type_, data = body
        values = {"parent_checkpoint_id": parent, "type": type_, "body": data, "metadata": metadata}
        values |= {"versions": dict(versions), "pending": ",".join(pending)[:500]}
        Checkpoint.objects.update_or_create(
            run_id=run_counters.pk, ns=ns, checkpoint_id=checkpoint_id, defaults=values
        )
        stored = [
            CheckpointBlob(
                run_id=run_counters.pk,
                ns=ns,
                channel=at[0],
                version=at[1],
                type=value[0],
                body=value[1],
            )
            for at, value in blobs.items()
        ]
        CheckpointBlob.objects.bulk_create(stored, ignore_conflicts=True)
        if (
            not ns
            and not Checkpoint.objects.filter(
                run=run_counters.pk, ns="", checkpoint_id__gt=checkpoint_id
            ).exists()
        ):
            run_counters.current_node = (pending[0] if pending else run_counters.current_node)[:200]
            run_counters.current_step = (
                max(0, step)
                if isinstance(step := metadata.get("step"), int)
                else run_counters.current_step
            )
            status.judge(run_counters, even_cancelled=True)
        counters.store([run_counters])
        failpoint("checkpoint-put-before-commit")
    failpoint("after-checkpoint-put-commit")


def put_writes(
    thread: tuple[Namespace, str],
    ns: str,
    checkpoint_id: str,
    task_id: str,
    task_path: str,
    writes: Sequence[Write],
    error: str = "",
) -> None:
    """Store what a task wrote. A plain write that is there already stays; one to a channel of LangGraph's own is written over.

    `error` says in words why the task failed, if it did. What belongs to a checkpoint that was deleted meanwhile is of no use, and not kept.
    """
    _check(ns, checkpoint_id, task_id, [write.channel for write in writes])
    with transaction.atomic():
        run_counters = _open(thread)
        if not Checkpoint.objects.filter(
            run=run_counters.pk, ns=ns, checkpoint_id=checkpoint_id
        ).exists():
            if not ns and checkpoint_id <= dropped_until(run_counters.pk):
                return
        elif run_counters.status == statuses.RUN_CANCELLED:
            raise errors.Conflict(
                f"The run {thread[1]!r} was cancelled; new input would start it again.", allowed=[]
            )
        place = {
            "run_id": run_counters.pk,
            "ns": ns,
            "checkpoint_id": checkpoint_id,
            "task_id": task_id,
        }
        rows = [
            CheckpointWrite(
                **place,
                task_path=task_path,
                idx=w.idx,
                channel=w.channel,
                type=w.value[0],
                body=w.value[1],
            )
            for w in writes
        ]
        CheckpointWrite.objects.bulk_create(
            [row for row in rows if row.idx >= 0], ignore_conflicts=True
        )
        CheckpointWrite.objects.bulk_create(
            {row.idx: row for row in rows if row.idx < 0}.values(), update_conflicts=True, unique_fields=["run", "ns", "checkpoint_id", "task_id", "idx"],
            update_fields=["task_path", "channel", "type", "body"],
        )  # fmt: skip
        if not ns:
            status.heard(run_counters, checkpoint_id, [row.channel for row in rows], error)
        counters.store([run_counters])


def find(namespace: Namespace, thread_id: str, ns: str, checkpoint_id: str = "") -> Kept | None:
    """One checkpoint of a thread, or its newest."""
    found = checkpoints_of(namespace).filter(run__run_id=thread_id, ns=ns)
    row = (
        found.filter(checkpoint_id=checkpoint_id)
        if checkpoint_id
        else found.order_by("-checkpoint_id")
    ).first()
    return whole([row])[0] if row else None


def newest_first(
    namespace: Namespace,
    thread_id: str | None,
    ns: str | None,
    checkpoint_id: str = "",
    before: str = "",
    batch_size: int = BATCH,
) -> Iterator[Kept]:
    """Checkpoints with all that belongs to them, newest first; read in batches, each by statements of its own."""
    found = checkpoints_of(namespace)
    if thread_id is not None:
        found = found.filter(run__run_id=thread_id)
    if ns is not None:
        found = found.filter(ns=ns)
    if checkpoint_id:
        found = found.filter(checkpoint_id=checkpoint_id)
    if before:
        found = found.filter(checkpoint_id__lt=before)
    place = Q()
    while batch := list(found.filter(place).order_by("-checkpoint_id", "-pk")[:batch_size]):
        yield from whole(batch)
        last = batch[-1]
        place = Q(checkpoint_id__lt=last.checkpoint_id) | Q(
            checkpoint_id=last.checkpoint_id, pk__lt=last.pk
        )


def copy_thread(namespace: Namespace, source: str, target: str) -> None:
    """Copy all of a thread under another id; what the target has already stays."""
    if not (pk := run_of(namespace, source)):
        return
    with transaction.atomic():
        counters.lock([pk])
        run_counters = _open((namespace, target))
        theirs: tuple[type[models.Model], ...] = (Checkpoint, CheckpointBlob, CheckpointWrite)
        for model in theirs:
            rows = model._default_manager.filter(run=pk).exclude(ns=documents.NS).order_by("pk")
            for at in range(0, rows.count(), BATCH):
                copies = [_copied(row, run_counters.pk) for row in rows[at : at + BATCH]]
                model._default_manager.bulk_create(copies, ignore_conflicts=True)
        status.judge(run_counters)
        counters.store([run_counters])


def _copied(row: Any, run: int) -> Any:
    row.pk, row.run_id, row._state.adding = None, run, True
    return row


def _check(
    ns: str,
    checkpoint_id: str,
    task_id: str = "",
    channels: Iterable[str] = (),
    versions: Iterable[str] = (),
) -> None:
    """Raises Malformed for names that are too long for an index, and for the namespace that isn't LangGraph's."""
    if ns == documents.NS:
        raise errors.Malformed(f"The checkpoint namespace {ns!r} is taken.")
    limits = {
        "checkpoint namespace": (1500, [ns]),
        "checkpoint id": (100, [checkpoint_id]),
        "task id": (200, [task_id]),
    }
    limits |= {"channel": (500, [*channels]), "version": (200, [*versions])}
    for what, (most, names_) in limits.items():
        if any(len(name) > most for name in names_):
            raise errors.Malformed(f"A {what} has at most {most:,} characters.")


# --- the run of a thread --------------------------------------------------------------------------------------------


def _open(thread: tuple[Namespace, str]) -> RunCounters:
    """The locked counters of the thread's run, which is made if there is none. Raises Gone, Conflict, and Malformed for an impossible id."""
    namespace, thread_id = thread
    run_id = names.checked("run id", thread_id)
    if run_id != thread_id:
        raise errors.Malformed("The id of a thread neither begins nor ends with a blank.")
    values = {"workspace": namespace.name, "metadata": {"driver": "langgraph"}, "max_steps": None}
    run, made = Run.objects.get_or_create(namespace=namespace, run_id=run_id, defaults=values)
    if made:
        Tombstone.objects.refuse(namespace.pk, run_id)
        LogLine.objects.create(run=run, message="A LangGraph application keeps this thread")
    sql.wait_for_locks(LOCK_SECONDS)
    run_counters = counters.lock([run.pk]).get(run.pk)
    if run_counters is None:
        raise errors.Gone(f"The run {run_id!r} was deleted at this moment.")
    if run.graph_id is not None:
        raise errors.Conflict(
            f"The id {run_id!r} belongs to a run of a graph; a thread needs one of its own."
        )
    if not made and Checkpoint.objects.filter(run=run, ns=documents.NS).exists():
        raise errors.Conflict(
            f"The id {run_id!r} belongs to a run that another program reports; a thread needs one of its own."
        )
    run_counters.log_count += made
    return run_counters


def checkpoints_of(namespace: Namespace) -> models.QuerySet[Checkpoint]:
    return Checkpoint.objects.filter(run__namespace=namespace, run__graph=None).exclude(
        ns=documents.NS
    )


def run_of(namespace: Namespace, thread_id: str) -> int | None:
    return (
        Run.objects.filter(namespace=namespace, run_id=thread_id, graph=None)
        .values_list("pk", flat=True)
        .first()
    )


def whole(rows: Sequence[Checkpoint]) -> list[Kept]:
    """These checkpoints with their values and writes, in a constant number of statements."""
    runs = dict(Run.objects.filter(pk__in={row.run_id for row in rows}).values_list("pk", "run_id"))
    here = {"run__in": runs, "ns__in": {row.ns for row in rows}}
    by_place: dict[tuple[int, str, str], list[CheckpointWrite]] = {}
    writes = CheckpointWrite.objects.filter(
        **here, checkpoint_id__in=[row.checkpoint_id for row in rows]
    )
    for write in writes.order_by("task_path", "task_id", "idx"):
        by_place.setdefault((write.run_id, write.ns, write.checkpoint_id), []).append(write)
    channels, versions = (
        {text for row in rows for text in part(row.versions)} for part in (dict.keys, dict.values)
    )
    values: dict[tuple[int, str], dict[tuple[str, str], Typed]] = {}
    for blob in CheckpointBlob.objects.filter(**here, channel__in=channels, version__in=versions):
        values.setdefault((blob.run_id, blob.ns), {})[blob.channel, blob.version] = (
            blob.type,
            bytes(blob.body or b""),
        )
    return [
        Kept(row, runs[row.run_id], values.get((row.run_id, row.ns), {}), by_place.get((row.run_id, row.ns, row.checkpoint_id), []))
        for row in rows if row.run_id in runs
    ]  # fmt: skip


def dropped_until(run: int) -> str:
    """The id of the newest checkpoint of this run that was deleted; ids sort by time, so later ones are new."""
    found = Run.objects.values_list("metadata", flat=True).get(pk=run).get(DROPPED, "")
    return found if isinstance(found, str) else ""
