"""Loading datasets from folders, zip files, and single CSV and JSON Lines files.

Each file becomes a table and is checked line by line. All tables of a load are stored, or none, and
the error lists every broken file.
"""

import codecs
import hashlib
import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils.text import get_valid_filename

from graphs.auth import acts
from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import errors, names, uuids
from graphs.models import Dataset, DatasetTable, Namespace
from graphs.services import tabular

MAX_ENTRIES = 1000  # tables in a zip file
MAX_UNPACKED = 20 * 2**30  # bytes
MAX_RATIO = 200  # bytes that one byte of a zip file may become
SMALL = 50 * 2**20  # bytes to which the ratio doesn't apply
MAX_PROBLEMS_IN_SENTENCE = 20
COPY_BYTES = 2**18
ENDINGS = ".csv, .jsonl, .ndjson"

# Apps whose rows use datasets add a function that says whether a dataset is in use. A dataset that
# is in use can't be changed or deleted.
in_use: list[Callable[[Dataset], bool]] = []


@dataclass
class Source:
    """A file to load: its name, and the file opened for reading bytes."""

    name: str
    file: IO[bytes]

    @property
    def table(self) -> str:
        """The name of the table: the name of the file without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def format(self) -> str | None:
        return tabular.format_of(self.name)

    @property
    def is_zip(self) -> bool:
        return PurePosixPath(self.name).suffix.lower() == ".zip"


@dataclass
class CheckedTable:
    """A table that was read without errors. `content` is a UTF-8 copy of the file."""

    name: str
    format: str
    columns: list[tabular.Column]
    rows: int
    size: int
    checksum: str
    content: IO[bytes]


@contextmanager
def sources_at(path: Path) -> Iterator[list[Source]]:
    """Open a file, or the tables and zip files of a folder. Raises NotFound if there is nothing."""
    if not path.exists():
        raise errors.NotFound(f"There is no file or folder {str(path)!r}.")
    files = [path]
    if path.is_dir():
        endings = (*tabular.FORMATS, ".zip")
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in endings)
    with ExitStack() as stack:
        yield [Source(file.name, stack.enter_context(file.open("rb"))) for file in files]


def load(
    namespace: Namespace,
    name: str,
    sources: Iterable[Source],
    encoding: str = "utf-8",
    origin: str = "",
    caller: Caller = SYSTEM,
) -> Dataset:
    """Create a dataset from files, or replace the tables of the dataset with this name.

    Zip files are unpacked. `encoding` is the encoding of all files; they are stored as UTF-8.
    `origin` is a note for people on where the data comes from.

    Raises Malformed with every problem of the files, and Conflict while unfinished runs use the
    dataset.
    """
    name = names.checked("dataset", name)
    problems: list[str] = []
    with ExitStack() as stack:
        files: list[Source] = []
        for source in sources:
            files += _unpacked(source, stack, problems)
        checked = [_check(file, encoding, stack, problems) for file in files]
        tables = [table for table in checked if table is not None]
        problems += _repeated_names(tables)
        if not files and not problems:
            problems.append(f"there is no {ENDINGS} or .zip file")
        if problems:
            sentence = "; ".join(problems[:MAX_PROBLEMS_IN_SENTENCE])
            raise errors.Malformed(f"Nothing was loaded: {sentence}.", errors=problems)

        return _store(namespace, name, origin, tables, caller)


def _repeated_names(tables: Iterable[CheckedTable]) -> list[str]:
    counts = Counter(table.name for table in tables)
    return [f"two files make a table {name!r}" for name, count in counts.items() if count > 1]


def _unpacked(source: Source, stack: ExitStack, problems: list[str]) -> list[Source]:
    """The tables of a zip file, or the file itself. Adds to the problems what can't be loaded."""
    if source.is_zip:
        return _entries(source, stack, problems)
    if source.format is None:
        problems.append(f"{source.name}: not a {ENDINGS} or .zip file")
        return []
    return [source]


def _entries(source: Source, stack: ExitStack, problems: list[str]) -> list[Source]:
    try:
        archive = stack.enter_context(zipfile.ZipFile(source.file))
        entries = [
            entry
            for entry in archive.infolist()
            if not entry.is_dir() and tabular.format_of(entry.filename)
        ]
        problem = _problem_of(entries, _size_of(source.file))
        if problem:
            problems.append(f"{source.name}: {problem}")
            return []
        return [
            Source(PurePosixPath(entry.filename).name, stack.enter_context(archive.open(entry)))
            for entry in entries
        ]
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        problems.append(f"{source.name}: the zip file can't be read ({error})")
        return []


def _size_of(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)


def _problem_of(entries: list[zipfile.ZipInfo], packed: int) -> str:
    """What is wrong with the tables of a zip file of this many bytes, or "".

    The limits refuse zip bombs. Reading an entry ends at the size that it declares.
    """
    if not entries:
        return f"the zip file contains no {ENDINGS} file"
    if len(entries) > MAX_ENTRIES:
        return f"{len(entries):,} tables; {MAX_ENTRIES:,} are allowed"
    size = sum(entry.file_size for entry in entries)
    if size > MAX_UNPACKED:
        return f"{size:,} bytes when unpacked; {MAX_UNPACKED:,} are allowed"
    if size > max(SMALL, MAX_RATIO * packed):
        return (
            f"{size:,} bytes when unpacked, more than {MAX_RATIO} times the zip file's {packed:,}"
        )
    return ""


def _check(
    source: Source, encoding: str, stack: ExitStack, problems: list[str]
) -> CheckedTable | None:
    """Copy a file to a temporary UTF-8 file, and read the copy to check it and find its types.

    Adds to the problems, and returns None, if the file can't be read as a table.
    """
    copy: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  (closed by the stack)
    types = tabular.TypesSeen()
    try:
        size, checksum = _copy(source, encoding, copy)
        copy.seek(0)
        _read_all(source, copy, types)
    except (tabular.BrokenTable, zipfile.BadZipFile, LookupError, EOFError) as error:
        problems.append(str(error))
        return None
    except UnicodeError as error:
        problems.append(f"{source.name}: not {encoding} ({error})")
        return None

    assert source.format is not None
    return CheckedTable(
        name=source.table,
        format=source.format,
        columns=types.columns or _header(source, copy),
        rows=types.rows,
        size=size,
        checksum=checksum,
        content=copy,
    )


def _copy(source: Source, encoding: str, target: IO[bytes]) -> tuple[int, str]:
    """Copy a file as UTF-8. Return the size in bytes and the SHA-256 of the copy.

    Raises LookupError for an unknown encoding, and UnicodeError if the file is in another one.
    """
    codec = codecs.lookup(encoding)
    if not codec._is_text_encoding:  # such as "zlib" and "base64"
        raise LookupError(f"{encoding} is not an encoding of text")
    decoder = None
    if codec.name != "utf-8" and codec.incrementaldecoder:
        decoder = codec.incrementaldecoder()

    digest = hashlib.sha256()
    size = 0
    while chunk := source.file.read(COPY_BYTES):
        data = decoder.decode(chunk).encode() if decoder else chunk
        digest.update(data)
        size += len(data)
        target.write(data)
    target.flush()
    return size, digest.hexdigest()


def _read_all(source: Source, file: IO[bytes], types: tabular.TypesSeen) -> None:
    """Read every row, so that `types` sees all of them. Raises BrokenTable."""
    rows: Iterable[object]
    if source.format == "csv":
        rows = types.watch_csv(tabular.read_csv(file, source.name))
    else:
        rows = types.watch_json(tabular.read_jsonl(file, source.name))
    for _ in rows:
        pass


def _header(source: Source, copy: IO[bytes]) -> list[tabular.Column]:
    """The columns of a CSV file that has a header and no rows."""
    if source.format != "csv":
        return []
    copy.seek(0)
    header = copy.readline().decode("utf-8-sig").strip().split(",")
    return [tabular.Column(name=name, type="text") for name in header]


def _store(
    namespace: Namespace, name: str, origin: str, tables: list[CheckedTable], caller: Caller
) -> Dataset:
    """Store the files, then replace the tables. If that fails, the files are deleted.

    The storage may be slow, and a transaction of SQLite keeps everybody else from writing. So the
    files come first, in a folder of their own.
    """
    _require_replaceable(namespace, name)
    folder = f"datasets/{uuids.dashed(uuids.uuid7())}"
    stored: list[str] = []
    try:
        for table in tables:
            stored.append(_store_file(folder, table))
        by_file = dict(zip(stored, tables, strict=True))
        return _replace_tables(namespace, name, origin, by_file, caller)
    except BaseException:
        _delete_files(stored)
        raise


@transaction.atomic
def _replace_tables(
    namespace: Namespace, name: str, origin: str, tables: dict[str, CheckedTable], caller: Caller
) -> Dataset:
    """`tables` are the new tables by the names of their files in the storage."""
    dataset, _ = Dataset.objects.get_or_create(namespace=namespace, name=name)
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
    table.content.seek(0)
    path = f"{folder}/{get_valid_filename(table.name)}.{table.format}"
    return default_storage.save(path, File(table.content))


def _create_row(dataset: Dataset, table: CheckedTable, file: str) -> None:
    DatasetTable.objects.create(
        dataset=dataset,
        file=file,
        name=table.name,
        format=table.format,
        columns=table.columns,
        rows=table.rows,
        size=table.size,
        checksum=table.checksum,
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


def _delete_files(files: Collection[str]) -> None:
    """Delete files, and their folders if nothing else is in them."""
    for file in files:
        default_storage.delete(file)
    for folder in {str(PurePosixPath(file).parent) for file in files}:
        with suppress(OSError):
            default_storage.delete(folder)


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
