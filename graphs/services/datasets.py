"""Loading datasets: a folder, a zip, or single CSV and JSON Lines files become tables, each checked line by line.

All tables of a load are stored, or none. Every broken file is reported, with its line.
"""

import codecs
import hashlib
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils.text import get_valid_filename

from graphs.definition import errors, names
from graphs.models import Dataset, DatasetTable, Namespace
from graphs.services import tabular

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
MAX_ENTRIES = 1000
MAX_UNPACKED = 20 * 2**30


in_use: list[
    Callable[[Dataset], bool]
] = []  # whoever uses datasets adds a question here; a used one can't be changed


@dataclass
class Source:
    """One file to load: its name, and the open file."""

    name: str
    file: BinaryIO

    @property
    def table(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def format(self) -> str | None:
        return FORMATS.get(PurePosixPath(self.name).suffix.lower())


@contextmanager
def sources_at(path: Path) -> Iterator[list[Source]]:
    """The files of a folder, or the file itself. Raises Malformed when there is nothing to load."""
    if not path.exists():
        raise errors.NotFound(f"There is no file or folder {str(path)!r}.")
    files = (
        sorted(each for each in path.iterdir() if each.suffix.lower() in (*FORMATS, ".zip"))
        if path.is_dir()
        else [path]
    )
    with ExitStack() as stack:
        yield [Source(each.name, stack.enter_context(each.open("rb"))) for each in files]


def load(
    namespace: Namespace,
    name: str,
    sources: Iterable[Source],
    encoding: str = "utf-8",
    origin: str = "",
) -> Dataset:
    """Make the dataset, or replace its tables, from these files; zips are unpacked.

    Raises Malformed with every problem, and Conflict while unfinished runs use the dataset.
    """
    name = names.checked("dataset", name)
    problems: list[str] = []
    with ExitStack() as stack:
        files = [each for source in sources for each in _unpacked(source, stack, problems)]
        read = [found for each in files if (found := _read(each, encoding, stack, problems))]
        made = [found["name"] for found in read]
        problems += [
            f"two files make a table {table!r}"
            for table in {each for each in made if made.count(each) > 1}
        ]
        if not files and not problems:
            problems.append("there is no .csv, .jsonl, .ndjson or .zip file in it")
        if problems:
            raise errors.Malformed(
                f"Nothing was loaded: {'; '.join(problems[:20])}.", errors=problems
            )
        return _store(namespace, name, origin, read)


def _unpacked(source: Source, stack: ExitStack, problems: list[str]) -> list[Source]:
    if PurePosixPath(source.name).suffix.lower() != ".zip":
        if source.format is None:
            problems.append(f"{source.name}: not a .csv, .jsonl, .ndjson or .zip file")
            return []
        return [source]
    try:
        archive = stack.enter_context(zipfile.ZipFile(source.file))
        entries = [
            entry
            for entry in archive.infolist()
            if not entry.is_dir() and PurePosixPath(entry.filename).suffix.lower() in FORMATS
        ]
        if len(entries) > MAX_ENTRIES or sum(entry.file_size for entry in entries) > MAX_UNPACKED:
            problems.append(
                f"{source.name}: more than {MAX_ENTRIES} tables or {MAX_UNPACKED:,} bytes unpacked"
            )
            return []
        if not entries:
            problems.append(f"{source.name}: no .csv, .jsonl or .ndjson file in it")
        return [
            Source(PurePosixPath(entry.filename).name, stack.enter_context(archive.open(entry)))
            for entry in entries
        ]  # type: ignore[arg-type]
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        problems.append(f"{source.name}: no zip that can be read ({error})")
        return []


def _read(
    source: Source, encoding: str, stack: ExitStack, problems: list[str]
) -> dict[str, Any] | None:
    """Copy one file, as UTF-8, to a temporary place while checking it and learning its columns."""
    copy: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  (the stack closes it)
    try:
        size, checksum = _copy(source, encoding, copy)
        copy.seek(0)
        seen = tabular.TypesSeen()
        with open(copy.fileno(), "rb", closefd=False) as again:
            if source.format == "csv":
                rows: Iterable[Any] = seen.watch_csv(tabular.read_csv(again, source.name))
            else:
                rows = seen.watch_json(tabular.read_jsonl(again, source.name))
            for _ in rows:
                pass
    except (tabular.BrokenTable, zipfile.BadZipFile, LookupError, EOFError) as error:
        problems.append(str(error))
        return None
    except UnicodeError as error:
        problems.append(f"{source.name}: not {encoding} ({error})")
        return None
    copy.seek(0)
    return {
        "name": source.table, "format": source.format, "columns": seen.columns or _header(copy, source),
        "rows": seen.rows, "size": size, "checksum": checksum, "content": copy,
    }  # fmt: skip


def _header(copy: IO[bytes], source: Source) -> list[dict[str, str]]:
    """The columns of a CSV file without rows."""
    names = copy.readline().decode("utf-8-sig").strip().split(",") if source.format == "csv" else []
    copy.seek(0)
    return [{"name": name, "type": "text"} for name in names]


def _copy(source: Source, encoding: str, target: IO[bytes]) -> tuple[int, str]:
    codec = codecs.lookup(encoding)
    if not codec._is_text_encoding:
        raise LookupError(f"{encoding} is no encoding of text")
    decode = (
        codec.incrementaldecoder() if codec.name != "utf-8" and codec.incrementaldecoder else None
    )
    digest, size = hashlib.sha256(), 0
    while chunk := source.file.read(2**18):
        data = decode.decode(chunk).encode() if decode else chunk
        digest.update(data)
        size += len(data)
        target.write(data)
    target.flush()
    return size, digest.hexdigest()


def _store(namespace: Namespace, name: str, origin: str, read: list[dict[str, Any]]) -> Dataset:
    stored: list[str] = []
    try:
        with transaction.atomic():
            dataset, _ = Dataset.objects.get_or_create(namespace=namespace, name=name)
            _unused(dataset)
            replaced = list(dataset.tables.values_list("file", flat=True))
            dataset.tables.all().delete()
            for each in read:
                content = each.pop("content")
                path = f"datasets/{dataset.pk}/{get_valid_filename(each['name'])}.{each['format']}"
                stored.append(default_storage.save(path, File(content)))
                DatasetTable.objects.create(dataset=dataset, file=stored[-1], **each)
            Dataset.objects.filter(pk=dataset.pk).update(source=origin)
            transaction.on_commit(lambda: _forget(replaced))
    except BaseException:
        _forget(stored)
        raise
    return dataset


def _unused(dataset: Dataset) -> None:
    if any(uses(dataset) for uses in in_use):
        raise errors.Conflict(
            f"The dataset {dataset} is used by runs that have not ended; wait for them, cancel them, or choose another name."
        )


def _forget(files: Iterable[str]) -> None:
    for file in files:
        default_storage.delete(file)


def delete(dataset: Dataset) -> None:
    """Delete a dataset and its files; runs that used it stay, without it."""
    with transaction.atomic():
        _unused(dataset)
        files = list(dataset.tables.values_list("file", flat=True))
        dataset.delete()
        transaction.on_commit(lambda: _forget(files))
