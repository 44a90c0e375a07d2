from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.health import verify


class Command(BaseCommand):
    help = (
        "Look for rows and files without a run, tombstones of existing runs, and counters that"
        " don't match their states. The exit code is 1 if there are any."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--fix",
            action="store_true",
            help="remove what has no run, and correct the counters",
        )

    def handle(self, *args: object, fix: bool, **options: object) -> None:
        findings = list(verify.verify(fix))
        for finding in findings:
            examples = ", ".join(finding.examples)
            more = " …" if finding.count > len(finding.examples) else ""
            self.stdout.write(f"{finding.count:,} {finding.label}: {examples}{more}")
        if not findings:
            self.stdout.write(
                "Nothing is wrong: all rows and files belong to a run,"
                " and all counters match their states."
            )
        elif fix:
            self.stdout.write("Everything was fixed.")
        else:
            raise CommandError(
                "Something is wrong. Run manage.py verify --fix to fix it.", returncode=1
            )
