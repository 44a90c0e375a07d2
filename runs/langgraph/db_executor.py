"""Database work of programs with many threads or with an event loop, done by a few threads that keep their connections.

LangGraph calls its saver from threads that live as short as a task. A connection belongs to its thread in Django, so each of them would open one of its
own, and leave it open. Work under one key is done in the order in which it came: what a task answered is stored before what it asked next.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.db import close_old_connections, connection, connections

P = ParamSpec("P")
T = TypeVar("T")
THREADS = 4  # and so many connections a process has at most for this

_lock = threading.Lock()
_pools: dict[
    int, tuple[ThreadPoolExecutor, list[Any]]
] = {}  # by process: threads don't survive a fork; with the connections that they opened
_queues: dict[
    str | None, deque[Callable[[], None]]
] = {}  # what waits, by key; there is one for each key that is at work


def called(key: str | None, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What this does, done there, after what came before it under the same key; within the caller's own transaction, if it has one."""
    if connection.in_atomic_block:
        return work(*args, **kwargs)
    return _submitted(key, lambda: work(*args, **kwargs)).result()


async def awaited(key: str | None, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same without holding up the event loop."""
    return await asyncio.wrap_future(_submitted(key, lambda: work(*args, **kwargs)))


def close() -> None:
    """End this process's threads and close their connections; the next call opens others."""
    with _lock:
        pool, opened = _pools.pop(os.getpid(), (None, []))
    if pool:
        pool.shutdown(wait=True)
        for each in opened:
            each.close()


def _submitted(key: str | None, work: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()
    job = partial(_done, future, work)
    with _lock:
        if os.getpid() not in _pools:
            opened: list[Any] = []
            _pools[os.getpid()] = ThreadPoolExecutor(THREADS, "saver", _begin, (opened,)), opened
        if key in _queues:
            _queues[key].append(job)
        else:
            if key is not None:
                _queues[key] = deque()
            _pools[os.getpid()][0].submit(_drain, key, job)
    return future


def _drain(key: str | None, job: Callable[[], None] | None) -> None:
    """This job, and those that come under its key meanwhile."""
    while job:
        job()
        with _lock:
            job = _queues[key].popleft() if key is not None and _queues[key] else None
            if key is not None and job is None:
                del _queues[key]


def _done(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        close_old_connections()  # a program may have been idle for hours
        future.set_result(work())
    except BaseException as error:  # it is the caller's, who waits for it
        future.set_exception(error)


def _forget() -> None:
    """In a child: the parent's threads, and whatever they held, are not here."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()
    _queues.clear()


os.register_at_fork(after_in_child=_forget)


def _begin(opened: list[Any]) -> None:
    mine: Any = connections["default"]
    mine.inc_thread_sharing()  # so that `close` may close it
    opened.append(mine)
