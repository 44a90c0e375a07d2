"""A whole installation that can be hurt: a web server, two supervised clusters, and an external worker, each in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from runs.models import State
from tests.support.clusters import ROOT, environment, free_port, until

SHORT = {"WORKER_LEASE_SECONDS": "4", "LOG_LEVEL": "ERROR"}

SUPERVISORS = (
    "supervisor",
    "other supervisor",
)  # two, as on two hosts: while one is killed the other sweeps, and its cluster claims
ROLES = {"web": "web parent", "other supervisor": "supervisor"}


class Installation:
    def __init__(self, key: str, **env: str) -> None:
        self.key, self.env = key, env
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        self.revive()

    def revive(self) -> None:
        """Start what isn't running, as systemd would."""
        for name, command in self._commands().items():
            if name not in self.parts or self.parts[name].poll() is not None:
                env = environment(**SHORT, **self.env, WORKER_KEY=self.key, WORKER_URL=self.address)
                quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                self.parts[name] = subprocess.Popen(
                    command, cwd=ROOT, env=env, start_new_session=name == "web", **quiet
                )  # type: ignore[call-overload]

    def _commands(self) -> dict[str, list[str]]:
        web = [
            "--interface",
            "wsgi",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--workers",
            "2",
            "--blocking-threads",
            "2",
            "--respawn-failed-workers",
        ]
        return {
            "web": [
                sys.executable,
                "-m",
                "granian",
                *web,
                "--no-access-log",
                "--log-level",
                "error",
                "statemanager.wsgi:application",
            ],
            **{
                name: [sys.executable, "-m", "django", "supervise", "--workers", "1"]
                for name in SUPERVISORS
            },
            "external worker": [sys.executable, "-m", "tests.chaos.worker"],
        }

    def victims(self) -> dict[int, str]:
        """{pid: role} of everything that runs."""
        found = {
            process.pid: ROLES.get(name, name)
            for name, process in self.parts.items()
            if process.poll() is None
        }
        held = State.objects.filter(status="QUEUED").values_list("worker", flat=True)
        busy = {int(pid) for worker in held if (pid := worker.rpartition(":")[2]).isdigit()}
        for pid in children(self.parts["web"].pid):
            found[pid] = "web worker"
        for parent in (
            cluster for name in SUPERVISORS for cluster in children(self.parts[name].pid)
        ):
            found[parent] = "cluster parent"
            for sentinel in children(parent):
                found[sentinel] = "sentinel"
                found |= {
                    pid: "busy worker" if pid in busy else "idle worker, pusher or monitor"
                    for pid in children(sentinel)
                }
        return found

    def kill(self, pid: int) -> bool:
        """SIGKILL; what was killed with its children behind it is ended whole, as its service manager does."""
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
        """A request that is repeated, under one Idempotency-Key, until it is answered."""
        headers = {
            "X-API-Key": self.key,
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        }
        request = urllib.request.Request(
            f"{self.address}{path}", json.dumps(body).encode(), headers
        )

        def sent() -> Any:
            self.revive()
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as refused:
                assert refused.code in (409, 503), (refused.code, refused.read())
                return None
            except (OSError, ValueError):
                return None

        return until(sent, 60, 0.1)

    def code(self, path: str, body: Any = None) -> int:
        """How one request is answered."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.address}{path}",
            data,
            {"X-API-Key": self.key, "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code

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


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found
