import signal
from threading import Event
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from runs.cluster.supervisor import Supervisor


class Command(BaseCommand):
    help = "Run a cluster of workers and look after it, until Ctrl-C or SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--workers",
            type=int,
            choices=range(1, 65),
            metavar="1-64",
            help="worker processes (default: one per core, at most 4)",
        )

    def handle(self, *args: Any, workers: int | None, **options: Any) -> None:
        stop = Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: stop.set())
        supervisor = Supervisor(workers)
        supervisor.start()
        self.stderr.write(
            f"Supervising cluster {supervisor.name} with {supervisor.workers} workers. Ctrl-C stops it."
        )
        try:
            while not stop.wait(0.2):
                supervisor.tick()
        finally:
            supervisor.stop()
