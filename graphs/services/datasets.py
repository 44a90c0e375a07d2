"""Loading datasets from folders, zip files, and single CSV and JSON Lines files.

Each file becomes a table and is checked line by line. All tables of a load are stored, or none, and
the error lists every broken file.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import PurePosixPath

from django.core.files.base import File
from django.db import DatabaseError, transaction

from graphs.auth import acts
from graphs.auth.callers import SYSTEM, Caller
from graphs.auth.namespaces import ensure_namespace
from graphs.definition import errors, names, uuids
from graphs.models import Dataset, DatasetTable, Namespace
from graphs.services.dataset_files import (
    AS_IT_SEEMS,
    ENDINGS,
    CheckedTable,
    Problems,
    Reading,
    Source,
    check,
    repeated_names,
    unpacked,
)
from statemanager.file_storage import file_storage

Tables = dict[str, CheckedTable]  # by the names of their files in the storage

# Apps whose rows use datasets add a function that says whether a dataset is in use. A dataset that
# is in use can't be changed or deleted.
in_use: list[Callable[[Dataset], bool]] = []


def load(
    namespace: Namespace,
    name: str,
    sources: Iterable[Source],
    reading: Reading = AS_IT_SEEMS,
    origin: str = "",
    caller: Caller = SYSTEM,
) -> Dataset:
    """Create a dataset from files, or replace the tables of the dataset with this name.

    Zip files are unpacked. `reading` says how all files are read; they are stored as UTF-8, and CSV
    files with commas. `origin` is a note for people on where the data comes from. A namespace that
    isn't saved is made with the dataset.

    Raises Malformed with every problem of the files, and Conflict while unfinished runs use the
    dataset.
    """
    with stored(namespace, name, sources, reading) as tables:
        return replace_tables(namespace, name, origin, tables, caller)


@contextmanager
def stored(
    namespace: Namespace, name: str, sources: Iterable[Source], reading: Reading = AS_IT_SEEMS
) -> Iterator[Tables]:
    """Check the files of a dataset and store them. Those without a row at the end are deleted.

    The storage may be slow, and a transaction of SQLite keeps everybody else from writing. So the
    files come first, in a folder of their own, and `replace_tables` follows. Raises what `load`
    raises.
    """
    name = names.checked("dataset", name)
    problems = Problems()
    with ExitStack() as stack:
        files: list[Source] = []
        for source in sources:
            files += unpacked(source, stack, problems)
        if not files and not problems:
            problems.append(f"there is no {ENDINGS} or .zip file")
        checked = [check(file, reading, stack, problems) for file in files]
        tables = [table for table in checked if table is not None]
        problems.require_none(repeated_names(tables))
        if namespace.pk is not None:
            _require_replaceable(namespace, name)
        folder = f"datasets/{uuids.dashed(uuids.uuid7())}"
        by_file: Tables = {}
        try:
            for table in tables:
                by_file[_store_file(folder, table)] = table
            yield by_file
        finally:
            _delete_unnamed(by_file)


@transaction.atomic
def replace_tables(
    namespace: Namespace, name: str, origin: str, tables: Tables, caller: Caller
) -> Dataset:
    """Make stored files the tables of the dataset with this name. Raises what `load` raises."""
    if namespace.pk is None:
        namespace = ensure_namespace(namespace.name, caller)
    dataset, _ = Dataset.objects.get_or_create(
        namespace=namespace, name=names.checked("dataset", name)
    )
    _require_unused(dataset)
    replaced = list(dataset.tables.values_list("file", flat=True))
    dataset.tables.all().delete()
    for file, table in tables.items():
        _create_row(dataset, table, file)
    Dataset.objects.filter(pk=dataset.pk).update(source=origin)
    acts.record(caller, "load_dataset", namespace.pk, str(dataset))
    transaction.on_commit(lambda: _delete_files(replaced))
    return dataset


def _store_file(folder: str, table: CheckedTable) -> str:
    """Store the content of a table and return its name in the storage."""
    path = f"{folder}/{names.file_name(table.name)}.{table.format}"
    return file_storage.save(path, File(table.content.from_start()))


def _create_row(dataset: Dataset, table: CheckedTable, file: str) -> None:
    DatasetTable.objects.create(
        dataset=dataset,
        file=file,
        name=table.name,
        format=table.format,
        columns=table.columns,
        rows=table.rows,
        size=table.content.size,
        checksum=table.content.checksum,
    )


def _require_replaceable(namespace: Namespace, name: str) -> None:
    """Refuse a load that would fail anyway, before its files are stored."""
    dataset = Dataset.objects.filter(namespace=namespace, name=name).first()
    if dataset:
        _require_unused(dataset)


def _require_unused(dataset: Dataset) -> None:
    if any(uses(dataset) for uses in in_use):
        raise errors.Conflict(
            f"The dataset {dataset} is used by runs that have not ended. "
            "Wait for them, cancel them, or choose another name."
        )


def _delete_unnamed(files: Collection[str]) -> None:
    """Delete these files unless a table has them."""
    # Without an answer of the database they stay: their rows may have been committed.
    with suppress(DatabaseError):
        if files and not DatasetTable.objects.filter(file__in=list(files)[:1]).exists():
            _delete_files(files)


def _delete_files(files: Collection[str]) -> None:
    """Delete files, and their folders if nothing else is in them."""
    for file in files:
        file_storage.delete(file)
    for folder in {str(PurePosixPath(file).parent) for file in files}:
        with suppress(OSError):
            file_storage.delete(folder)


def delete(dataset: Dataset, caller: Caller = SYSTEM) -> None:
    """Delete a dataset and its files. Runs that used it stay, without a dataset.

    Raises Conflict while unfinished runs use the dataset.
    """
    with transaction.atomic():
        _require_unused(dataset)
        files = list(dataset.tables.values_list("file", flat=True))
        acts.record(caller, "delete_dataset", dataset.namespace_id, str(dataset))
        dataset.delete()
        transaction.on_commit(lambda: _delete_files(files))
