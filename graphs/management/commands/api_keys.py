"""`manage.py api_keys`: list the API keys, without their secrets."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from graphs.models import ApiKey


class Command(BaseCommand):
    help = "List the API keys: prefix, scope, namespaces, limits and when each was used."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--namespace", help="only those that open this one")
        parser.add_argument("--usable", action="store_true", help="neither revoked nor expired")

    def handle(self, *args: Any, **options: Any) -> None:
        keys = ApiKey.objects.prefetch_related("namespaces").order_by("pk")
        if options["usable"]:
            keys = keys.usable(timezone.now())
        for key in keys:
            opened = (
                "all namespaces"
                if key.all_namespaces
                else ", ".join(namespace.name for namespace in key.namespaces.all())
            )
            if (
                options["namespace"]
                and not key.all_namespaces
                and options["namespace"] not in opened.split(", ")
            ):
                continue
            notes = [
                f"{key.per_minute}/min" if key.per_minute is not None else "",
                f"expires {key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else "",
                f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "",
                f"used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used",
            ]
            self.stdout.write(
                "  ".join(filter(None, [key.prefix, key.scope, opened, key.name, *notes]))
            )
