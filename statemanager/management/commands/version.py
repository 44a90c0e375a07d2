from django.core.management.base import BaseCommand

import statemanager


class Command(BaseCommand):
    help = "Print the version of State Manager."
    requires_system_checks: list[str] = []

    def handle(self, *args: object, **options: object) -> None:
        self.stdout.write(statemanager.__version__)
