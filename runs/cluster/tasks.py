"""What django-q2 calls. The names are stored in hints, so they stay importable."""

import os

from runs.actions import bulk_runner
from runs.core import sql
from runs.engine import wakeup
from runs.engine.executor import Executor

PULSE_LIVES_SECONDS = 3.0
_executor: tuple[int, Executor] | None = None


def executor() -> Executor:
    """The executor of this process; a forked process gets its own."""
    global _executor
    if _executor is None or _executor[0] != os.getpid():
        _executor = os.getpid(), Executor(cluster=os.environ.get("STATEMANAGER_CLUSTER", ""))
    return _executor[1]


def drain() -> None:
    """Run what is ready and carry on with bulk operations, for some seconds; hints again if work is left."""
    worker = executor()
    worker.drain()
    if bulk_runner.waiting() and bulk_runner.run_waiting():
        wakeup.hint()
    if worker.tainted:
        wakeup.hint()
        os._exit(1)  # an abandoned thread may run on for ever: let the cluster replace this process


def probe(cluster: str, sent: float) -> None:
    """Answer for the addressed cluster; hand the probe on if it reached another one."""
    own = os.environ.get("STATEMANAGER_CLUSTER", "")
    if own == cluster:
        sql.send(
            f"UPDATE statemanager_runs_cluster SET seen_at = {sql.now()} WHERE name = %s", [cluster]
        )
    elif sql.clock().timestamp() - sent < PULSE_LIVES_SECONDS:
        wakeup.probe(cluster, sent)
