from typing import Any

from django.core.management.base import BaseCommand, CommandError

from runs.health import doctor


class Command(BaseCommand):
    help = "Say what is wrong with this installation and what to do about it; exit code 1 when something stands still or is in danger."

    def handle(self, *args: Any, **options: Any) -> None:
        found = doctor.examine()
        for each in found:
            self.stdout.write(f"{each.level}: {each.said}\n    {each.fix}")
        if any(each.level == "error" for each in found):
            raise CommandError("The installation needs care.", returncode=1)
        self.stdout.write("No work stands still." if found else "All is well: nothing was found.")
