"""The tasks that django-q2 calls. Hints store their names, so they must stay importable."""

import logging
import os
import threading

from django.db import connections

from runs.actions import bulk_runner, notifications
from runs.core import db_errors, sql
from runs.engine import heartbeat, node_output, wakeup
from runs.engine.executor import Executor

PROBE_LIFETIME_SECONDS = 3.0
_executor: tuple[int, Executor] | None = None
_sender: threading.Thread | None = None  # a forked process has none that is alive
log = logging.getLogger(__name__)


def executor() -> Executor:
    """The executor of this process; a forked process gets its own."""
    global _executor
    if _executor is None or _executor[0] != os.getpid():
        node_output.install()
        _executor = os.getpid(), Executor(cluster=_own_cluster())
    return _executor[1]


def drain() -> None:
    """Run what is ready and continue bulk operations, for some seconds. Hints if work is left."""
    worker = executor()
    worker.drain()
    if bulk_runner.waiting() and bulk_runner.run_waiting():
        wakeup.hint()
    if notifications.waiting():
        _send_notifications()
    if worker.tainted:
        # An abandoned thread may run forever, so the cluster has to replace this process.
        wakeup.hint()
        os._exit(1)


def _send_notifications() -> None:
    """Send messages in a thread of their own: a slow receiver must not keep nodes waiting."""
    global _sender
    if _sender is None or not _sender.is_alive():
        _sender = threading.Thread(target=_send, name="notifications", daemon=True)
        _sender.start()


def _send() -> None:
    try:
        while notifications.deliver():
            pass
    except db_errors.ERRORS as error:
        log.warning("the database is away: %s; messages are sent when it is back", error)
    finally:
        connections.close_all()


def probe(cluster: str, sent: float) -> None:
    """Show that the cluster answers. Pass the probe on if another cluster took it.

    `sent` is in Unix seconds. A probe that nobody answers in time is dropped.
    """
    if _own_cluster() == cluster:
        heartbeat.note_cluster(cluster)
    elif sql.clock().timestamp() - sent < PROBE_LIFETIME_SECONDS:
        wakeup.probe(cluster, sent)


def _own_cluster() -> str:
    return os.environ.get("STATEMANAGER_CLUSTER", "")
