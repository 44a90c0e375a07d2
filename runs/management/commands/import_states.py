from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.definition import errors
from runs.health.import_exosphere import import_states


class Command(BaseCommand):
    help = (
        "Import the states of an Exosphere system from an export of its State collection, as"
        " mongoexport writes it (JSON Lines). Importing the same file again changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="JSON Lines in UTF-8")
        parser.add_argument(
            "--default-run-id",
            default="legacy",
            metavar="NAME",
            help="rows without a run id go to the run NAME-<graph> (default: legacy)",
        )
        parser.add_argument("--namespace", default="", help="import only this namespace")

    def handle(
        self, *args: object, file: str, default_run_id: str, namespace: str, **options: object
    ) -> None:
        try:
            with open(file, encoding="utf-8") as lines:
                result = import_states(lines, default_run_id, namespace)
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} can't be read: {error}") from None
        except errors.StateManagerError as error:
            raise CommandError("\n  ".join([str(error), *error.extra.get("errors", [])])) from None
        self.stdout.write(
            f"Read {result.read} rows, {result.without_run_id} of them without a run id."
            f" {result.states} states and {result.runs} runs are new."
        )
        if result.unfinished:
            self.stdout.write(
                f"{result.unfinished} states were unfinished when they were exported;"
                " they are CANCELLED now."
            )
