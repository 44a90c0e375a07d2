"""The bytes that the thread of a LangGraph application stores, and those that a write adds."""

import sys
from typing import Any

from django.db.models import Model, QuerySet, Sum
from django.db.models.functions import Length

from graphs.definition import payloads
from graphs.definition.types import JsonObject
from runs.langgraph.checkpoints import NewCheckpoint, TaskWrites
from runs.models import Checkpoint, CheckpointBlob, CheckpointWrite

MODELS: tuple[type[Model], ...] = (Checkpoint, CheckpointBlob, CheckpointWrite)


def of_thread(run: int) -> int:
    """All bytes of a thread. It takes longer the more checkpoints there are."""
    return sum(of(model._default_manager.filter(run=run)) for model in MODELS)


def of(rows: QuerySet[Any]) -> int:
    """The bytes of rows of checkpoints, values or writes: of what was serialized and of metadata.

    The database knows the length of a body without reading it.
    """
    size = int(rows.order_by().aggregate(size=Sum(Length("body"), default=0))["size"])
    if rows.model is Checkpoint:
        size += sum(map(_size, rows.values_list("metadata", flat=True).iterator()))
    return size


def added_by_checkpoint(run: int, new: NewCheckpoint) -> int:
    """The bytes of a checkpoint and of its new values, less those of the one that it replaces."""
    replaced = Checkpoint.objects.filter(run=run, ns=new.ns, checkpoint_id=new.checkpoint_id)
    size = len(new.body[1]) + _size(new.metadata) - of(replaced)
    known = CheckpointBlob.objects.filter(
        run=run,
        ns=new.ns,
        channel__in={channel for channel, _ in new.values},
        version__in={version for _, version in new.values},
    )
    kept = set(known.values_list("channel", "version")) if new.values else set()
    return size + sum(len(body) for key, (_, body) in new.values.items() if key not in kept)


def _size(metadata: JsonObject) -> int:
    return payloads.size(payloads.dump(metadata, limit=sys.maxsize))


def added_by_writes(run: int, task: TaskWrites) -> int:
    """The bytes of a task's writes. Those to control channels replace earlier ones."""
    earlier = CheckpointWrite.objects.filter(
        run=run, ns=task.ns, checkpoint_id=task.checkpoint_id, task_id=task.task_id
    )
    stored = dict(earlier.annotate(size=Length("body")).values_list("idx", "size"))
    added = {
        write.idx: len(write.value[1]) - (stored.get(write.idx) or 0)
        for write in task.writes
        if write.idx < 0 or write.idx not in stored
    }
    return sum(added.values())
