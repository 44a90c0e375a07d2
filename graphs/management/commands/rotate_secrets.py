"""`manage.py rotate_secrets`: encrypt all secrets anew with the first of SECRETS_KEYS."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from graphs.definition import errors
from graphs.services import secrets


class Command(BaseCommand):
    help = "Encrypt every secret with the first key of SECRETS_KEYS; afterwards the other keys may be taken away. Safe while work goes on."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            done = secrets.rotate()
        except errors.Conflict as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{done} secrets are encrypted with the first key now.")
