from django.core.management.base import BaseCommand, CommandError

from runs.health import doctor


class Command(BaseCommand):
    help = (
        "Report what is wrong with this installation and how to fix it."
        " The exit code is 1 if work has stopped or is in danger."
    )

    def handle(self, *args: object, **options: object) -> None:
        findings = doctor.examine()
        for finding in findings:
            self.stdout.write(f"{finding.level}: {finding.message}\n    {finding.fix}")
        if any(finding.level == "error" for finding in findings):
            raise CommandError("The installation has errors that need to be fixed.", returncode=1)
        if findings:
            self.stdout.write("There are warnings, but no errors.")
        else:
            self.stdout.write("All is well: nothing was found.")
