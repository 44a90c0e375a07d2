"""The tasks that django-q2 calls. Hints store their names, so they must stay importable."""

import os

from runs.actions import bulk_runner, notifications
from runs.core import sql
from runs.engine import heartbeat, node_output, wakeup
from runs.engine.executor import Executor

PROBE_LIFETIME_SECONDS = 3.0
_executor: tuple[int, Executor] | None = None


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
    if notifications.waiting() and notifications.deliver():
        wakeup.hint()
    if worker.tainted:
        # An abandoned thread may run forever, so the cluster has to replace this process.
        wakeup.hint()
        os._exit(1)


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
