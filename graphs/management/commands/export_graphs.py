"""`manage.py export_graphs`: write the graphs of a namespace into a folder."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.auth import acts
from graphs.auth.callers import caller_of_command
from graphs.definition import errors
from graphs.models import Namespace
from graphs.services import graph_files


class Command(BaseCommand):
    help = "Write the current version of each graph of a namespace into a folder, as JSON files."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", metavar="FOLDER", type=Path)
        parser.add_argument("--namespace", default="default", help="default: default")

    def handle(self, *args: str, folder: Path, namespace: str, **options: Any) -> None:
        try:
            written = graph_files.write(namespace, folder)
        except errors.StateManagerError as error:
            raise CommandError(str(error)) from None
        for path in written:
            self.stdout.write(str(path))
        space = Namespace.objects.get(name=namespace)
        acts.record(caller_of_command(), "export_graph", space.pk, f"to {folder}")
