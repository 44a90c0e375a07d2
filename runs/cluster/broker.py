"""The queue of hints as a django-q2 cluster reads it: woken instead of polling.

Its times are the database's. `runs.engine.wakeup` puts hints into it.
"""

from time import monotonic, sleep

import psycopg
from django.db import close_old_connections, connection, connections
from django_q.brokers.orm import ORM
from django_q.conf import Conf

from runs.core import silent_path, sql
from runs.engine.wakeup import CHANNEL
from statemanager.conf import conf

DATA_VERSION_POLL_SECONDS = 0.008
POLL_SECONDS = 0.1
WAIT_SECONDS = 1.0
ASK_LISTENER_SECONDS = 15.0


class WakingBroker(ORM):
    """django-q2's ORM broker, woken instead of polling. Its times are the database's."""

    _waiter: "_Listener | _Poll | _DataVersion | None" = None

    def dequeue(self) -> list[tuple[int, str]]:
        if self._waiter is None:
            self._waiter = _waiter()
        self._waiter.mark()
        tasks = self._take()
        if not tasks:
            self._waiter.wait(WAIT_SECONDS)
            tasks = self._take()
        return tasks

    def _take(self) -> list[tuple[int, str]]:
        close_old_connections()
        rows = sql.run(_take_statement(), [Conf.RETRY, self.list_key])
        return [(row[0], row[1]) for row in rows]


@sql.statement
def _take_statement() -> str:
    """Take the oldest task, and hide it from others until it must have been acknowledged.

    On PostgreSQL workers skip rows that others are taking, so they never wait for each other.
    """
    return f"""
        UPDATE django_q_ormq
        SET lock = {sql.later("%s")}
        WHERE id = (
            SELECT id FROM django_q_ormq
            WHERE key = %s AND lock <= {sql.now()}
            ORDER BY id LIMIT 1{sql.lock("UPDATE", skip_locked=True)}
        )
        RETURNING id, payload
    """


def _waiter() -> "_Listener | _Poll | _DataVersion":
    if not sql.postgres():
        return _DataVersion()
    if conf.DATABASE_POOLED and not conf.DATABASE_LISTEN_URL:
        return _Poll()
    return _Listener()


class _Listener:
    """Waits for a notification, on a connection of its own.

    The connection keeps the notifications that arrive while nobody waits.
    """

    def __init__(self) -> None:
        params = {**connections["default"].get_connection_params(), "autocommit": True}
        for key in ("cursor_factory", "context", "prepare_threshold"):
            params.pop(key, None)
        if conf.DATABASE_LISTEN_URL:
            for key in ("dbname", "user", "password", "host", "port"):
                params.pop(key, None)
        self._connection = psycopg.connect(conf.DATABASE_LISTEN_URL, **params)
        self._listen()
        self._asked = monotonic()
        silent_path.add(self._connection)

    def _listen(self) -> None:
        self._connection.execute(f"LISTEN {CHANNEL}")

    def mark(self) -> None:
        pass

    def wait(self, seconds: float) -> None:
        if monotonic() > self._asked + ASK_LISTENER_SECONDS:
            self._asked = monotonic()
            self._listen()  # a silent path would look like a quiet queue
        for _ in self._connection.notifies(timeout=seconds, stop_after=1):
            return


class _Poll:
    """Looks again after a moment. For poolers, which pass no notifications on."""

    def mark(self) -> None:
        pass

    def wait(self, seconds: float) -> None:
        sleep(min(seconds, POLL_SECONDS))


class _DataVersion:
    """Waits until another connection has committed to the SQLite file."""

    def __init__(self) -> None:
        self._marked: object = None

    def mark(self) -> None:
        """Begin to watch. Called before looking at the queue, so that no commit is missed between
        the look and the wait.
        """
        self._marked = self._version()

    def wait(self, seconds: float) -> None:
        deadline = monotonic() + seconds
        while self._version() == self._marked and monotonic() < deadline:
            sleep(DATA_VERSION_POLL_SECONDS)

    def _version(self) -> object:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            return cursor.fetchone()
