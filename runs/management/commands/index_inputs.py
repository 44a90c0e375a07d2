from django.core.management.base import BaseCommand, CommandParser

from runs.actions import index_inputs


class Command(BaseCommand):
    help = (
        "Index the inputs of runs that started before their graph declared them. A supervisor does"
        " the same, little by little; this does it at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--again",
            action="store_true",
            help="index all runs again; until that is done, their inputs can't be searched",
        )

    def handle(self, *args: object, again: bool, **options: object) -> None:
        if again:
            index_inputs.index_again()
        total = 0
        for count in index_inputs.batches():
            total += count
            if count:
                self.stderr.write(f"{total:,} runs")
        self.stdout.write("The inputs of all runs are indexed as their graphs declare it.")
