"""The first or any other page of a stored file, as people look at it: a table's typed rows, text, or what is in a zip. Memory stays flat."""

import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePosixPath
from typing import IO, Any

from django.core.files.storage import default_storage

from graphs.definition import errors
from graphs.services import tabular

ROWS = 50
FURTHEST = 20_000  # pages; each is reached by reading what is before it
TEXT_BYTES = 100_000
LONGEST_CELL = 300
FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
TEXTS = {".txt", ".log", ".json", ".md", ".xml", ".html", ".yaml", ".yml", ".sql"}
MOST_ENTRIES = 1000


@dataclass
class Preview:
    """What is shown: rows of a table, or text, or the entries of a zip; `said` is why there is nothing."""

    columns: Sequence[Mapping[str, str]] = ()
    rows: Sequence[Sequence[Any]] = ()
    page: int = 1
    more: bool = False
    text: str | None = None
    cut: bool = False
    entries: Sequence[tuple[str, int]] = field(default_factory=list)
    said: str = ""

    @property
    def first(self) -> int:
        """The number of the first row shown, from 1."""
        return (self.page - 1) * ROWS + 1


def page_of(text: str) -> int:
    """A page number from a query; 1 for what is none."""
    return (
        min(max(int(text), 1), FURTHEST)
        if text.isascii() and text.isdigit() and len(text) < 9
        else 1
    )


def preview(
    stored: str, name: str, page: int = 1, columns: Sequence[Any] = (), entry: str = ""
) -> Preview:
    """A stored file, or with `entry` a file in the zip that it is. Raises NotFound when it isn't there."""
    if not default_storage.exists(stored):
        raise errors.NotFound(f"The file of {name!r} is not in the storage any more.")
    with default_storage.open(stored, "rb") as file:
        if PurePosixPath(name).suffix.lower() != ".zip":
            return _shown(file, name, page, columns)
        try:
            with _opened(file, entry) as found:
                if isinstance(found, zipfile.ZipFile):
                    return Preview(
                        entries=[
                            (each.filename, each.file_size)
                            for each in found.infolist()
                            if not each.is_dir()
                        ][:MOST_ENTRIES]
                    )
                return _shown(found, entry, page, ())
        except (
            zipfile.BadZipFile,
            RuntimeError,
            NotImplementedError,
            OSError,
            EOFError,
            zlib.error,
            lzma.LZMAError,
        ) as error:
            return Preview(said=f"It is no zip that can be read: {error}.")


@contextmanager
def _opened(file: IO[bytes], entry: str) -> Iterator[Any]:
    with zipfile.ZipFile(file) as archive:
        if not entry:
            yield archive
            return
        if entry not in archive.namelist():
            raise errors.NotFound(f"There is no {entry[:80]!r} in the zip.")
        with archive.open(entry) as found:
            yield found


def _shown(file: IO[bytes], name: str, page: int, columns: Sequence[Any]) -> Preview:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in FORMATS:
        try:
            return _table(file, name, FORMATS[suffix], page, columns)
        except tabular.BrokenTable as error:
            return Preview(said=f"It can't be shown as a table: {error}.")
    if suffix not in TEXTS:
        return Preview(said="Files of this kind are not shown here; download it.")
    data = file.read(TEXT_BYTES + 1)
    return Preview(
        text=data[:TEXT_BYTES]
        .decode("utf-8", "replace")
        .replace("\x00", "\N{REPLACEMENT CHARACTER}"),
        cut=len(data) > TEXT_BYTES,
    )


def _table(file: Any, name: str, format: str, page: int, columns: Sequence[Any]) -> Preview:
    rows = islice(
        tabular.read_rows(file, name, format, columns), (page - 1) * ROWS, page * ROWS + 1
    )
    some = list(rows)
    shown, more = some[:ROWS], len(some) > ROWS
    names = [column["name"] for column in columns] or list(
        dict.fromkeys(key for row in shown for key in row)
    )
    types = {column["name"]: column["type"] for column in columns}
    heads = [{"name": each, "type": types.get(each, "")} for each in names]
    return Preview(
        heads,
        [[_cell(row.get(each)) for each in names] for row in shown],
        page,
        more and page < FURTHEST,
    )


def _cell(value: Any) -> Any:
    return (
        f"{value[:LONGEST_CELL]}…"
        if isinstance(value, str) and len(value) > LONGEST_CELL
        else value
    )
