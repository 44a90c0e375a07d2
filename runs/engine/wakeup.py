"""Hints and wake-ups.

A *hint* is a django-q2 task that says "look for ready states". It carries nothing, so losing,
repeating, delaying or reordering hints changes latency only; the sweeper looks, too.

1. A transaction that makes states ready adds a hint (a row of django-q2's ORM broker), unless
   enough of them wait undelivered. Both commit together.
2. Idle workers are woken: by NOTIFY on PostgreSQL, by the data version of the file on SQLite
   (`runs.cluster.broker`).
3. One of them takes the hint and drains what is ready.

A project may have clusters of its own. They and ours see only their own tasks: ours have QUEUE as
their key and as the salt of their signature.
"""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from time import monotonic

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from django_q import core_signing
from django_q.models import Failure, OrmQ
from django_q.signing import PickleSerializer

from runs.core import sql
from runs.core.failpoints import failpoint

QUEUE = "statemanager"
HINT = "runs.cluster.tasks.drain"
PROBE = "runs.cluster.tasks.probe"
CHANNEL = "statemanager_hints"
NOTIFY = f"pg_notify('{CHANNEL}', '')::text"
MAX_WAITING_HINTS = 2


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
    return _task_params(HINT)


def probe(cluster: str, sent: float) -> None:
    """Ask one cluster for a sign of life. `sent` is the database's time in Unix seconds.

    The worker that takes the task sets the cluster's `seen_at`.
    """
    sql.run(enqueue_statement(), _task_params(PROBE, cluster, sent))


def waiting_hints() -> int:
    return _tasks().count()


def oldest_hint() -> timedelta | None:
    """For how long the oldest hint has waited; None if none waits."""
    now = sql.clock()
    due = _tasks().filter(lock__lte=now).order_by("lock").values_list("lock", flat=True).first()
    return now - due if due else None


def prune() -> None:
    """Delete the hints and failure records that are older than a day."""
    yesterday = sql.clock() - timedelta(days=1)
    _tasks().filter(lock__lt=yesterday).delete()
    Failure.objects.filter(func__in=(HINT, PROBE), stopped__lt=yesterday).delete()


def _tasks() -> QuerySet[OrmQ]:
    return OrmQ.objects.filter(key=QUEUE)


def _task_params(function: str, *args: object) -> Sequence[object]:
    """The parameters of `insert_task_statement` for a call, packed as a django-q2 cluster reads it.

    Its `async_task` would pack it by the settings of the project's own cluster.
    """
    task = {
        "id": uuid.uuid4().hex,
        "name": function.rpartition(".")[2],
        "func": function,
        "args": args,
        "kwargs": {},
        "started": timezone.now(),
        "save": False,
        "ack_failure": True,
    }
    packed = core_signing.dumps(
        task, key=settings.SECRET_KEY, salt=QUEUE, serializer=PickleSerializer
    )
    return [QUEUE, packed, QUEUE, MAX_WAITING_HINTS]


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
                SELECT 1 FROM django_q_ormq WHERE key = %s AND lock <= {sql.now()} LIMIT 10
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
