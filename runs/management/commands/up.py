import os
import secrets
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from threading import Event
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.cluster.supervisor import Supervisor, die_with_parent


class Command(BaseCommand):
    help = "Migrate, make the first admin, and run the web server with a supervised cluster until Ctrl-C or SIGTERM."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument(
            "--workers",
            type=int,
            choices=range(1, 65),
            metavar="1-64",
            help="worker processes of the cluster",
        )

    def handle(
        self, *args: Any, host: str, port: int, workers: int | None = None, **options: Any
    ) -> None:
        if not _free(host, port):
            raise CommandError(
                f"Port {port} of {host} can't be used: something listens there already, or it is no port of this machine."
            )
        call_command("migrate", verbosity=0)
        self._first_admin()
        stop = Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: stop.set())
        supervisor = Supervisor(workers)
        supervisor.start()
        web = _serve(host, port)
        self.stdout.write(
            f"State Manager is at http://{host}:{port}/admin/ (ready when /healthz answers). Ctrl-C stops it."
        )
        self.stdout.flush()
        try:
            while not stop.wait(0.2) and web.poll() is None:
                supervisor.tick()
            if not stop.is_set():
                self.stderr.write(
                    f"The web server ended with {web.returncode}; is port {port} free?"
                )
        finally:
            web.terminate()
            supervisor.stop()
            with suppress(subprocess.TimeoutExpired):
                web.wait(settings.GRACE_SECONDS)
            with suppress(ProcessLookupError):  # its workers, too, whatever became of their parent
                os.killpg(web.pid, signal.SIGKILL)
            web.wait()
        if not stop.is_set():
            raise SystemExit(1)

    def _first_admin(self) -> None:
        users = get_user_model().objects
        if users.filter(is_superuser=True).exists():
            return
        password = os.environ.get("ADMIN_PASSWORD") or secrets.token_urlsafe(12)
        users.create_superuser("admin", "", password)
        self.stdout.write(
            "Made the first admin: user admin, password "
            + ("from ADMIN_PASSWORD" if os.environ.get("ADMIN_PASSWORD") else password)
        )


def _free(host: str, port: int) -> bool:
    """Whether nobody listens; the server itself would share the port with another one, request by request."""
    try:
        for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[
            :1
        ]:
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except (OSError, OverflowError):
        return False
    return True


def _serve(host: str, port: int) -> subprocess.Popen[bytes]:
    """granian in a process group of its own; it dies with us."""
    count = str(min(os.cpu_count() or 2, 4))
    command = [
        sys.executable,
        "-m",
        "granian",
        "--interface",
        "wsgi",
        "--host",
        host,
        "--port",
        str(port),
        "--workers",
        count,
    ]
    command += [
        "--no-access-log",
        "--log-level",
        "error",
        "--blocking-threads",
        "8",
        "--respawn-failed-workers",
        "statemanager.wsgi:application",
    ]
    environment = {**os.environ, "STATEMANAGER_DIES_WITH_PARENT": "1"}
    return subprocess.Popen(
        command,
        cwd=settings.BASE_DIR,
        env=environment,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
