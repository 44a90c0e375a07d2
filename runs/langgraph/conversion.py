"""Conversion between LangGraph's checkpoints and those that we store."""

from collections.abc import Sequence
from typing import cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from graphs.definition import payloads
from runs.langgraph import status
from runs.langgraph.checkpoints import NewCheckpoint, StoredCheckpoint, TaskWrites, Write
from runs.langgraph.serde import deserialize, storable

MAX_ERROR = 2000


def config_of(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    """Return the config that names a checkpoint."""
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": ns,
            "checkpoint_id": checkpoint_id,
        }
    }


def from_stored(serde: SerializerProtocol, stored: StoredCheckpoint) -> CheckpointTuple:
    """Return a stored checkpoint as LangGraph expects it. Raises ValueError as `deserialize`."""
    row = stored.row
    checkpoint = deserialize(serde, row.type, row.body)
    checkpoint["channel_values"] = {
        channel: deserialize(serde, kind, body)
        for channel, (kind, body) in stored.channel_values().items()
    }
    writes = [
        (write.task_id, write.channel, deserialize(serde, write.type, write.body))
        for write in stored.writes
    ]
    parent = None
    if row.parent_checkpoint_id:
        parent = config_of(stored.thread_id, row.ns, row.parent_checkpoint_id)
    return CheckpointTuple(
        config_of(stored.thread_id, row.ns, row.checkpoint_id),
        checkpoint,
        cast(CheckpointMetadata, row.metadata),
        parent,
        writes,
    )


def to_new_checkpoint(
    serde: SerializerProtocol,
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
) -> NewCheckpoint:
    """Return LangGraph's checkpoint, with the values of its new versions, as we store it."""
    values = checkpoint["channel_values"]
    serialized = {
        (channel, str(version)): (
            serde.dumps_typed(values[channel]) if channel in values else ("empty", b"")
        )
        for channel, version in new_versions.items()
    }
    body = {name: value for name, value in checkpoint.items() if name != "channel_values"}
    versions = checkpoint["channel_versions"]
    return NewCheckpoint(
        ns=config["configurable"].get("checkpoint_ns") or "",
        checkpoint_id=checkpoint["id"],
        parent=config["configurable"].get("checkpoint_id") or "",
        body=serde.dumps_typed(body),
        metadata=storable(get_checkpoint_metadata(config, metadata)),
        versions={channel: str(version) for channel, version in versions.items()},
        values=serialized,
        pending=status.pending_nodes(values),
    )


def to_task_writes(
    serde: SerializerProtocol,
    config: RunnableConfig,
    writes: Sequence[tuple[str, object]],
    task_id: str,
    task_path: str,
) -> TaskWrites:
    """Return what a task wrote as we store it."""
    errors = [str(value) for channel, value in writes if channel == status.ERROR]
    return TaskWrites(
        ns=config["configurable"].get("checkpoint_ns") or "",
        checkpoint_id=config["configurable"]["checkpoint_id"],
        task_id=task_id,
        task_path=task_path,
        writes=[
            Write(channel, WRITES_IDX_MAP.get(channel, index), serde.dumps_typed(value))
            for index, (channel, value) in enumerate(writes)
        ],
        error=payloads.clean(errors[0], MAX_ERROR) if errors else "",
    )
