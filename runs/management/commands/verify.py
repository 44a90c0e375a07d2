from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.health import verify


class Command(BaseCommand):
    help = (
        "Look for rows and files without a run, files that are missing or have another size than"
        " their row says, files without a row, tombstones of existing runs, and counters that"
        " don't match their states. The exit code is 1 if there are any."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--fix",
            action="store_true",
            help="remove what has no run or row, and correct the counters",
        )
        parser.add_argument(
            "--checksums",
            action="store_true",
            help="read all files, too, and compare their SHA-256 with that of their row",
        )

    def handle(self, *args: object, fix: bool, checksums: bool, **options: object) -> None:
        findings = list(verify.verify(fix, checksums))
        for finding in findings:
            examples = ", ".join(finding.examples)
            more = " …" if finding.count > len(finding.examples) else ""
            self.stdout.write(f"{finding.count:,} {finding.label}: {examples}{more}")
        if not findings:
            self.stdout.write(
                "Nothing is wrong: all rows and files belong to a run, all files are there,"
                " and all counters match their states."
            )
        elif fix and all(finding.fixable for finding in findings):
            self.stdout.write("Everything was fixed.")
        elif fix:
            raise CommandError(
                "Files that are missing or damaged can't be fixed. Restore them from a backup.",
                returncode=1,
            )
        else:
            raise CommandError(
                "Something is wrong. Run manage.py verify --fix to fix it.", returncode=1
            )
