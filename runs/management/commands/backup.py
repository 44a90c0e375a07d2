from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from graphs.definition.errors import StateManagerError
from runs.health import backup


class Command(BaseCommand):
    help = "Copy a living SQLite installation, consistently, to a new folder: database, files and keys. VAR_DIR=FOLDER starts the copy."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path)

    def handle(self, *args: Any, folder: Path, **options: Any) -> None:
        try:
            copy = backup.backup(folder.absolute())
        except (StateManagerError, OSError) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(
            f"{copy.runs:,} runs and {copy.files:,} files, {filesizeformat(copy.size)}, are in {copy.folder}."
        )
