"""The checkpoints of LangGraph threads: what belongs to one, and how stored ones are read.

Values are (type, bytes) pairs. How they are serialized is not known here (`runs.langgraph.saver`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from django.db.models import Q, QuerySet

from graphs.definition import errors
from graphs.definition.types import JsonObject
from graphs.models import Namespace
from runs.external import documents
from runs.models import Checkpoint, CheckpointBlob, CheckpointWrite, Run

BATCH = 100
Serialized = tuple[str, bytes]


@dataclass(frozen=True)
class NewCheckpoint:
    """A checkpoint to be stored.

    `versions` maps every channel to its version. `values` holds the new values by channel and
    version. `pending` names the nodes that run next.
    """

    ns: str
    checkpoint_id: str
    parent: str
    body: Serialized
    metadata: JsonObject
    versions: Mapping[str, str]
    values: Mapping[tuple[str, str], Serialized]
    pending: Sequence[str]


@dataclass(frozen=True)
class Write:
    """One write of a task. `idx` is negative for LangGraph's control channels."""

    channel: str
    idx: int
    value: Serialized


@dataclass(frozen=True)
class TaskWrites:
    """What a task wrote on top of a checkpoint; `error` is its message if it failed."""

    ns: str
    checkpoint_id: str
    task_id: str
    task_path: str
    writes: Sequence[Write]
    error: str = ""


@dataclass
class StoredCheckpoint:
    """A checkpoint with the values of its channels and the writes of its tasks.

    `values` are keyed by channel and version. `writes` are in LangGraph's order.
    """

    row: Checkpoint
    thread_id: str
    values: dict[tuple[str, str], Serialized] = field(default_factory=dict)
    writes: list[CheckpointWrite] = field(default_factory=list)

    def channel_values(self) -> dict[str, Serialized]:
        """Return the value of each channel that has one at this checkpoint."""
        values = {
            channel: self.values.get((channel, version))
            for channel, version in self.row.versions.items()
        }
        return {
            channel: value for channel, value in values.items() if value and value[0] != "empty"
        }


def check_lengths(
    ns: str,
    checkpoint_id: str,
    task_id: str = "",
    channels: Iterable[str] = (),
    versions: Iterable[str] = (),
) -> None:
    """Raises Malformed for a name that is too long for an index, and for a reserved namespace.

    An entry of an index has a limit in bytes, so these are bytes, too.
    """
    if ns == documents.NS:
        raise errors.Malformed(f"The checkpoint namespace {ns!r} is reserved for run documents.")
    limits: dict[str, tuple[int, list[str]]] = {
        "checkpoint namespace": (1500, [ns]),
        "checkpoint id": (100, [checkpoint_id]),
        "task id": (200, [task_id]),
        "channel": (500, [*channels]),
        "version": (200, [*versions]),
    }
    for kind, (limit, values) in limits.items():
        if any(len(value.encode("utf-8", "surrogatepass")) > limit for value in values):
            raise errors.Malformed(f"A {kind} has at most {limit:,} bytes.")


def of_namespace(namespace: Namespace) -> QuerySet[Checkpoint]:
    """Return the checkpoints of all threads of a namespace."""
    return Checkpoint.objects.filter(run__namespace=namespace, run__graph=None).exclude(
        ns=documents.NS
    )


def find(
    namespace: Namespace, thread_id: str, ns: str, checkpoint_id: str = ""
) -> StoredCheckpoint | None:
    """Return one checkpoint of a thread, by default its newest, or None if there is none."""
    checkpoints = of_namespace(namespace).filter(run__run_id=thread_id, ns=ns)
    if checkpoint_id:
        checkpoints = checkpoints.filter(checkpoint_id=checkpoint_id)
    newest = checkpoints.order_by("-checkpoint_id").first()
    if newest is None:
        return None
    loaded = load([newest])
    return loaded[0] if loaded else None


def newest_first(
    namespace: Namespace,
    thread_id: str | None,
    ns: str | None,
    checkpoint_id: str = "",
    before: str = "",
    batch_size: int = BATCH,
) -> Iterator[StoredCheckpoint]:
    """Yield checkpoints, newest first, of all threads or of one.

    They are read in batches, each by statements of its own. `before` is the id of a checkpoint.
    """
    checkpoints = of_namespace(namespace)
    if thread_id is not None:
        checkpoints = checkpoints.filter(run__run_id=thread_id)
    if ns is not None:
        checkpoints = checkpoints.filter(ns=ns)
    if checkpoint_id:
        checkpoints = checkpoints.filter(checkpoint_id=checkpoint_id)
    if before:
        checkpoints = checkpoints.filter(checkpoint_id__lt=before)

    checkpoints = checkpoints.order_by("-checkpoint_id", "-pk")
    batch = list(checkpoints[:batch_size])
    while batch:
        yield from load(batch)
        last = batch[-1]
        after_last = Q(checkpoint_id__lt=last.checkpoint_id)
        after_last |= Q(checkpoint_id=last.checkpoint_id, pk__lt=last.pk)
        batch = list(checkpoints.filter(after_last)[:batch_size])


def load(checkpoints: Sequence[Checkpoint]) -> list[StoredCheckpoint]:
    """Return these checkpoints with their values and writes, in three statements for all of them.

    Checkpoints whose run was deleted meanwhile are left out.
    """
    run_pks = {checkpoint.run_id for checkpoint in checkpoints}
    thread_ids = dict(Run.objects.filter(pk__in=run_pks).values_list("pk", "run_id"))
    values = _values(checkpoints)
    writes = _writes(checkpoints)
    return [
        StoredCheckpoint(
            row=row,
            thread_id=thread_ids[row.run_id],
            values=values.get((row.run_id, row.ns), {}),
            writes=writes.get((row.run_id, row.ns, row.checkpoint_id), []),
        )
        for row in checkpoints
        if row.run_id in thread_ids
    ]


def _values(
    checkpoints: Sequence[Checkpoint],
) -> dict[tuple[int, str], dict[tuple[str, str], Serialized]]:
    """Return the values by channel and version, for each run and namespace."""
    channels: set[str] = set()
    versions: set[str] = set()
    for checkpoint in checkpoints:
        channels.update(checkpoint.versions.keys())
        versions.update(checkpoint.versions.values())
    blobs = CheckpointBlob.objects.filter(
        run__in={checkpoint.run_id for checkpoint in checkpoints},
        ns__in={checkpoint.ns for checkpoint in checkpoints},
        channel__in=channels,
        version__in=versions,
    )
    values: dict[tuple[int, str], dict[tuple[str, str], Serialized]] = {}
    for blob in blobs:
        of_place = values.setdefault((blob.run_id, blob.ns), {})
        of_place[blob.channel, blob.version] = (blob.type, bytes(blob.body or b""))
    return values


def _writes(
    checkpoints: Sequence[Checkpoint],
) -> dict[tuple[int, str, str], list[CheckpointWrite]]:
    """Return the writes of each checkpoint (by run, namespace and id) in LangGraph's order."""
    rows = CheckpointWrite.objects.filter(
        run__in={checkpoint.run_id for checkpoint in checkpoints},
        ns__in={checkpoint.ns for checkpoint in checkpoints},
        checkpoint_id__in={checkpoint.checkpoint_id for checkpoint in checkpoints},
    )
    writes: dict[tuple[int, str, str], list[CheckpointWrite]] = {}
    for write in rows.order_by("task_path", "task_id", "idx"):
        writes.setdefault((write.run_id, write.ns, write.checkpoint_id), []).append(write)
    return writes
