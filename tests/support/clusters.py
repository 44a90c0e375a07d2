"""Real clusters and web servers for tests, as processes on the test database.

Leases, heartbeats and probes are shorter than in production.
"""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from django.conf import settings
from django.db import connection

from statemanager.conf import conf

ROOT = Path(__file__).parent.parent.parent
FAST = {
    "LEASE_SECONDS": "4",
    "HEARTBEAT_SECONDS": "1",
    "SWEEP_SECONDS": "1",
    "PROBE_SECONDS": "2",
    "GRACE_SECONDS": "5",
}
# Without Django's checks, which import all pages: a third of the time of a start.
SUPERVISE = [sys.executable, "-m", "django", "supervise", "--skip-checks"]


def database_url() -> str:
    """The URL of the test database, for child processes."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    return (
        f"postgresql://{settings['USER']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    )


def environment(**values: str) -> dict[str, str]:
    """The environment of a child process that uses the test database and the test nodes."""
    return {
        **os.environ,
        "DATABASE_URL": database_url(),
        "VAR_DIR": str(settings.VAR),
        "DJANGO_SETTINGS_MODULE": "tests.child_settings",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "SECRET_KEY": "only-for-tests-and-as-long-as-a-real-one",
        "SECRETS_KEYS": ",".join(conf.SECRETS_KEYS),
        "ALLOWED_HOSTS": "*",
        "HTTPS": "0",
        "SQLITE_SYNCHRONOUS": "OFF",
        **FAST,
        **values,
    }


@contextmanager
def supervised(workers: int = 2, **values: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a supervised cluster; at the end it is stopped with SIGTERM, as systemd would."""
    command = [*SUPERVISE, "--workers", str(workers)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(**values), stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        assert b"Supervising" in process.stderr.readline() or process.poll() is None
        os.set_blocking(process.stderr.fileno(), False)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stderr.close()


def granian(port: int, *options: str, interface: str = "asgi") -> list[str]:
    """The command of a web server. "wsgi" runs the application without `slow_clients`."""
    own = {"asgi": ["--no-ws"], "wsgi": ["--blocking-threads", "8"]}[interface]
    return [
        *(sys.executable, "-m", "granian", "--interface", interface),
        *("--host", "127.0.0.1", "--port", str(port), *own, *options),
        *("--no-access-log", "--log-level", "error"),
        f"statemanager.{interface}:application",
    ]


@contextmanager
def served(interface: str = "asgi", **values: str) -> Iterator[str]:
    """Run the web server on a free port; yield its address."""
    port = free_port()
    env = environment(**{"WEB_THREADS": "4", **values})
    process = subprocess.Popen(
        granian(port, "--workers", "2", interface=interface),
        cwd=ROOT,
        env=env,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is None and _answers(f"{address}/health"))
        yield address
    finally:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """End a server that leads a session of its own, with its workers, even on a busy machine."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def until(condition: Callable[[], Any], seconds: float = 30, pause: float = 0.05) -> Any:
    """Wait until the condition returns something true, and return that."""
    deadline = monotonic() + seconds
    while not (result := condition()):
        assert monotonic() < deadline, f"the condition was not true within {seconds} s"
        sleep(pause)
    return result


def group_of(leader: int) -> dict[int, str]:
    """{pid: command} of the live processes of a session, without zombies."""
    commands = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                commands[int(entry.name)] = b" ".join(arguments).decode()
        except OSError:
            continue
    return commands


def sqlite() -> bool:
    return connection.vendor == "sqlite"
