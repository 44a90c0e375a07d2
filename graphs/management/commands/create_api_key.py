from datetime import UTC, date, datetime, time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.auth import api_keys
from graphs.definition import errors
from graphs.models import ApiKey


class Command(BaseCommand):
    help = "Make an API key and print it, this once, on standard output."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--namespace",
            metavar="NS",
            action="append",
            default=[],
            help="a namespace that it opens; none means all of them",
        )
        parser.add_argument("--scope", choices=ApiKey.Scope.values, default=ApiKey.Scope.RUN)
        parser.add_argument(
            "--expires", metavar="DATE", help="the last day on which it works, as 2027-12-31"
        )
        parser.add_argument(
            "--per-minute",
            type=int,
            metavar="N",
            help="how many requests it may make in a minute; without it any number",
        )
        parser.add_argument("--name", default="")

    def handle(
        self,
        *args: Any,
        namespace: list[str],
        scope: str,
        expires: str | None,
        per_minute: int | None,
        name: str,
        **options: Any,
    ) -> None:
        if per_minute is not None and not 1 <= per_minute < 2**31:
            raise CommandError("--per-minute takes a number from 1.")
        try:
            key, text = api_keys.create_key(
                namespace,
                scope,
                expires_at=_end_of(expires) if expires else None,
                per_minute=per_minute,
                name=name,
            )
        except errors.Malformed as error:
            raise CommandError(str(error)) from None
        self.stderr.write(
            f"Key {key.prefix} with scope {scope} for {', '.join(namespace) or 'all namespaces'}; it is shown only now:"
        )
        self.stdout.write(text)


def _end_of(day: str) -> datetime:
    try:
        end = datetime.combine(date.fromisoformat(day), time.max, UTC)
    except ValueError:
        raise CommandError(f"--expires takes a date such as 2027-12-31; it got {day!r}.") from None
    if end < datetime.now(UTC):
        raise CommandError(f"--expires lies in the past: {day}.")
    return end
