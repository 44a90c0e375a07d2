"""The web server that `manage.py up` runs beside its supervisor."""

import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from itertools import chain
from time import monotonic

from runs.cluster.processes import die_with_parent
from statemanager.conf import conf

log = logging.getLogger(__name__)
APPLICATION = "statemanager.asgi:application"
MAX_WORKERS = 4
START_SECONDS = 10.0  # one that ends earlier has failed to start
MAX_PAUSE_SECONDS = 30.0


class WebServer:
    """granian in a process group of its own. It is started again when it ends.

    granian ends by itself when it loses the same worker twice within seconds.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._process = self._start()
        self._started = monotonic()
        self._failed_starts = 0
        self._next_start = 0.0
        self._has_worked = False

    def tick(self) -> int | None:
        """Start it again if it has ended and the pause is over.

        Returns its exit code if its first start failed, because another one would fail, too. A
        signal that killed it says nothing about another one.
        """
        code = self._process.poll()
        if code is None:
            if monotonic() - self._started > START_SECONDS:
                self._has_worked = True
                self._failed_starts = 0
            return None
        if not self._has_worked and code > 0:
            return code
        if not self._next_start:
            self._plan_start(code)
        if monotonic() >= self._next_start:
            self._end_group()
            self._process = self._start()
            self._started = monotonic()
            self._next_start = 0.0
        return None

    def _plan_start(self, code: int) -> None:
        pause = min(2.0**self._failed_starts - 1, MAX_PAUSE_SECONDS)
        log.error("the web server ended with %s; it is started again in %.0f s", code, pause)
        self._failed_starts += 1
        self._next_start = monotonic() + pause

    def terminate(self) -> None:
        """Ask it to end. Requests that it has begun may take the grace period."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait until it has ended, but not longer than its grace period."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(conf.GRACE_SECONDS)
        self._end_group()

    def _end_group(self) -> None:
        with suppress(ProcessLookupError):  # its workers may have outlived it
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        options = {
            "--interface": "asgi",
            "--host": self.host,
            "--port": str(self.port),
            "--workers": str(min(os.cpu_count() or 2, MAX_WORKERS)),
            "--log-level": "error",
        }
        flags = ["--no-ws", "--no-access-log", "--respawn-failed-workers"]
        command = [sys.executable, "-m", "granian", *chain(*options.items()), *flags, APPLICATION]
        return subprocess.Popen(
            command,
            env={
                **os.environ,
                "STATEMANAGER_DIES_WITH_PARENT": "1",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
