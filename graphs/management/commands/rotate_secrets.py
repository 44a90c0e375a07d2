"""`manage.py rotate_secrets`: encrypt all secrets again with the first of SECRETS_KEYS."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from graphs.definition import errors
from graphs.services import secrets


class Command(BaseCommand):
    help = (
        "Encrypt every secret with the first key of SECRETS_KEYS. Afterwards, the other keys can"
        " be removed. This is safe while workers are running."
    )

    def handle(self, *args: str, **options: Any) -> None:
        try:
            count = secrets.rotate()
        except errors.Conflict as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{count} secrets are now encrypted with the first key.")
