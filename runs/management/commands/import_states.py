"""`manage.py import_states FILE`: take over the states of an Exosphere system from an export (JSON Lines)."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.definition import errors
from runs.health.import_exosphere import import_states


class Command(BaseCommand):
    help = "Import the states of an Exosphere system from a mongoexport of its State collection. Repeating it changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="JSON Lines, UTF-8")
        parser.add_argument(
            "--default-run-id",
            default="legacy",
            help="rows without a run id go to the run NAME-<graph> (legacy)",
        )
        parser.add_argument("--namespace", default="", help="only the rows of this namespace")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with open(options["file"], encoding="utf-8") as file:
                done = import_states(file, options["default_run_id"], options["namespace"])
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{options['file']} can't be read: {error}") from None
        except errors.StateManagerError as error:
            raise CommandError("\n  ".join([str(error), *error.extra.get("errors", [])])) from None
        self.stdout.write(
            f"{done.read} rows read, {done.without_run_id} without a run id; {done.states} states and {done.runs} runs are new."
        )
        if done.unfinished:
            self.stdout.write(
                f"{done.unfinished} states were not finished when they were exported; they are CANCELLED here."
            )
