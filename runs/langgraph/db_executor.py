"""Runs database work of programs with many threads, or with an event loop, on a few threads.

LangGraph calls its saver from threads that live only as long as a task. In Django a connection
belongs to its thread, so each of those threads would open a connection and never close it. The
threads here keep their connections: a process has at most four of them.

Work under the same key runs in the order of the calls. What a task answered is therefore stored
before what it asks next.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import close_old_connections, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

P = ParamSpec("P")
T = TypeVar("T")
Job = Callable[[], None]

THREADS = 4


@dataclass
class _Pool:
    """The threads of this process and the connections that they have opened."""

    threads: ThreadPoolExecutor
    opened: list[BaseDatabaseWrapper] = field(default_factory=list)


_lock = threading.Lock()
_pool: _Pool | None = None
# The jobs that wait, by key. A key is present exactly while one of its jobs runs.
_queues: dict[str | None, deque[Job]] = {}


def call(key: str | None, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` after all earlier work under the same key and return its result.

    Without a key the work waits for nothing. In a transaction of the caller it runs at once, in the
    caller's thread, as part of that transaction. Raises what `work` raises.
    """
    if connection.in_atomic_block:
        return work(*args, **kwargs)
    return _submit(key, lambda: work(*args, **kwargs)).result()


async def call_async(key: str | None, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do the same as `call` without blocking the event loop; never in the caller's transaction."""
    return await asyncio.wrap_future(_submit(key, lambda: work(*args, **kwargs)))


def close() -> None:
    """End the threads and close their connections. The next call starts new ones."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool:
        pool.threads.shutdown(wait=True)
        for opened in pool.opened:
            opened.close()


def _submit(key: str | None, work: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()
    job = partial(_complete, future, work)
    with _lock:
        if key in _queues:
            _queues[key].append(job)
        else:
            if key is not None:
                _queues[key] = deque()
            _started_pool().threads.submit(_drain, key, job)
    return future


def _started_pool() -> _Pool:
    global _pool
    if _pool is None:
        opened: list[BaseDatabaseWrapper] = []
        _pool = _Pool(ThreadPoolExecutor(THREADS, "saver", _open_connection, (opened,)), opened)
    return _pool


def _open_connection(opened: list[BaseDatabaseWrapper]) -> None:
    own = connections["default"]
    own.inc_thread_sharing()  # `close` runs in another thread
    opened.append(own)


def _drain(key: str | None, job: Job | None) -> None:
    """Run this job, and then those that were added under its key meanwhile."""
    while job:
        job()
        job = _next_job(key)


def _next_job(key: str | None) -> Job | None:
    if key is None:
        return None
    with _lock:
        if _queues[key]:
            return _queues[key].popleft()
        del _queues[key]
        return None


def _complete(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        close_old_connections()  # the program may have been idle for hours
        future.set_result(work())
    except BaseException as error:  # the caller gets it from the future
        future.set_exception(error)


def _reset_after_fork() -> None:
    """Forget the parent's threads, which don't exist in the child, and whatever they locked."""
    global _lock, _pool
    _lock = threading.Lock()
    _pool = None
    _queues.clear()


os.register_at_fork(after_in_child=_reset_after_fork)
