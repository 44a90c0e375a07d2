"""`manage.py revoke_api_key PREFIX…`: revoke API keys."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.auth import api_keys
from graphs.auth.callers import caller_of_command
from graphs.models import ApiKey


class Command(BaseCommand):
    help = "Revoke API keys by their prefixes, which `manage.py api_keys` lists."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", nargs="+")

    def handle(self, *args: str, prefix: list[str], **options: Any) -> None:
        # Somebody may paste a whole key: sm_<prefix>_<secret>.
        prefixes = {text.removeprefix("sm_").split("_")[0] for text in prefix}
        keys = ApiKey.objects.filter(prefix__in=prefixes)
        unknown = prefixes - set(keys.values_list("prefix", flat=True))
        if unknown:
            raise CommandError(f"There is no key {', '.join(sorted(unknown))}. No key was revoked.")
        self.stdout.write(f"{api_keys.revoke(keys, caller_of_command())} revoked.")
