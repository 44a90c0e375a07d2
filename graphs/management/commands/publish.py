"""`manage.py publish`: publish the graphs of JSON files."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.auth.callers import caller_of_command
from graphs.definition import errors
from graphs.services import graph_files


class Command(BaseCommand):
    help = (
        "Publish the graphs in JSON files and folders of them: all, or none. What has not changed"
        " keeps its version."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", metavar="PATH", nargs="+", type=Path)
        parser.add_argument("--namespace", default="default", help="default: default")
        parser.add_argument(
            "--check",
            action="store_true",
            help="only say which graphs would change, and end with 1 if there are any",
        )

    def handle(
        self, *args: str, paths: list[Path], namespace: str, check: bool, **options: Any
    ) -> None:
        caller = caller_of_command()
        try:
            files = graph_files.read(paths)
            if check:
                self._check(graph_files.changed(namespace, files, caller))
                return
            published = graph_files.publish_all(namespace, files, caller)
        except errors.StateManagerError as error:
            raise CommandError(f"Nothing was published. {error}") from None
        for graph in published:
            text = f"version {graph.version}" if graph.is_new else f"unchanged ({graph.version})"
            self.stdout.write(f"{graph.name}: {text}")

    def _check(self, changed: list[str]) -> None:
        for name in changed:
            self.stdout.write(f"{name}: would get a new version")
        if changed:
            raise SystemExit(1)
