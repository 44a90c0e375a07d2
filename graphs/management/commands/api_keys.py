"""`manage.py api_keys`: list the API keys, without their secrets."""

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from graphs.models import ApiKey


class Command(BaseCommand):
    help = "List the API keys: prefix, scope, namespaces, limit, expiry and last use."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--namespace", help="list only keys that open this namespace")
        parser.add_argument(
            "--usable", action="store_true", help="leave out revoked and expired keys"
        )

    def handle(self, *args: str, namespace: str | None, usable: bool, **options: Any) -> None:
        keys = ApiKey.objects.prefetch_related("namespaces").order_by("pk")
        if usable:
            keys = keys.usable()
        for key in keys:
            names = [opened.name for opened in key.namespaces.all()]
            if namespace and not key.all_namespaces and namespace not in names:
                continue
            opened = "all namespaces" if key.all_namespaces else ", ".join(names)
            columns = [key.prefix, key.scope, opened, key.name, *_notes(key)]
            self.stdout.write("  ".join(filter(None, columns)))


def _notes(key: ApiKey) -> list[str]:
    """The limit, the times of expiry and revocation if there are any, and the last use."""
    notes = []
    if key.per_minute is not None:
        notes.append(f"{key.per_minute}/min")
    if key.expires_at:
        notes.append(f"expires {_minute(key.expires_at)}")
    if key.revoked_at:
        notes.append(f"revoked {_minute(key.revoked_at)}")
    notes.append(f"used {_minute(key.last_used_at)}" if key.last_used_at else "never used")
    return notes


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
