"""Cuts connections to PostgreSQL whose path has gone silent.

TCP notices a host that vanishes: the keepalives and `tcp_user_timeout` of the settings see to that.
It notices nothing when a proxy or a load balancer takes what is sent and never answers, or still
leads to a server that was replaced; a statement would wait for ever.

A thread looks at the connections of its process. One that waits for an answer at several looks is
suspect, because no statement has a limit of its own: some of an administrator take minutes. A new
connection then asks the server. If it can't connect, or if the server isn't working for the suspect
connection, that connection is cut, and its statement fails as if the server had closed it.
"""

import logging
import os
import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from threading import Event, Lock, Thread, Timer
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

log = logging.getLogger(__name__)
Connection = psycopg.Connection[Any]

LOOK_SECONDS = 4.0
HURRIED_LOOK_SECONDS = 0.5
SUSPECT_LOOKS = 2  # in a row, besides the first
ASK_SECONDS = 4
IDLE_SECONDS = 2

# The backends that work, or that began to wait for their client only just now.
WORKING_BACKENDS = f"""
SELECT pid
FROM pg_stat_activity
WHERE pid = ANY(%s)
  AND (
    state IS NULL
    OR state NOT LIKE 'idle%%'
    OR state_change > clock_timestamp() - interval '{IDLE_SECONDS} seconds'
  )
"""


class _Watch:
    """The connections of this process, and the thread that looks at them."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._looks: WeakKeyDictionary[Connection, int] = WeakKeyDictionary()
        self._lock = Lock()
        self._hurry = Event()
        Thread(target=self._run, name="silent-path", daemon=True).start()

    def belongs_here(self) -> bool:
        """False in a fork: it has its parent's objects, but not its parent's threads."""
        return self._process == os.getpid()

    def add(self, connection: Connection) -> None:
        with self._lock:
            self._looks[connection] = 0

    def hurry(self) -> None:
        self._hurry.set()

    def _run(self) -> None:
        while True:
            if self._hurry.wait(LOOK_SECONDS):
                Event().wait(HURRIED_LOOK_SECONDS)
            try:
                self._look()
            except Exception:
                log.exception("looking for silent connections failed; the next look follows")

    def _look(self) -> None:
        suspects: dict[str, list[Connection]] = defaultdict(list)
        with self._lock:
            connections = list(self._looks)
        for connection in connections:
            if self._is_suspect(connection):
                suspects[connection.info.dsn].append(connection)
        for waiting in suspects.values():
            for connection in _dead(waiting):
                _cut(connection)

    def _is_suspect(self, connection: Connection) -> bool:
        waits = connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE
        with self._lock:
            self._looks[connection] = self._looks.get(connection, 0) + 1 if waits else 0
            return self._looks[connection] > (0 if self._hurry.is_set() else SUSPECT_LOOKS)


_watch: _Watch | None = None


def watch() -> None:
    """Watch every connection that this process and its forks open from now on."""
    connection_created.connect(_add_created, dispatch_uid="silent_path")


def add(connection: Connection) -> None:
    """Watch a connection that isn't one of Django's."""
    global _watch
    if _watch is None or not _watch.belongs_here():
        _watch = _Watch()
    _watch.add(connection)


def hurry() -> None:
    """Look more often from now on, and ask at once: the process has been told to stop."""
    if _watch is not None and _watch.belongs_here():
        _watch.hurry()


def _add_created(connection: BaseDatabaseWrapper, **_: object) -> None:
    if connection.vendor == "postgresql":
        add(connection.connection)


def _dead(suspects: list[Connection]) -> list[Connection]:
    """Those of the connections, all to the same server, for which the server doesn't work.

    Behind a pooler the backends aren't known; then the connections are dead if the pooler is.
    """
    try:
        asking = _connect(suspects[0])
    except psycopg.Error as error:
        return suspects if error.sqlstate is None else []  # an SQLSTATE is an answer
    with closing(asking), _deadline(asking):
        try:
            [(own_pid,)] = asking.execute("SELECT pg_backend_pid()").fetchall()
            if own_pid != asking.info.backend_pid:
                return []
            pids = [connection.info.backend_pid for connection in suspects]
            working = {pid for (pid,) in asking.execute(WORKING_BACKENDS, [pids]).fetchall()}
        except psycopg.Error as error:
            return suspects if error.sqlstate is None else []
    return [connection for connection in suspects if connection.info.backend_pid not in working]


def _connect(like: Connection) -> Connection:
    return psycopg.connect(
        like.info.dsn,
        password=like.info.password,
        connect_timeout=ASK_SECONDS,
        autocommit=True,
        prepare_threshold=None,
    )


@contextmanager
def _deadline(connection: Connection) -> Iterator[None]:
    """Cut the connection if the block takes longer than ASK_SECONDS."""
    timer = Timer(ASK_SECONDS, _cut, [connection])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut(connection: Connection) -> None:
    """End the connection for both sides; whoever waits for it gets an error at once.

    It waits, so its owner doesn't close it at the same moment.
    """
    with suppress(OSError, psycopg.Error), closing(_socket(connection)) as own:
        own.shutdown(socket.SHUT_RDWR)
        log.warning("the path to the database is silent; a connection was cut")


def _socket(connection: Connection) -> socket.socket:
    return socket.socket(fileno=os.dup(connection.pgconn.socket))
