"""The supervisor: it starts a cluster, probes it, replaces it when it is stuck, and sweeps.

Each round (`Supervisor.tick`) does what is due:

1. Look at the processes of the cluster. When one is gone or new, sweep and probe at once.
2. Sweep: give back the states of lost workers, fire schedules, repeat lost hints, tidy up.
3. Probe: send a task through the queue, which a worker of the cluster has to answer.
4. Replace the cluster if it doesn't answer.

Whatever fails in a round is logged, and the next round follows: the supervisor ends only when it is
told to. It starts the cluster in a round, too, so a database that is away, full or read-only delays
the start and does not end it. Starts that fail are repeated after growing pauses, and each of them
has more time than the one before, because slow imports must not look like a stuck cluster. Why a
start failed is stored with the cluster (`start_error`).

Only an answer through the queue counts as a sign of life. A killed idle worker can block a whole
django-q2 cluster that looks alive, so the supervisor relies on none of its processes.
"""

import logging
import math
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from django.db import close_old_connections, connection

from graphs.auth import login_records
from graphs.models import idempotency
from runs.actions import (
    bulk_runner,
    delete,
    index_inputs,
    notifications,
    rerun,
    retention,
    run_templates,
    schedules,
)
from runs.cluster.error_output import ErrorOutput
from runs.cluster.processes import die_with_parent, group_of
from runs.core import db_errors, sql
from runs.engine import (
    deadlines,
    heartbeat,
    lease_recovery,
    overdue_answers,
    priority,
    slots,
    wakeup,
)
from runs.external import queue
from runs.health import storage
from runs.models import AuditEntry, Cluster
from runs.models.cluster import MISSED_PROBES
from statemanager.conf import conf

log = logging.getLogger(__name__)
START_SECONDS = 15.0  # for a cluster's first answer; doubled after each start that failed
MAX_START_SECONDS = 240.0
MAX_PAUSE_SECONDS = 30.0  # between starts that fail
DUMP_SECONDS = 2.0  # for a process to say where it is
DOUBT_SECONDS = 4.0
CHECK_MEMBERS_SECONDS = 0.4
CHECK_READY_SECONDS = 1.0
CHECK_SCHEDULE_SECONDS = 1.0
CHECK_DELETED_SECONDS = 60.0
TIDY_SECONDS = 3600.0
ADOPT_SECONDS = 60.0  # matters only while a release is rolled out


def cluster_command(workers: int) -> list[str]:
    """What runs a cluster. With faulthandler, SIGABRT makes a process say where it is."""
    python = [sys.executable, "-X", "faulthandler"]
    return [*python, "-m", "django", "run_cluster", "--workers", str(workers)]


def _prepare_cluster() -> None:
    """What the process of a cluster does first: it dies with us, and writes no core dumps."""
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Supervisor:
    """One cluster and its supervision. `tick` does what is due; `stop` ends everything."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or conf.WORKERS
        self.host = socket.gethostname()
        # Containers may share both the name of their host and their process ids.
        self.name = f"{self.host[:60]}:{os.getpid()}:{secrets.token_hex(3)}"
        self.process: subprocess.Popen[bytes] | None = None
        self._errors: ErrorOutput | None = None
        self.restarts = 0
        self._started = 0.0
        self._failed_starts = 0
        self._next_start = -math.inf
        self._changed = -math.inf  # when a process of the cluster was last gone or new
        self._members: frozenset[int] = frozenset()
        self._due: dict[str, float] = {}
        self._slots = slots.Sweeper()

    def start(self) -> None:
        """Start the cluster in a process group of its own, so that Ctrl-C doesn't reach it.

        Raises Django's database errors.
        """
        heartbeat.register(self.name, self.host, self.workers)
        Cluster.objects.filter(name=self.name).update(restarts=self.restarts)
        environment = {
            **os.environ,
            "STATEMANAGER_CLUSTER": self.name,
        }
        connection.close()
        self.process = subprocess.Popen(
            cluster_command(self.workers),
            env=_with_settings(environment),
            start_new_session=True,
            preexec_fn=_prepare_cluster,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        self._errors = ErrorOutput(self.process.stderr)
        self._started = monotonic()
        self._members = frozenset()
        log.info("cluster %s started, process %s", self.name, self.process.pid)

    # --- a round -------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due. Nothing that fails here ends the supervisor."""
        stuck = ""
        try:
            close_old_connections()
            if self.process is None and monotonic() >= self._next_start:
                self.start()
            self._do_what_is_due()
            stuck = self._stuck() if self.process else ""
        except Exception as error:
            if db_errors.is_away(error):
                log.warning("the database is away: %s", db_errors.explained(error))
                connection.close()
                self._started = monotonic()  # a cluster can't answer while the database is away
            else:
                log.exception("a round of the supervisor failed; the next one follows")
        if self.process and self.process.poll() is not None:
            stuck = f"its process ended with {self.process.returncode}"
        if stuck:
            self._end_cluster(stuck)

    def _do_what_is_due(self) -> None:
        self._every("members", CHECK_MEMBERS_SECONDS, self._check_members)
        self._every("sweep", conf.SWEEP_SECONDS, self._sweep)
        self._every("schedule", CHECK_SCHEDULE_SECONDS, schedules.fire_due)
        self._every("templates", CHECK_SCHEDULE_SECONDS, run_templates.launch_due)
        self._every("reruns", conf.SWEEP_SECONDS, rerun.rerun_failures)
        self._every("inputs", conf.SWEEP_SECONDS, index_inputs.continue_indexing)
        self._every("ready", CHECK_READY_SECONDS, _hint_what_waits)
        self._every("slots", CHECK_SCHEDULE_SECONDS, self._slots.sweep)
        self._every("ended slots", CHECK_DELETED_SECONDS, slots.forget_ended)
        self._every("adopt", ADOPT_SECONDS, priority.adopt_states)
        self._every("probe", conf.PROBE_SECONDS, self._probe)
        self._every("prune", TIDY_SECONDS, wakeup.prune)
        self._every("clusters", TIDY_SECONDS, lambda: heartbeat.forget_lost(self.name))
        self._every("deleted", CHECK_DELETED_SECONDS, delete.sweep)
        self._every("retention", TIDY_SECONDS, retention.delete_old)
        self._every("answers", TIDY_SECONDS, idempotency.forget_old)
        self._every("logins", TIDY_SECONDS, login_records.forget_old)
        self._every("failed logins", TIDY_SECONDS, AuditEntry.objects.forget_failed_logins)
        self._every("storage", TIDY_SECONDS, storage.mark)
        self._every("notifications", TIDY_SECONDS, notifications.forget_old)
        self._every("exports", TIDY_SECONDS, bulk_runner.forget_files)

    def _every(self, task: str, seconds: float, call: Callable[[], object]) -> None:
        if monotonic() >= self._due.get(task, 0):
            self._due[task] = monotonic() + seconds
            try:
                call()
            except Exception as error:
                if db_errors.is_away(error):
                    raise  # everything else would fail, too
                log.exception("the task %r of the supervisor failed; it is repeated", task)

    def _probe(self) -> None:
        wakeup.probe(self.name, sql.clock().timestamp())

    def _sweep(self) -> None:
        lease_recovery.end_leases_of_dead(self.name, self._living)
        rescued = lease_recovery.rescue_expired()
        lease_recovery.mark_running()
        deadlines.sweep()
        overdue_answers.sweep()
        queue.sweep()
        if rescued:
            log.warning("%s states of lost workers were given back", rescued)

    def _check_members(self) -> None:
        """Sweep and probe at once when a process of the cluster is gone or new.

        A new one may have taken the place of one that went between two looks.
        """
        members = frozenset(self._living() or ())
        gone = self._members - members
        if gone:
            log.warning("processes of cluster %s are gone: %s", self.name, sorted(gone))
        if members != self._members:
            self._due["sweep"] = 0
            self._due["probe"] = 0
            self._changed = monotonic()
        self._members = members

    def _living(self) -> list[int] | None:
        """The processes of the cluster; None where they can't be seen."""
        if self.process is None:
            return []
        members = group_of(self.process.pid)
        is_visible = self.process.pid in members or self.process.poll() is not None
        return members if is_visible else None

    # --- replacing the cluster -----------------------------------------------------------------

    def _stuck(self) -> str:
        """Why the cluster must be replaced; "" while it answers.

        It has time for MISSED_PROBES probes. Soon after one of its processes was gone or new, it
        has to give a sign that is younger than that change.
        """
        if self._failed_starts and heartbeat.answered(self.name):
            self._failed_starts = 0
            Cluster.objects.filter(name=self.name).update(start_error="")
        patience = MISSED_PROBES * conf.PROBE_SECONDS
        running = monotonic() - self._started
        unchanged = monotonic() - self._changed
        if DOUBT_SECONDS < unchanged < patience:
            patience = unchanged
        if running < patience:
            return ""
        if running < self._start_seconds() and not heartbeat.answered(self.name):
            return ""  # it may still be starting
        if Cluster.objects.alive(within=patience).filter(name=self.name).exists():
            return ""
        return f"no sign of life for {patience:.0f} s"

    def _start_seconds(self) -> float:
        return float(min(START_SECONDS * 2**self._failed_starts, MAX_START_SECONDS))

    def _end_cluster(self, reason: str) -> None:
        """Kill the cluster. A round starts it again, at once if it had answered before."""
        log.error("cluster %s is replaced: %s", self.name, reason)
        try:
            is_start = not heartbeat.answered(self.name)
        except db_errors.ERRORS:
            is_start = False
        if is_start:
            self._say_where_it_is()
        self._kill()
        if is_start:
            self._store_reason(reason)
        self.process = None
        self.restarts += 1
        pause = min(2.0**self._failed_starts, MAX_PAUSE_SECONDS) if self._failed_starts else 0.0
        self._next_start = monotonic() + pause
        self._failed_starts += 1  # until it answers

    def _say_where_it_is(self) -> None:
        """Let a process that still starts write its traceback: what it imports, for example."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(DUMP_SECONDS)

    def _store_reason(self, reason: str) -> None:
        """Store why a start failed, with the last lines that the cluster wrote."""
        lines = self._errors.last() if self._errors else ""
        text = f"{reason}\n{lines}".strip()
        try:
            Cluster.objects.filter(name=self.name).update(start_error=text)
        except db_errors.ERRORS as error:
            log.warning("the database is away: %s", error)

    def _kill(self) -> None:
        """End the whole process group at once."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Let running nodes end within the grace period, then kill the rest.

        The states that the cluster held are given back.
        """
        is_reachable = self._mark_stopping()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(conf.GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                log.warning("cluster %s did not end within %s s", self.name, conf.GRACE_SECONDS)
        self._kill()
        if is_reachable:
            self._give_back()

    def _mark_stopping(self) -> bool:
        """Say that this cluster stops; return whether the database could be told."""
        try:
            Cluster.objects.filter(name=self.name).update(stopping=True)
        except db_errors.ERRORS as error:
            log.warning("the database is away: %s; the leases will end in time", error)
            return False
        return True

    def _give_back(self) -> None:
        try:
            close_old_connections()
            released = lease_recovery.release_workers(self.name)
            Cluster.objects.filter(name=self.name).delete()
            log.info("cluster %s stopped; %s states were given back", self.name, released)
        except db_errors.ERRORS as error:
            log.warning("the database is away: %s; the leases will end in time", error)


def _hint_what_waits() -> None:
    lease_recovery.hint_ready()
    if bulk_runner.waiting() or notifications.waiting():
        wakeup.hint()


def _with_settings(environment: dict[str, str]) -> dict[str, str]:
    """The settings and the import path of this process for the processes that it starts."""
    return {
        **environment,
        "DJANGO_SETTINGS_MODULE": os.environ.get("DJANGO_SETTINGS_MODULE", "statemanager.settings"),
        "PYTHONPATH": os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), *sys.path])),
    }
