import os
import secrets
import socket

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.editor.named_form import lacks_namespace
from graphs.models import Namespace
from runs.cluster.processes import stop_on_signals
from runs.cluster.supervisor import Supervisor
from runs.cluster.web_server import WebServer
from runs.core import silent_path, sql

FIRST_NAMESPACE = "default"


class Command(BaseCommand):
    help = (
        "Migrate the database, create the first admin, and run the web server and a supervised"
        " cluster until Ctrl-C or SIGTERM."
    )
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
        parser.add_argument("--port", type=int, default=8000, help="default: 8000")
        parser.add_argument(
            "--workers",
            type=int,
            choices=range(1, 65),
            metavar="1-64",
            help="the number of the cluster's worker processes",
        )

    def handle(
        self,
        *args: object,
        host: str,
        port: int,
        workers: int | None = None,
        **options: object,
    ) -> None:
        if not _is_free(host, port):
            raise CommandError(
                f"Port {port} of {host} can't be used: another program listens on it, or this"
                " machine has no such address. Choose another with --host and --port."
            )
        call_command("migrate", verbosity=0)
        self._create_first_admin()
        self._create_first_namespace()
        sql.limit_lock_waits(sql.ENGINE_LOCK_SECONDS)
        silent_path.watch()
        self._serve(host, port, Supervisor(workers))

    def _serve(self, host: str, port: int, supervisor: Supervisor) -> None:
        """Run the cluster and the web server until a signal comes or the server can't start."""
        stop = stop_on_signals()
        supervisor.tick()  # starts the cluster
        web = WebServer(host, port)
        self.stdout.write(
            f"State Manager is at http://{host}:{port}/admin/ (ready when /healthz answers)."
            " Ctrl-C stops it."
        )
        self.stdout.flush()
        failed = None
        try:
            while failed is None and not stop.wait(0.2):
                supervisor.tick()
                failed = web.tick()
        finally:
            web.terminate()
            supervisor.stop()
            web.wait()
        if failed is not None:
            raise CommandError(
                f"The web server ended with exit code {failed}. Is port {port} free?"
            )

    def _create_first_admin(self) -> None:
        users = get_user_model().objects
        if users.filter(is_superuser=True).exists():
            return
        given_password = os.environ.get("ADMIN_PASSWORD")
        password = given_password or secrets.token_urlsafe(12)
        users.create_superuser("admin", "", password)
        shown = "from ADMIN_PASSWORD" if given_password else password
        self.stdout.write(f"Created the first admin: user admin, password {shown}")

    def _create_first_namespace(self) -> None:
        """Without a namespace nobody could draw a graph or upload a dataset."""
        if lacks_namespace():
            Namespace.objects.create(name=FIRST_NAMESPACE)
            self.stdout.write(f"Created the first namespace: {FIRST_NAMESPACE}")


def _is_free(host: str, port: int) -> bool:
    """Return whether no program listens on this port.

    The web server wouldn't notice: it would share the port with the other program, and each would
    get some of the requests.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError):
        return False
    return True
