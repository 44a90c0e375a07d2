"""`DjangoSaver`: LangGraph's checkpoint saver over our tables, so that any LangGraph application keeps its threads here.

Needs the extra of requirements-langgraph.txt. The contract is `langgraph.checkpoint.base.BaseCheckpointSaver`, all of it, sync and async. Values are
serialised outside any transaction, by msgpack, and come back only as types that are known to be harmless or that you allow; never by pickle.
"""

import random
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from graphs.definition import payloads
from graphs.models import Namespace
from runs.langgraph import db_executor, status, threads
from runs.langgraph import prune as prune_module
from runs.langgraph.serde import opened, storable, strict
from runs.langgraph.threads import Kept, Write

BRANCH, JOIN, START, TASKS = "branch:to:", "join:", "__start__", "__pregel_tasks"
AT_ONCE = 50


class DjangoSaver(BaseCheckpointSaver[str]):
    """Keeps the threads of one namespace, which is made if there is none. `thread_id` becomes the run's id: 1 to 200 printable characters, no slash.

    `serde` is any serialiser; without one, and with one of LangGraph's own that would allow all, msgpack gives back plain data and LangGraph's and
    LangChain's own types, and of others the bare contents, unless `allowed` names them as (module, name). With encryption, a plain value is refused.
    """

    def __init__(
        self,
        namespace: str = "default",
        *,
        serde: SerializerProtocol | None = None,
        allowed: Collection[tuple[str, str]] = (),
    ) -> None:
        super().__init__(serde=strict(serde, allowed))
        self.name = namespace
        self._namespace: Namespace | None = None

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that the config names, or the newest of its thread."""
        return db_executor.called(self._key(config), self._get_tuple, config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest first, read in batches; `filter` compares members of their metadata."""
        found = self._found(config, filter or {}, before, limit)
        while batch := db_executor.called(self._key(config), self._next, found):
            yield from batch

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint. Raises Gone for a thread that was deleted, and Conflict for one that a person cancelled."""
        return db_executor.called(
            self._key(config), self._put, config, checkpoint, metadata, new_versions
        )

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote on top of a checkpoint. Raises as `put` does."""
        db_executor.called(self._key(config), self._put_writes, config, writes, task_id, task_path)

    def delete_thread(self, thread_id: str) -> None:
        """Delete the thread with all its traces. Nothing brings it back while its tombstone stands (30 days)."""
        db_executor.called(self._key(thread_id), self._do, prune_module.delete_thread, thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints that these LangGraph runs made."""
        db_executor.called(None, self._do, prune_module.delete_for_runs, run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with its whole history."""
        db_executor.called(
            self._key(source_thread_id),
            self._do,
            threads.copy_thread,
            source_thread_id,
            target_thread_id,
        )

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the newest checkpoint of each checkpoint namespace (`keep_latest`), or none of them (`delete`); the thread itself stays."""
        db_executor.called(None, self._do, prune_module.prune, thread_ids, _keeps_latest(strategy))

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Versions are texts that sort as they grow; the random end tells those of two branches apart."""
        number = int(str(current).partition(".")[0]) + 1 if current is not None else 1
        return f"{number:032}.{random.random():016}"

    # --- the same, asynchronously -----------------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `get_tuple`."""
        return await db_executor.awaited(self._key(config), self._get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`, read in batches."""
        found = self._found(config, filter or {}, before, limit)
        while batch := await db_executor.awaited(self._key(config), self._next, found):
            for each in batch:
                yield each

    async def aput(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> RunnableConfig:  # fmt: skip
        """As `put`."""
        return await db_executor.awaited(
            self._key(config), self._put, config, checkpoint, metadata, new_versions
        )

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """As `put_writes`."""
        await db_executor.awaited(
            self._key(config), self._put_writes, config, writes, task_id, task_path
        )

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        await db_executor.awaited(
            self._key(thread_id), self._do, prune_module.delete_thread, thread_id
        )

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `delete_for_runs`."""
        await db_executor.awaited(None, self._do, prune_module.delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `copy_thread`."""
        await db_executor.awaited(
            self._key(source_thread_id),
            self._do,
            threads.copy_thread,
            source_thread_id,
            target_thread_id,
        )

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `prune`."""
        await db_executor.awaited(
            None, self._do, prune_module.prune, thread_ids, _keeps_latest(strategy)
        )

    # --- what runs where the connections are ------------------------------------------------------------------------

    def _key(self, of: RunnableConfig | str | None) -> str | None:
        """What is done with one thread is done in the order in which it is asked for."""
        thread_id = (
            of if isinstance(of, str) else (of or {}).get("configurable", {}).get("thread_id")
        )
        return f"{self.name}/{thread_id}" if thread_id else None

    def _get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        place = config["configurable"]
        kept = threads.find(
            self._ready(),
            place["thread_id"],
            place.get("checkpoint_ns") or "",
            place.get("checkpoint_id") or "",
        )
        return self._tuple(kept) if kept else None

    def _tuple(self, kept: Kept) -> CheckpointTuple:
        row, body = kept.row, opened(self.serde, kept.row.type, kept.row.body)
        values = {
            channel: kept.values.get((channel, version))
            for channel, version in row.versions.items()
        }
        body["channel_values"] = {
            channel: opened(self.serde, *value)
            for channel, value in values.items()
            if value and value[0] != "empty"
        }
        writes = [
            (write.task_id, write.channel, opened(self.serde, write.type, write.body))
            for write in kept.writes
        ]
        parent = (
            _config(kept.thread_id, row.ns, row.parent_checkpoint_id)
            if row.parent_checkpoint_id
            else None
        )
        return CheckpointTuple(
            _config(kept.thread_id, row.ns, row.checkpoint_id),
            body,
            cast(CheckpointMetadata, row.metadata),
            parent,
            writes,
        )

    def _found(
        self,
        config: RunnableConfig | None,
        filter: dict[str, Any],
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Iterator[CheckpointTuple]:
        place = config["configurable"] if config else {}
        earlier = before["configurable"].get("checkpoint_id") if before else None
        found = threads.newest_first(
            self._ready(), place.get("thread_id"), place.get("checkpoint_ns"), place.get("checkpoint_id") or "", earlier or "",
            min(limit, threads.BATCH) if limit and not filter else threads.BATCH,
        )  # fmt: skip
        wanted = (
            kept
            for kept in found
            if all(kept.row.metadata.get(key) == value for key, value in filter.items())
        )
        yield from map(self._tuple, islice(wanted, limit))

    @staticmethod
    def _next(found: Iterator[CheckpointTuple]) -> tuple[CheckpointTuple, ...]:
        return tuple(islice(found, AT_ONCE))

    def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        place, values = config["configurable"], checkpoint["channel_values"]
        thread_id, ns = place["thread_id"], place.get("checkpoint_ns") or ""
        blobs = {
            (channel, str(version)): self.serde.dumps_typed(values[channel])
            if channel in values
            else ("empty", b"")
            for channel, version in new_versions.items()
        }
        body = self.serde.dumps_typed(
            {key: value for key, value in checkpoint.items() if key != "channel_values"}
        )
        versions = {
            channel: str(version) for channel, version in checkpoint["channel_versions"].items()
        }
        said = storable(get_checkpoint_metadata(config, metadata))
        parent = place.get("checkpoint_id") or ""
        threads.put(
            (self._ready(), thread_id),
            ns,
            checkpoint["id"],
            parent,
            body,
            said,
            versions,
            blobs,
            _pending(checkpoint),
        )
        return _config(thread_id, ns, checkpoint["id"])

    def _put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> None:
        place = config["configurable"]
        rows = [
            Write(channel, WRITES_IDX_MAP.get(channel, idx), self.serde.dumps_typed(value))
            for idx, (channel, value) in enumerate(writes)
        ]
        error = next(
            (
                payloads.clean(str(value), 2000)
                for channel, value in writes
                if channel == status.ERROR
            ),
            "",
        )
        thread = (self._ready(), place["thread_id"])
        threads.put_writes(
            thread,
            place.get("checkpoint_ns") or "",
            place["checkpoint_id"],
            task_id,
            task_path,
            rows,
            error,
        )

    def _do(self, verb: Callable[..., None], *args: Any) -> None:
        verb(self._ready(), *args)

    def _ready(self) -> Namespace:
        """The namespace, which is made if there is none."""
        if self._namespace is None:
            self._namespace, _ = Namespace.objects.get_or_create(name=self.name)
        return self._namespace


def _keeps_latest(strategy: str) -> bool:
    if strategy not in ("keep_latest", "delete"):
        raise ValueError(f"the strategy is keep_latest or delete; not {strategy!r}")
    return strategy == "keep_latest"


def _config(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": ns,
            "checkpoint_id": checkpoint_id,
        }
    }


def _pending(checkpoint: Checkpoint) -> Sequence[str]:
    """The nodes that run next, by the channels that have a value for them."""
    values: Mapping[str, Any] = checkpoint["channel_values"]
    nodes = [channel.removeprefix(BRANCH) for channel in values if channel.startswith(BRANCH)]
    joins = [
        channel.rpartition(":")[2]
        for channel, value in values.items()
        if channel.startswith(JOIN) and _all_there(channel, value)
    ]
    return [
        *nodes,
        *joins,
        *([START] if START in values else []),
        *([TASKS] if values.get(TASKS) else []),
    ]


def _all_there(channel: str, value: Any) -> bool:
    """Whether all the nodes that `join:a+b:c` names are in its value, the set of those that are done; of a deferred node it is (set, whether it may run)."""
    done = value[0] if isinstance(value, tuple | list) and value else value
    return isinstance(done, Collection) and len("+".join(done)) == len(
        channel.removeprefix(JOIN).rpartition(":")[0]
    )
