from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs import verifying


class Command(BaseCommand):
    help = "Look for rows and files that belong to no run, and for deleted runs that came back; exit code 1 when there are any."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--fix", action="store_true", help="remove what is found")

    def handle(self, *args: Any, fix: bool, **options: Any) -> None:
        found = list(verifying.verify(fix))
        for each in found:
            more = " …" if each.count > len(each.some) else ""
            self.stdout.write(f"{each.count:,} {each.said}: {', '.join(each.some)}{more}")
        if not found:
            self.stdout.write("Nothing is wrong: every row and every file belongs to a run.")
        elif fix:
            self.stdout.write("All of it was removed.")
        else:
            raise CommandError("Something is left over; --fix removes it.", returncode=1)
