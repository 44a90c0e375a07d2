"""`manage.py load_dataset`: load a dataset from files, and print its id."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.auth.callers import caller_of_command
from graphs.auth.namespaces import ensure_namespace
from graphs.definition import errors
from graphs.models import Dataset
from graphs.services import dataset_files, datasets, dialects
from graphs.services.dataset_files import Reading


class Command(BaseCommand):
    help = (
        "Load a dataset from a folder, a zip, or CSV and JSON Lines files, and print its id. If"
        " one file is wrong, nothing is loaded."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAMESPACE/DATASET")
        parser.add_argument("paths", metavar="PATH", nargs="+", type=Path)
        parser.add_argument(
            "--encoding",
            default="utf-8",
            help="the encoding of the files, such as latin-1; the default is utf-8",
        )

        parser.add_argument(
            "--delimiter",
            choices=list(dialects.BY_NAME),
            default=dialects.AUTO,
            help="what separates the columns of CSV files; auto, the default, looks at each file",
        )

    def handle(
        self,
        *args: str,
        name: str,
        paths: list[Path],
        encoding: str,
        delimiter: str,
        **options: Any,
    ) -> None:
        reading = Reading(encoding, dialects.BY_NAME[delimiter])
        namespace, _, dataset_name = name.partition("/")
        if not namespace or not dataset_name:
            raise CommandError("The name must be NAMESPACE/DATASET, such as default/flights.")
        try:
            dataset = _load(namespace, dataset_name, paths, reading)
        except errors.StateManagerError as error:
            problems = error.extra.get("errors") or [str(error)]
            raise CommandError("\n  ".join(["Nothing was loaded:", *problems])) from None
        for table in dataset.tables.all():
            self.stderr.write(f"{table.name}: {table.rows:,} rows, {len(table.columns)} columns")
        self.stdout.write(str(dataset.pk))


def _load(namespace_name: str, name: str, paths: list[Path], reading: Reading) -> Dataset:
    """Load the files at these paths into a namespace, which is made if it does not exist."""
    with ExitStack() as stack:
        sources: list[dataset_files.Source] = []
        for path in paths:
            sources += stack.enter_context(dataset_files.sources_at(path))
        caller = caller_of_command()
        namespace = ensure_namespace(namespace_name, caller)
        origin = ", ".join(map(str, paths))
        return datasets.load(namespace, name, sources, reading, origin, caller)
