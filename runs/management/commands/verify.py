from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.health import verify


class Command(BaseCommand):
    help = "Look for rows and files of no run, deleted runs that came back, and counts that drifted from their states; exit code 1 when there are any."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--fix",
            action="store_true",
            help="remove what is left over, and count anew what drifted",
        )

    def handle(self, *args: Any, fix: bool, **options: Any) -> None:
        found = list(verify.verify(fix))
        for each in found:
            more = " …" if each.count > len(each.some) else ""
            self.stdout.write(f"{each.count:,} {each.said}: {', '.join(each.some)}{more}")
        if not found:
            self.stdout.write(
                "Nothing is wrong: every row and every file belongs to a run, and every count is that of the rows."
            )
        elif fix:
            self.stdout.write("All of it was mended.")
        else:
            raise CommandError("Something is wrong; --fix mends it.", returncode=1)
