from time import sleep
from urllib.parse import parse_qs

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.auth.callers import caller_of_command
from graphs.definition import errors, payloads
from graphs.definition.types import Json, JsonObject
from runs.actions import bulk, bulk_runner
from runs.models import BulkOperation

MAX_FAILURES_SHOWN = 20


class Command(BaseCommand):
    help = (
        "Run one action on all runs that match a filter: delete, archive, unarchive, rerun, cancel,"
        " pause, resume, retry, label, set_status or export."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=list(bulk.ACTIONS))
        parser.add_argument(
            "--filter",
            default="",
            metavar="QUERY",
            help="the query string of the run list, such as 'status=failed&since=30d'",
        )
        parser.add_argument(
            "--param",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="a parameter of the action: version, from, inputs=JSON, status, format, active,"
            " add=LABEL=TEXT or remove=LABEL",
        )
        parser.add_argument("--reason", default="", help="why; the audit log shows it")
        parser.add_argument(
            "--dry-run", action="store_true", help="only show what would be affected"
        )
        parser.add_argument("--yes", action="store_true", help="don't ask for confirmation")

    def handle(
        self,
        *args: object,
        action: str,
        filter: str,
        param: list[str],
        reason: str,
        dry_run: bool,
        yes: bool,
        **options: object,
    ) -> None:
        caller = caller_of_command()
        query = _parse_filter(filter)
        try:
            query = bulk.filter_query(query)
            preview = bulk.preview(action, query, caller)
            self._show(action, preview)
            if dry_run or not preview.total:
                return
            if not yes and input("Continue? [y/N] ").lower() != "y":
                raise CommandError("Nothing was done.")
            operation = bulk.ask(action, query, caller, _parse_params(param), reason)
        except errors.StateManagerError as error:
            raise CommandError(str(error)) from None
        self._run(operation)
        self._report(operation)

    def _show(self, action: str, preview: bulk.Preview) -> None:
        by_status = ", ".join(f"{count:,} {status}" for status, count in preview.by_status.items())
        self.stdout.write(f"{action}: {preview.total:,} runs ({by_status or 'none'})")
        for name, count in preview.traces.items():
            self.stdout.write(f"  with {count:,} {name}")

    def _run(self, operation: BulkOperation) -> None:
        """Work on the operation here, unless a cluster was faster to take it."""
        while not operation.over:
            if not bulk_runner.run_waiting(1.0):
                sleep(0.2)
            operation.refresh_from_db()
            done = operation.done + operation.failed
            self.stderr.write(f"{done:,} of {operation.total:,}")

    def _report(self, operation: BulkOperation) -> None:
        label = bulk.ACTIONS[operation.action].done
        self.stdout.write(f"{operation.done:,} {label}, {operation.failed:,} failed")
        failures = operation.results.filter(done=False).order_by("pk")
        for result in failures[:MAX_FAILURES_SHOWN]:
            self.stdout.write(f"  {result.run_id}: {result.reason}")
        if operation.file:
            self.stdout.write(operation.file)
        if operation.failed:
            raise CommandError("The action failed for some runs.", returncode=1)


def _parse_filter(text: str) -> JsonObject:
    query = text.lstrip("?")
    try:
        return parse_qs(query, strict_parsing=bool(query))
    except ValueError:
        raise CommandError(
            "--filter must be a query string, such as 'status=failed&since=30d'."
        ) from None


def _json(text: str) -> Json:
    try:
        return payloads.parse(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"inputs must be JSON, such as {{}}: {error}") from None


def _parse_params(pairs: list[str]) -> JsonObject:
    params: JsonObject = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise CommandError(f"--param takes KEY=VALUE, not {pair!r}.")
        if key == "add":
            label, _, text = value.partition("=")
            params.setdefault("add", {})[label] = text
        elif key == "remove":
            params.setdefault("remove", []).append(value)
        elif key == "inputs":
            params[key] = _json(value)
        else:
            params[key] = value
    return params
