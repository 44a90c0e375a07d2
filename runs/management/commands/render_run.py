from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.models import Run
from runs.queries.diagram import run_svg


class Command(BaseCommand):
    help = "Write the diagram of a run as SVG to standard output."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_id", nargs="?", help="default: the newest run of any graph")

    def handle(self, *args: object, run_id: str | None, **options: object) -> None:
        runs = Run.objects.select_related("version", "graph").exclude(version=None).order_by("-id")
        if run_id:
            runs = runs.filter(run_id=run_id)
        run = runs.first()
        if run is None and run_id:
            raise CommandError(f"There is no run {run_id!r} of a graph.")
        if run is None:
            raise CommandError("There is no run of a graph yet.")
        self.stdout.write(run_svg(run), ending="")
