"""`manage.py create_api_key`: make an API key and print it."""

from datetime import UTC, date, datetime, time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.auth import api_keys
from graphs.auth.callers import caller_of_command
from graphs.definition import errors
from graphs.models import ApiKey, clock

MAX_PER_MINUTE = 2**31 - 1  # what the column holds


class Command(BaseCommand):
    help = "Make an API key and print it on standard output. It can't be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--namespace",
            metavar="NS",
            action="append",
            default=[],
            help="a namespace that the key opens; may be repeated; without it, all of them",
        )
        parser.add_argument("--scope", choices=ApiKey.Scope.values, default=ApiKey.Scope.RUN)
        parser.add_argument(
            "--expires", metavar="DATE", help="the last day of the key, such as 2027-12-31"
        )
        parser.add_argument(
            "--per-minute",
            type=int,
            metavar="N",
            help="the number of requests per minute; without it, there is no limit",
        )
        parser.add_argument("--name", default="", help="a name to tell keys apart")

    def handle(
        self,
        *args: str,
        namespace: list[str],
        scope: str,
        expires: str | None,
        per_minute: int | None,
        name: str,
        **options: Any,
    ) -> None:
        if per_minute is not None and not 1 <= per_minute <= MAX_PER_MINUTE:
            raise CommandError(f"--per-minute must be a number from 1 to {MAX_PER_MINUTE}.")
        try:
            key, text = api_keys.create_key(
                namespace,
                scope,
                caller_of_command(),
                expires_at=_end_of(expires) if expires else None,
                per_minute=per_minute,
                name=name,
            )
        except errors.Malformed as error:
            raise CommandError(str(error)) from None
        opened = ", ".join(namespace) or "all namespaces"
        self.stderr.write(
            f"Made the key {key.prefix} with scope {scope} for {opened}."
            " Copy it now; it can't be shown again:"
        )
        self.stdout.write(text)


def _end_of(day: str) -> datetime:
    """The last moment of a day in UTC. Raises CommandError if it is no date, or has passed."""
    try:
        end = datetime.combine(date.fromisoformat(day), time.max, UTC)
    except ValueError:
        raise CommandError(f"--expires must be a date such as 2027-12-31, not {day!r}.") from None
    if end < clock.now():
        raise CommandError(f"--expires must not be in the past; {day} is.")
    return end
