from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from graphs.definition.errors import StateManagerError
from runs.health import backup


class Command(BaseCommand):
    help = (
        "Copy a running SQLite installation to a new folder: the database, the files and the keys,"
        " consistently. VAR_DIR=FOLDER starts the copy."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="the folder to create")

    def handle(self, *args: object, folder: Path, **options: object) -> None:
        try:
            copy = backup.backup(folder.absolute())
        except (StateManagerError, OSError) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(
            f"Copied {copy.runs:,} runs and {copy.files:,} files"
            f" ({filesizeformat(copy.size)}) to {copy.folder}."
        )
