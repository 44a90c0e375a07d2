from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.definition import errors, names
from graphs.models import Namespace
from graphs.services import datasets


class Command(BaseCommand):
    help = "Load a dataset from a folder, a zip, or CSV and JSON Lines files; all of it, or nothing. Prints its id."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAMESPACE/DATASET")
        parser.add_argument("paths", metavar="PATH", nargs="+", type=Path)
        parser.add_argument(
            "--encoding", default="utf-8", help="of the files, if it is not UTF-8, such as latin-1"
        )

    def handle(
        self, *args: Any, name: str, paths: list[Path], encoding: str, **options: Any
    ) -> None:
        namespace_name, _, dataset_name = name.partition("/")
        if not namespace_name or not dataset_name:
            raise CommandError("The name is NAMESPACE/DATASET, such as default/flights.")
        try:
            with ExitStack() as stack:
                sources = [
                    source
                    for path in paths
                    for source in stack.enter_context(datasets.sources_at(path))
                ]
                namespace, _ = Namespace.objects.get_or_create(
                    name=names.checked("namespace", namespace_name)
                )
                dataset = datasets.load(
                    namespace, dataset_name, sources, encoding, origin=", ".join(map(str, paths))
                )
        except errors.StateManagerError as error:
            raise CommandError(
                "\n  ".join(["Nothing was loaded:", *(error.extra.get("errors") or [str(error)])])
            ) from None
        for table in dataset.tables.all():
            self.stderr.write(f"{table.name}: {table.rows:,} rows, {len(table.columns)} columns")
        self.stdout.write(str(dataset.pk))
