"""Real clusters for tests: a supervisor in a process of its own, on the test database, with short times."""

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

ROOT = Path(__file__).parent.parent.parent
FAST = {
    "LEASE_SECONDS": "4",
    "HEARTBEAT_SECONDS": "1",
    "SWEEP_SECONDS": "1",
    "PROBE_SECONDS": "2",
    "GRACE_SECONDS": "5",
}


def database_url() -> str:
    """The URL of the test database, for child processes."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    return (
        f"postgresql://{settings['USER']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    )


def environment(**values: str) -> dict[str, str]:
    """What a child process needs to work on the test database with the test nodes."""
    return {
        **os.environ,
        "DATABASE_URL": database_url(),
        "VAR_DIR": str(settings.VAR),
        "DJANGO_SETTINGS_MODULE": "tests.child_settings",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "SECRET_KEY": "only-for-tests",
        "SECRETS_KEYS": ",".join(settings.SECRETS_KEYS),
        "ALLOWED_HOSTS": "*",
        "HTTPS": "0",
        "SQLITE_SYNCHRONOUS": "OFF",
        **FAST,
        **values,
    }


@contextmanager
def supervised(workers: int = 2, **values: str) -> Iterator[subprocess.Popen[bytes]]:
    """A supervised cluster; it is stopped at the end, as a user would."""
    command = [sys.executable, "-m", "django", "supervise", "--workers", str(workers)]
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


@contextmanager
def served(**values: str) -> Iterator[str]:
    """The web server on a free port of this machine; gives its address."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "granian",
        "--interface",
        "wsgi",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "2",
    ]
    command += [
        "--blocking-threads",
        "4",
        "--no-access-log",
        "--log-level",
        "error",
        "statemanager.wsgi:application",
    ]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(**values), start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is None and _answers(f"{address}/health"))
        yield address
    finally:
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
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def until(condition: Callable[[], Any], seconds: float = 30, pause: float = 0.05) -> Any:
    """Wait for a condition; the failure says how long it waited."""
    deadline = monotonic() + seconds
    while not (found := condition()):
        assert monotonic() < deadline, f"not within {seconds} s"
        sleep(pause)
    return found


def group_of(leader: int) -> dict[int, str]:
    """{pid: command} of the live processes of a session, zombies left out."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found[int(entry.name)] = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                )
        except OSError:
            continue
    return found


def sqlite() -> bool:
    return connection.vendor == "sqlite"
