from django.core.management.base import BaseCommand, CommandParser

from runs.cluster.processes import stop_on_signals
from runs.cluster.supervisor import Supervisor
from runs.core import silent_path, sql


class Command(BaseCommand):
    help = "Run a cluster of workers and supervise it until Ctrl-C or SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--workers",
            type=int,
            choices=range(1, 65),
            metavar="1-64",
            help="the number of worker processes (default: one per core, at most 4)",
        )

    def handle(self, *args: object, workers: int | None, **options: object) -> None:
        stop = stop_on_signals()
        sql.limit_lock_waits(sql.ENGINE_LOCK_SECONDS)
        silent_path.watch()
        supervisor = Supervisor(workers)
        supervisor.tick()  # starts the cluster; if the database is away, a later round does
        self.stderr.write(
            f"Supervising the cluster {supervisor.name} with {supervisor.workers} workers."
            " Ctrl-C stops it."
        )
        try:
            while not stop.wait(0.2):
                supervisor.tick()
        finally:
            supervisor.stop()
