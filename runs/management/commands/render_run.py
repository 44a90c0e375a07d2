from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.models import Run
from runs.queries.diagram import run_svg


class Command(BaseCommand):
    help = "Write the picture of a run (the newest, without an id) as SVG to standard output."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_id", nargs="?")

    def handle(self, *args: Any, run_id: str | None, **options: Any) -> None:
        runs = Run.objects.select_related("version", "graph").exclude(version=None).order_by("-id")
        run = (runs.filter(run_id=run_id) if run_id else runs).first()
        if run is None:
            raise CommandError(
                f"There is no run {run_id!r} of a graph."
                if run_id
                else "There is no run of a graph yet."
            )
        self.stdout.write(run_svg(run), ending="")
