"""Database work of programs with many threads or with an event loop, done by a few threads that keep their connections.

LangGraph calls its saver from threads that live as short as a task. A connection belongs to its thread in Django, so each of them would open one of its
own, and leave it open.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from django.db import close_old_connections, connection, connections

P = ParamSpec("P")
T = TypeVar("T")
THREADS = 4  # and so many connections a process has at most for this

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}  # by process: threads don't survive a fork
_opened: list[Any] = []


def called(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What this does, done there; within the caller's own transaction, if it has one."""
    if connection.in_atomic_block:
        return work(*args, **kwargs)
    return _submitted(work, *args, **kwargs).result()


async def awaited(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same without holding up the event loop."""
    return await asyncio.wrap_future(_submitted(work, *args, **kwargs))


def close() -> None:
    """End this process's threads and close their connections; the next call opens others."""
    with _lock:
        if pool := _pools.pop(os.getpid(), None):
            pool.shutdown(wait=True)
            while _opened:
                _opened.pop().close()


def _submitted(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    with _lock:
        if os.getpid() not in _pools:
            _pools[os.getpid()] = ThreadPoolExecutor(THREADS, "saver", _begin)
        return _pools[os.getpid()].submit(lambda: _fresh(lambda: work(*args, **kwargs)))


def _forget() -> None:
    """In a child: the parent's threads, and whatever they held, are not here."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()
    _opened.clear()


os.register_at_fork(after_in_child=_forget)


def _begin() -> None:
    mine: Any = connections["default"]
    mine.inc_thread_sharing()  # so that `close` may close it
    _opened.append(mine)


def _fresh(work: Callable[[], T]) -> T:
    """With a connection that works: a program may have been idle for hours."""
    close_old_connections()
    return work()
