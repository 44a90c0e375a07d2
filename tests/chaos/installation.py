"""A whole installation whose processes can be killed.

It consists of a web server, two supervised clusters and an external worker.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from runs.models import State
from tests.support.clusters import ROOT, SUPERVISE, environment, free_port, granian, until

SHORT = {"WORKER_LEASE_SECONDS": "4", "LOG_LEVEL": "ERROR", "WEB_THREADS": "2"}

# Two, as on two hosts: while one is killed, the other sweeps and its cluster claims.
SUPERVISORS = ("supervisor", "other supervisor")
ROLES = {"web": "web parent", "other supervisor": "supervisor"}


class Installation:
    def __init__(self, key: str, **env: str) -> None:
        self.key, self.env = key, env
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        # (part, exit code) of those that nobody killed. granian ends when it loses a worker twice
        # within seconds, so the web server doesn't count.
        self.ended: list[tuple[str, int]] = []
        self.revive()

    def revive(self) -> None:
        """Start every part that is not running, as systemd would."""
        for name, command in self._commands().items():
            code = self.parts[name].poll() if name in self.parts else -signal.SIGKILL
            if name != "web" and code not in (None, -signal.SIGKILL):
                self.ended.append((name, code))
            if code is not None:
                env = environment(**SHORT, **self.env, WORKER_KEY=self.key, WORKER_URL=self.address)
                quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                self.parts[name] = subprocess.Popen(
                    command, cwd=ROOT, env=env, start_new_session=name == "web", **quiet
                )  # type: ignore[call-overload]

    def _commands(self) -> dict[str, list[str]]:
        """{part: command} of all parts of the installation."""
        supervise = [*SUPERVISE, "--workers", "1"]
        return {
            "web": granian(self.port, "--workers", "2", "--respawn-failed-workers"),
            **dict.fromkeys(SUPERVISORS, supervise),
            "external worker": [sys.executable, "-m", "tests.chaos.worker"],
        }

    def victims(self, workers: Iterable[str] | None = None) -> dict[int, str]:
        """{pid: role} of every running process.

        `workers` are those that have claimed states, by default those in the test database.
        """
        roles = {
            process.pid: ROLES.get(name, name)
            for name, process in self.parts.items()
            if process.poll() is None
        }
        if workers is None:
            workers = State.objects.filter(status="QUEUED").values_list("worker", flat=True)
        pids = [worker.rpartition(":")[2] for worker in workers]
        busy = {int(pid) for pid in pids if pid.isdigit()}
        for pid in children(self.parts["web"].pid):
            roles[pid] = "web worker"
        for name in SUPERVISORS:
            for parent in children(self.parts[name].pid):
                roles |= _roles_in_cluster(parent, busy)
        return roles

    def idle(self) -> dict[int, str]:
        """{pid: role} of every running process, as if no worker had claimed a state."""
        return self.victims(())

    def kill(self, pid: int) -> bool:
        """SIGKILL a process; return False if it had already ended.

        The children of a killed web parent are killed, too, as its service manager would do.
        """
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        if pid == self.parts["web"].pid:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        for process in self.parts.values():
            if process.pid == pid:
                process.wait(10)
        return True

    def post(self, path: str, body: Any, key: str) -> Any:
        """Repeat a request under one Idempotency-Key until it is answered; return the answer."""
        headers = {
            "X-API-Key": self.key,
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        }
        request = urllib.request.Request(
            f"{self.address}{path}", json.dumps(body).encode(), headers
        )

        def send() -> Any:
            self.revive()
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                assert error.code in (409, 503), (error.code, error.read())
                return None
            except (OSError, ValueError):
                return None

        return until(send, 60, 0.1)

    def code(self, path: str, body: Any = None) -> int:
        """Send one request and return the status code of its response."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.address}{path}",
            data,
            {"X-API-Key": self.key, "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def close(self) -> None:
        for name, process in self.parts.items():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(30)
            if name == "web":
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _roles_in_cluster(parent: int, busy: set[int]) -> dict[int, str]:
    """{pid: role} of the processes of one cluster."""
    roles = {parent: "cluster parent"}
    for sentinel in children(parent):
        roles[sentinel] = "sentinel"
        for pid in children(sentinel):
            roles[pid] = "busy worker" if pid in busy else "idle worker, pusher or monitor"
    return roles


def children(pid: int) -> list[int]:
    """The process ids of the children of a process."""
    pids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended meanwhile
            continue
        if int(fields[1]) == pid:
            pids.append(int(entry.name))
    return pids
