"""`manage.py revoke_api_key PREFIX…`: these keys open nothing any more."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.auth import api_keys
from graphs.models import ApiKey


class Command(BaseCommand):
    help = "Revoke API keys by their prefix (manage.py api_keys lists them)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", nargs="+")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = {prefix.removeprefix("sm_").split("_")[0] for prefix in options["prefix"]}
        found = ApiKey.objects.filter(prefix__in=wanted)
        if unknown := wanted - set(found.values_list("prefix", flat=True)):
            raise CommandError(
                f"There is no key {', '.join(sorted(unknown))}; nothing was revoked."
            )
        self.stdout.write(f"{api_keys.revoke(found)} revoked.")
