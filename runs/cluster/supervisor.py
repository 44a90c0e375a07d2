"""The supervisor: starts the cluster in a process group of its own, probes it, replaces it when it is stuck, sweeps, and stops it.

It depends on no single process of django-q2 being well: an idle worker that is killed can wedge a whole cluster for ever while it
looks alive, so only an answer through the queue counts as life, and soon after one of its processes went or came a cluster has to give it.
What a process that went held is given back at once: its lease would say later what is known already.
"""

import ctypes
import logging
import math
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from django.conf import settings
from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    close_old_connections,
    connection,
)

from graphs.models.idempotency import forget_old
from runs.actions import bulk_runner, delete, rerun, retention, run_templates, schedules
from runs.core import sql
from runs.engine import heartbeat, lease_recovery, wakeup
from runs.models import Cluster

log = logging.getLogger(__name__)
MISSED_PULSES = 3
START_SECONDS = 15.0
DOUBT_SECONDS = 4.0
CHECK_MEMBERS_SECONDS = 0.4
CHECK_READY_SECONDS = 1.0
CHECK_SCHEDULE_SECONDS = 1.0
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask Linux to kill this process when the one that started it dies; elsewhere it does nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Supervisor:
    """One cluster and its care. `tick` does what is due; `stop` ends everything within the grace period."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or settings.WORKERS
        self.host = socket.gethostname()
        self.name = f"{self.host[:60]}:{os.getpid()}:{secrets.token_hex(3)}"  # containers may share both a host's name and process ids
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts = 0
        self._started = 0.0
        self._changed = -math.inf  # when a process of the cluster went or came the last time
        self._members: frozenset[int] = frozenset()
        self._due: dict[str, float] = {}

    def start(self) -> None:
        """Start the cluster; it gets its own process group, so that a Ctrl-C reaches only the supervisor."""
        heartbeat.register(self.name, self.host, self.workers)
        environment = {
            **os.environ,
            "STATEMANAGER_CLUSTER": self.name,
            "WORKERS": str(self.workers),
        }
        connection.close()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "django", "run_cluster"],
            env=_with_settings(environment),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._started, self._members = monotonic(), frozenset()
        log.info("cluster %s started, process %s", self.name, self.process.pid)

    def tick(self) -> None:
        """Sweep, hint, probe and judge, each when it is due; a database that is away is waited for."""
        stuck = ""
        try:
            close_old_connections()
            self._every("members", CHECK_MEMBERS_SECONDS, self._look)
            self._every("sweep", settings.SWEEP_SECONDS, self._sweep)
            self._every("schedule", CHECK_SCHEDULE_SECONDS, schedules.fire_due)
            self._every("templates", CHECK_SCHEDULE_SECONDS, run_templates.launch_due)
            self._every("reruns", settings.SWEEP_SECONDS, rerun.rerun_failures)
            self._every("ready", CHECK_READY_SECONDS, _hint_what_waits)
            self._every(
                "probe",
                settings.PROBE_SECONDS,
                lambda: wakeup.probe(self.name, sql.clock().timestamp()),
            )
            self._every("prune", 3600, wakeup.prune)
            self._every("clusters", 3600, lambda: heartbeat.forget_lost(self.name))
            self._every("traces", 60, delete.sweep)
            self._every("retention", 3600, retention.delete_old)
            self._every("answers", 3600, forget_old)
            self._every("exports", 3600, bulk_runner.forget_files)
            stuck = self._stuck()
        except (OperationalError, InterfaceError) as error:
            log.warning("the database is away: %s", error)
            connection.close()
            self._started = monotonic()
        except Exception:
            log.exception("a round of the supervisor failed; the next one comes")
        if self.process and self.process.poll() is not None:
            stuck = f"its process ended with {self.process.returncode}"
        if stuck:
            log.error("cluster %s is replaced: %s", self.name, stuck)
            self._replace()

    def _every(self, what: str, seconds: float, call: Callable[[], Any]) -> None:
        if monotonic() >= self._due.get(what, 0):
            self._due[what] = monotonic() + seconds
            call()

    def _sweep(self) -> None:
        lease_recovery.end_leases_of_dead(self.name, self._living)
        rescued = lease_recovery.rescue_expired()
        lease_recovery.mark_running()
        if rescued:
            log.warning("%s states of lost workers were given back", rescued)

    def _look(self) -> None:
        """When a process of the cluster went, or one came (for one that went between two looks, perhaps): sweep and probe at once."""
        members = frozenset(self._living() or ())
        if gone := self._members - members:
            log.warning("processes of cluster %s went: %s", self.name, sorted(gone))
        if members != self._members:
            self._due["sweep"] = self._due["probe"] = 0
            self._changed = monotonic()
        self._members = members

    def _living(self) -> list[int] | None:
        """The processes of the cluster; None where they can't be seen."""
        assert self.process is not None
        found = _group(self.process.pid)
        return found if self.process.pid in found or self.process.poll() is not None else None

    def _stuck(self) -> str:
        """Why the cluster must be replaced; "" while it answers."""
        patience = MISSED_PULSES * settings.PROBE_SECONDS
        running, unchanged = monotonic() - self._started, monotonic() - self._changed
        if DOUBT_SECONDS < unchanged < patience:
            patience = unchanged
        if running < patience or (running < START_SECONDS and not heartbeat.answered(self.name)):
            return ""  # it may still be starting; one that answered once has no excuse
        return (
            f"no sign of life for {patience:.0f} s" if heartbeat.silent(self.name, patience) else ""
        )

    def _replace(self) -> None:
        self._kill()
        self.restarts += 1
        self.start()
        Cluster.objects.filter(name=self.name).update(restarts=self.restarts)

    def _kill(self) -> None:
        """End the whole process group at once."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Let running nodes end within the grace period, then end the group and give back what it held."""
        if self.process is None:
            return
        try:
            Cluster.objects.filter(name=self.name).update(stopping=True)
        except (DatabaseError, InterfaceError) as error:
            log.warning("the database is away: %s", error)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(settings.GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                log.warning("cluster %s did not end within %s s", self.name, settings.GRACE_SECONDS)
        self._kill()
        try:
            close_old_connections()
            released = lease_recovery.release_workers(self.name)
            Cluster.objects.filter(name=self.name).delete()
            log.info("cluster %s stopped; %s states were given back", self.name, released)
        except (DatabaseError, InterfaceError) as error:
            log.warning("the database is away: %s; leases will end by themselves", error)


def _hint_what_waits() -> None:
    lease_recovery.hint_ready()
    if bulk_runner.waiting():
        wakeup.hint()


def _with_settings(environment: dict[str, str]) -> dict[str, str]:
    path = os.pathsep.join(
        filter(None, [str(settings.BASE_DIR), environment.get("PYTHONPATH", "")])
    )
    return {
        **environment,
        "DJANGO_SETTINGS_MODULE": os.environ.get("DJANGO_SETTINGS_MODULE", "statemanager.settings"),
        "PYTHONPATH": path,
    }


def _group(leader: int) -> list[int]:
    """The living processes of a process group; none where there is no /proc (it is Linux's)."""
    found = []
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else []:
        with suppress(OSError):  # it went while we looked
            if entry.isdigit() and os.getpgid(int(entry)) == leader and _lives(entry):
                found.append(int(entry))
    return found


def _lives(pid: str) -> bool:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] not in "ZX"
