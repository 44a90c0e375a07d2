"""The only importer of django-q2. A task there is a hint: "look for ready states". It carries nothing.

Losing, doubling, delaying or reordering hints changes latency only, because the sweeper looks too. Hints join the caller's transaction (the
ORM broker writes a row), and are not added while enough of them wait undelivered.
"""

import signal
from datetime import timedelta
from functools import cache
from time import monotonic, sleep
from typing import Any

import psycopg
from django.db import close_old_connections, connection, connections
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.cluster import Cluster as QCluster
from django_q.conf import Conf
from django_q.models import Failure, OrmQ
from django_q.tasks import async_task

from runs.core import sql
from runs.core.failpoints import failpoint

CHANNEL = "statemanager_hints"
HINTS_WAITING = 2
DATA_VERSION_POLL_SECONDS = 0.008
WAIT_SECONDS = 1.0


def hint() -> None:
    """Wake the cluster once this transaction commits, unless enough hints wait undelivered already."""
    failpoint("before-hint")
    _enqueue("runs.cluster.tasks.drain")


def probe(cluster: str, sent: float) -> None:
    """A hint addressed to one cluster (`sent` in Unix seconds); its workers answer by setting the cluster's `seen_at`."""
    _enqueue("runs.cluster.tasks.probe", cluster, sent)


def _enqueue(function: str, *args: Any) -> None:
    async_task(function, *args, save=False, task_name=function.rpartition(".")[2])


def waiting_hints() -> int:
    return OrmQ.objects.count()


def oldest_hint() -> timedelta | None:
    """For how long the oldest wake-up has waited, if one does."""
    now = timezone.now()
    due = OrmQ.objects.filter(lock__lte=now).order_by("lock").values_list("lock", flat=True).first()
    return now - due if due else None


def prune() -> None:
    """Drop hints and failure records that are older than a day."""
    yesterday = timezone.now() - timedelta(days=1)
    OrmQ.objects.filter(lock__lt=yesterday).delete()
    Failure.objects.filter(stopped__lt=yesterday).delete()


class WakingBroker(ORM):
    """django-q2's ORM broker, woken by NOTIFY on PostgreSQL and by SQLite's data version instead of a poll; its times are the database's."""

    _waiter: "_Listener | _DataVersion | None" = None

    def enqueue(self, task: str) -> int | None:
        """Store the hint and, on PostgreSQL, notify: in one statement, which does nothing while enough hints wait."""
        found = sql.run(
            _enqueue_statement(), [self.list_key or Conf.CLUSTER_NAME, task, HINTS_WAITING]
        )
        return found[0][0] if found else None

    def dequeue(self) -> list[tuple[int, Any]]:
        if self._waiter is None:
            self._waiter = _Listener() if sql.postgres() else _DataVersion()
        self._waiter.mark()
        if not (taken := self._take()):
            self._waiter.wait(WAIT_SECONDS)
            taken = self._take()
        return taken

    def _take(self) -> list[tuple[int, Any]]:
        close_old_connections()
        rows = sql.run(_take_statement(), [Conf.RETRY, self.list_key])
        return [(row[0], row[1]) for row in rows]


@cache
def _enqueue_statement() -> str:
    kinds = "%s::text, %s::text" if sql.postgres() else "%s, %s"
    insert = f"""
        INSERT INTO django_q_ormq (key, payload, lock) SELECT {kinds}, {sql.now()}
        WHERE (SELECT count(*) FROM (SELECT 1 FROM django_q_ormq WHERE lock <= {sql.now()} LIMIT 10) waiting) < %s RETURNING id
    """
    return (
        f"WITH made AS ({insert}) SELECT id, pg_notify('{CHANNEL}', '')::text FROM made"
        if sql.postgres()
        else insert
    )


@cache
def _take_statement() -> str:
    first = f"SELECT id FROM django_q_ormq WHERE key = %s AND lock <= {sql.now()} ORDER BY id LIMIT 1{sql.lock('UPDATE', skip=True)}"
    return f"UPDATE django_q_ormq SET lock = {sql.later('%s')} WHERE id = ({first}) RETURNING id, payload"


class _Listener:
    """Waits for a notification on a connection of its own, which keeps those that come while nobody waits."""

    def __init__(self) -> None:
        params = {**connections["default"].get_connection_params(), "autocommit": True}
        for key in ("cursor_factory", "context", "prepare_threshold"):
            params.pop(key, None)
        self._connection = psycopg.connect(**params)
        self._connection.execute(f"LISTEN {CHANNEL}")

    def mark(self) -> None:
        pass

    def wait(self, seconds: float) -> None:
        for _ in self._connection.notifies(timeout=seconds, stop_after=1):
            return


class _DataVersion:
    """Waits until another connection has committed to the SQLite file since the mark was set."""

    def __init__(self) -> None:
        self._marked: object = None

    def mark(self) -> None:
        """To be set before looking at the queue; a commit between the look and the wait is then not missed."""
        self._marked = self._version()

    def wait(self, seconds: float) -> None:
        deadline = monotonic() + seconds
        while self._version() == self._marked and monotonic() < deadline:
            sleep(DATA_VERSION_POLL_SECONDS)

    def _version(self) -> object:
        with connection.cursor() as cursor:
            return cursor.execute("PRAGMA data_version").fetchone()


def run_cluster() -> int:
    """Run a django-q2 cluster in this process until SIGTERM; 1 when its sentinel died by itself."""
    cluster = QCluster()
    stopping = False

    def stop(*_: Any) -> None:
        nonlocal stopping
        stopping = True
        if cluster.stop_event:
            cluster.stop_event.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the supervisor, which then says SIGTERM
    cluster.start()
    while cluster.sentinel.is_alive():
        cluster.sentinel.join(0.5)
    return 0 if stopping else 1
