"""`DjangoSaver`: a LangGraph checkpointer that stores threads in the database of State Manager.

It implements all of `langgraph.checkpoint.base.BaseCheckpointSaver`, synchronous and asynchronous,
and needs the packages of requirements-langgraph.txt.
"""

import random
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from itertools import islice

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from graphs.definition.types import JsonObject
from graphs.models import Namespace
from runs.langgraph import checkpoints, db_executor, prune, threads
from runs.langgraph.conversion import config_of, from_stored, to_new_checkpoint, to_task_writes
from runs.langgraph.serde import make_strict

FETCH_SIZE = 50


class DjangoSaver(BaseCheckpointSaver[str]):
    """Stores the LangGraph threads of one namespace; each thread is a run.

    `namespace` is the name of the namespace, which is created if it doesn't exist. The `thread_id`
    of a config becomes the id of a run: 1 to 200 printable characters without a slash.

    `serde` is any serializer. By default, and in place of a serializer of LangGraph's that would
    accept any type, values are stored as msgpack and read back as plain data and as types of
    LangGraph and LangChain. Of other classes you get the contents, unless `allowed` names the class
    as (module, name). Pickles are never read. With an `EncryptedSerializer`, a value that was not
    encrypted is refused with a ValueError.

    What you can rely on:

    - Each write is one transaction, together with the status of the thread's run.
    - Calls for the same thread are carried out in the order in which they were made.
    - A deleted thread stays deleted: late writes raise Gone for 30 days.
    - A thread whose run was cancelled accepts only new input: other writes raise Conflict.
    - A process opens at most four database connections, whatever the number of its threads.

    Call the application outside of your own transactions. LangGraph stores checkpoints from other
    threads, and these would wait for the run that your transaction has locked. On PostgreSQL they
    fail with an OperationalError after 20 seconds.

    A program that took a run from the queue names its claim in each config, as `claim` beside the
    `thread_id`. `origin` is for the node `langgraph.run`, which makes threads that are rerun by us.

    The errors Gone, Conflict and Malformed are those of `graphs.definition.errors`.
    """

    def __init__(
        self,
        namespace: str = "default",
        *,
        serde: SerializerProtocol | None = None,
        allowed: Collection[tuple[str, str]] = (),
        origin: JsonObject | None = None,
    ) -> None:
        super().__init__(serde=make_strict(serde, allowed))
        self.name = namespace
        self._origin = origin
        self._namespace: Namespace | None = None

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that the config names, or None if there is none.

        Without a `checkpoint_id` it is the newest checkpoint of the thread's `checkpoint_ns`.
        `pending_writes` are ordered by task path, task id and index.
        """
        return db_executor.call(self._key(config), self._get_tuple, config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: JsonObject | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, newest first: those of one thread or, without a config, of all.

        `filter` names members of the metadata and the values that they must equal. `before` names a
        checkpoint: only earlier ones are listed. Checkpoints are read while you iterate.
        """
        found = self._list(config, filter or {}, before, limit)
        while batch := db_executor.call(self._key(config), self._take, found):
            yield from batch

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint and return the config that names it.

        The config's `checkpoint_id` is the parent. The same checkpoint again replaces the first.
        Raises Gone if the thread was deleted, Conflict if its run was cancelled or its id belongs
        to another kind of run, and Malformed if a name is too long.
        """
        return db_executor.call(
            self._key(config), self._put, config, checkpoint, metadata, new_versions
        )

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, object]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote, as (channel, value), on top of the config's checkpoint.

        A write to a control channel of LangGraph's replaces an earlier one, other writes that exist
        are kept. Writes on top of a checkpoint that was deleted are dropped. Raises Gone, Conflict
        and Malformed as `put` does.
        """
        db_executor.call(self._key(config), self._put_writes, config, writes, task_id, task_path)

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread with everything that belongs to it; its id is refused for 30 days.

        Does nothing if there is no such thread.
        """
        db_executor.call(self._key(thread_id), self._delete_thread, thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints that these LangGraph runs (`run_id` in the metadata) made."""
        db_executor.call(None, self._delete_for_runs, run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with its whole history. What the target has already is kept.

        Does nothing if there is no such thread. Raises Gone and Conflict as `put` does, for the
        target.
        """
        db_executor.call(
            self._key(source_thread_id), self._copy_thread, source_thread_id, target_thread_id
        )

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete checkpoints of these threads; the threads themselves stay.

        `keep_latest` keeps the newest checkpoint of each checkpoint namespace, `delete` keeps none.
        Raises ValueError for another strategy, and Conflict for a thread that stores channels as
        differences, because its newest checkpoint needs older ones.
        """
        db_executor.call(None, self._prune, thread_ids, _keeps_latest(strategy))

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Return the version of a channel that follows `current`.

        Versions are texts that sort in their order. The random part distinguishes the versions of
        two branches.
        """
        number = 1 if current is None else int(str(current).partition(".")[0]) + 1
        return f"{number:032}.{random.random():016}"

    # --- the same for asyncio -------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Do what `get_tuple` does, without blocking the event loop."""
        return await db_executor.call_async(self._key(config), self._get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: JsonObject | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Do what `list` does, without blocking the event loop."""
        found = self._list(config, filter or {}, before, limit)
        while batch := await db_executor.call_async(self._key(config), self._take, found):
            for checkpoint in batch:
                yield checkpoint

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Do what `put` does, without blocking the event loop."""
        return await db_executor.call_async(
            self._key(config), self._put, config, checkpoint, metadata, new_versions
        )

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, object]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Do what `put_writes` does, without blocking the event loop."""
        await db_executor.call_async(
            self._key(config), self._put_writes, config, writes, task_id, task_path
        )

    async def adelete_thread(self, thread_id: str) -> None:
        """Do what `delete_thread` does, without blocking the event loop."""
        await db_executor.call_async(self._key(thread_id), self._delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Do what `delete_for_runs` does, without blocking the event loop."""
        await db_executor.call_async(None, self._delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Do what `copy_thread` does, without blocking the event loop."""
        await db_executor.call_async(
            self._key(source_thread_id), self._copy_thread, source_thread_id, target_thread_id
        )

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Do what `prune` does, without blocking the event loop."""
        await db_executor.call_async(None, self._prune, thread_ids, _keeps_latest(strategy))

    # --- what runs on the threads of db_executor ------------------------------------------------

    def _key(self, thread: RunnableConfig | str | None) -> str | None:
        """Return the key under which calls for one thread are carried out in their order."""
        if thread is None:
            return None
        if isinstance(thread, str):
            return f"{self.name}/{thread}"
        thread_id = thread.get("configurable", {}).get("thread_id")
        return f"{self.name}/{thread_id}" if thread_id else None

    def _get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        place = config["configurable"]
        stored = checkpoints.find(
            self._get_namespace(),
            place["thread_id"],
            place.get("checkpoint_ns") or "",
            place.get("checkpoint_id") or "",
        )
        return from_stored(self.serde, stored) if stored else None

    def _list(
        self,
        config: RunnableConfig | None,
        filter: JsonObject,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Iterator[CheckpointTuple]:
        place = config["configurable"] if config else {}
        earliest = before["configurable"].get("checkpoint_id") if before else None
        # How many checkpoints a filter needs is not known beforehand.
        batch_size = checkpoints.BATCH if filter or not limit else min(limit, checkpoints.BATCH)
        matching = (
            stored
            for stored in checkpoints.newest_first(
                self._get_namespace(),
                place.get("thread_id"),
                place.get("checkpoint_ns"),
                place.get("checkpoint_id") or "",
                earliest or "",
                batch_size,
            )
            if all(stored.row.metadata.get(key) == value for key, value in filter.items())
        )
        for stored in islice(matching, limit):
            yield from_stored(self.serde, stored)

    @staticmethod
    def _take(found: Iterator[CheckpointTuple]) -> tuple[CheckpointTuple, ...]:
        return tuple(islice(found, FETCH_SIZE))

    def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        # Serialized before the transaction begins: the run is locked only while rows are written.
        new = to_new_checkpoint(self.serde, config, checkpoint, metadata, new_versions)
        thread_id = config["configurable"]["thread_id"]
        threads.put(self._get_namespace(), thread_id, new, self._writer(config))
        return config_of(thread_id, new.ns, new.checkpoint_id)

    def _put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, object]],
        task_id: str,
        task_path: str,
    ) -> None:
        task = to_task_writes(self.serde, config, writes, task_id, task_path)
        thread_id = config["configurable"]["thread_id"]
        threads.put_writes(self._get_namespace(), thread_id, task, self._writer(config))

    def _writer(self, config: RunnableConfig) -> threads.Writer:
        return threads.Writer(config["configurable"].get("claim"), self._origin)

    def _delete_thread(self, thread_id: str) -> None:
        prune.delete_thread(self._get_namespace(), thread_id)

    def _delete_for_runs(self, run_ids: Sequence[str]) -> None:
        prune.delete_for_runs(self._get_namespace(), run_ids)

    def _copy_thread(self, source: str, target: str) -> None:
        threads.copy_thread(self._get_namespace(), source, target)

    def _prune(self, thread_ids: Sequence[str], keep_latest: bool) -> None:
        prune.prune(self._get_namespace(), thread_ids, keep_latest)

    def _get_namespace(self) -> Namespace:
        if self._namespace is None:
            self._namespace, _ = Namespace.objects.get_or_create(name=self.name)
        return self._namespace


def _keeps_latest(strategy: str) -> bool:
    if strategy not in ("keep_latest", "delete"):
        raise ValueError(f"The strategy is keep_latest or delete, not {strategy!r}.")
    return strategy == "keep_latest"
