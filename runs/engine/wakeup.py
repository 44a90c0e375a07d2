"""Hints and wake-ups. This is the only module that imports django-q2.

A *hint* is a django-q2 task that says "look for ready states". It carries nothing, so losing,
repeating, delaying or reordering hints changes latency only; the sweeper looks, too.

1. A transaction that makes states ready adds a hint (a row of the ORM broker), unless enough of
   them wait undelivered. Both commit together.
2. Idle workers are woken: by NOTIFY on PostgreSQL, by the data version of the file on SQLite.
3. One of them takes the hint and drains what is ready.
"""

import signal
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from time import monotonic, sleep

import psycopg
from django.conf import settings
from django.db import close_old_connections, connection, connections
from django_q.brokers.orm import ORM
from django_q.cluster import Cluster as QCluster
from django_q.conf import Conf
from django_q.models import Failure, OrmQ
from django_q.tasks import async_task

from runs.core import silent_path, sql
from runs.core.failpoints import failpoint

HINT = "runs.cluster.tasks.drain"
PROBE = "runs.cluster.tasks.probe"
CHANNEL = "statemanager_hints"
NOTIFY = f"pg_notify('{CHANNEL}', '')::text"
MAX_WAITING_HINTS = 2
DATA_VERSION_POLL_SECONDS = 0.008
POLL_SECONDS = 0.1
WAIT_SECONDS = 1.0
ASK_LISTENER_SECONDS = 15.0


def hint() -> None:
    """Wake the cluster when this transaction commits, unless enough hints wait already."""
    sql.run(enqueue_statement(), hint_params())


def hint_params() -> Sequence[object]:
    """The parameters of `insert_task_statement` for a hint."""
    failpoint("before-hint")
    return _hint_params(int(monotonic()))


@lru_cache(maxsize=1)
def _hint_params(second: int) -> Sequence[object]:
    """Hints of one second are alike, because packing and signing a task takes a while."""
    packed = _Packed()
    async_task(HINT, save=False, task_name=HINT.rpartition(".")[2], broker=packed)
    return packed.params


def probe(cluster: str, sent: float) -> None:
    """Ask one cluster for a sign of life. `sent` is the database's time in Unix seconds.

    The worker that takes the task sets the cluster's `seen_at`.
    """
    async_task(PROBE, cluster, sent, save=False, task_name=PROBE.rpartition(".")[2])


def waiting_hints() -> int:
    return OrmQ.objects.count()


def oldest_hint() -> timedelta | None:
    """For how long the oldest hint has waited; None if none waits."""
    now = sql.clock()
    due = OrmQ.objects.filter(lock__lte=now).order_by("lock").values_list("lock", flat=True).first()
    return now - due if due else None


def prune() -> None:
    """Delete the hints and failure records that are older than a day."""
    yesterday = sql.clock() - timedelta(days=1)
    OrmQ.objects.filter(lock__lt=yesterday).delete()
    Failure.objects.filter(stopped__lt=yesterday).delete()


class _Packed(ORM):
    """Stands in for a broker, to get a task as django-q2 packs and signs it."""

    params: Sequence[object] = ()

    def enqueue(self, task: str) -> None:
        self.params = _task_params(self, task)


# --- the broker ----------------------------------------------------------------------------------


class WakingBroker(ORM):
    """django-q2's ORM broker, woken instead of polling. Its times are the database's."""

    _waiter: "_Listener | _Poll | _DataVersion | None" = None

    def enqueue(self, task: str) -> int | None:
        """Store the task and, on PostgreSQL, notify. Does nothing while enough tasks wait."""
        rows = sql.run(enqueue_statement(), _task_params(self, task))
        return rows[0][0] if rows else None

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


def _task_params(broker: ORM, task: str) -> list[object]:
    return [broker.list_key or Conf.CLUSTER_NAME, task, MAX_WAITING_HINTS]


@sql.statement
def insert_task_statement(gate: str = sql.ALWAYS) -> str:
    """Insert a task, unless enough tasks wait undelivered. `gate` is an SQL condition.

    Counting stops at ten rows, so it costs the same for a long queue.
    """
    text = "::text" if sql.postgres() else ""
    return f"""
        INSERT INTO django_q_ormq (key, payload, lock)
        SELECT %s{text}, %s{text}, {sql.now()}
        WHERE (
            SELECT count(*) FROM (
                SELECT 1 FROM django_q_ormq WHERE lock <= {sql.now()} LIMIT 10
            ) waiting
        ) < %s AND {gate}
        RETURNING id
    """


@sql.statement
def enqueue_statement() -> str:
    """Insert a task and, on PostgreSQL, notify of it."""
    if sql.postgres():
        return f"WITH task AS ({insert_task_statement()}) SELECT id, {NOTIFY} FROM task"
    return insert_task_statement()


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
    if settings.DATABASE_POOLED and not settings.DATABASE_LISTEN_URL:
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
        if settings.DATABASE_LISTEN_URL:
            for key in ("dbname", "user", "password", "host", "port"):
                params.pop(key, None)
        self._connection = psycopg.connect(settings.DATABASE_LISTEN_URL, **params)
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


# --- the cluster ---------------------------------------------------------------------------------


def run_cluster() -> int:
    """Run a django-q2 cluster in this process until SIGTERM.

    Returns 0, or 1 if its sentinel died without being asked to stop.
    """
    cluster = QCluster()
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        if cluster.stop_event:
            cluster.stop_event.set()

    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C reaches the supervisor, which then sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cluster.start()
    while cluster.sentinel.is_alive():
        cluster.sentinel.join(0.5)
    return 0 if stopping else 1
