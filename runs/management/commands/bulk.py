from time import sleep
from typing import Any
from urllib.parse import parse_qs

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.auth.callers import caller_of_command
from graphs.definition import errors
from runs.actions import bulk, bulk_runner
from runs.models import BulkOperation


class Command(BaseCommand):
    help = "Do one thing to all runs that match, here and now: delete, archive, rerun, cancel, pause, resume, retry, label, set_status, export."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=list(bulk.ACTIONS))
        parser.add_argument(
            "--filter",
            default="",
            metavar="QUERY",
            help="the list's query string, such as 'status=failed&since=30d'",
        )
        parser.add_argument(
            "--param",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="of the action: version, from, status, format, active; add=key=value",
        )
        parser.add_argument("--reason", default="")
        parser.add_argument("--dry-run", action="store_true", help="say what it would touch")
        parser.add_argument("--yes", action="store_true", help="don't ask")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            caller, query = (
                caller_of_command(),
                parse_qs(
                    options["filter"].lstrip("?"),
                    strict_parsing=bool(options["filter"].lstrip("?")),
                ),
            )
        except ValueError:
            raise CommandError(
                "--filter is a query string, such as 'status=failed&since=30d'."
            ) from None
        try:
            query = bulk.filter_query(query)
            seen = bulk.preview(action, query, caller)
            self.stdout.write(
                f"{action}: {seen.total:,} runs ({', '.join(f'{count:,} {status}' for status, count in seen.by_status.items()) or 'none'})"
            )
            for name, count in seen.traces.items():
                self.stdout.write(f"  with {count:,} {name}")
            if options["dry_run"] or not seen.total:
                return
            if not options["yes"] and input("Go on? [y/N] ").lower() != "y":
                raise CommandError("Nothing was done.")
            operation = bulk.ask(
                action, query, caller, _params(options["param"]), options["reason"]
            )
        except errors.StateManagerError as error:
            raise CommandError(str(error)) from None
        self._carry_out(operation)

    def _carry_out(self, operation: BulkOperation) -> None:
        """Work on it here, together with whatever cluster takes it up first."""
        while not operation.over:
            if not bulk_runner.run_waiting(1.0):
                sleep(0.2)
            operation.refresh_from_db()
            self.stderr.write(f"{operation.done + operation.failed:,} of {operation.total:,}")
        self.stdout.write(
            f"{operation.done:,} {bulk.ACTIONS[operation.action].done}, {operation.failed:,} failed"
        )
        for result in operation.results.filter(done=False).order_by("pk")[:20]:
            self.stdout.write(f"  {result.run_id}: {result.reason}")
        if operation.file:
            self.stdout.write(operation.file)
        if operation.failed:
            raise CommandError("Some runs failed.", returncode=1)


def _params(pairs: list[str]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise CommandError(f"--param takes KEY=VALUE; it got {pair!r}.")
        if key == "add":
            label, _, text = value.partition("=")
            params.setdefault("add", {})[label] = text
        elif key == "remove":
            params.setdefault("remove", []).append(value)
        else:
            params[key] = value
    return params
