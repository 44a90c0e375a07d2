"""A page of a stored file, as people look at it: rows of a table, text, or the list of a zip file.

Files are streamed, so memory use doesn't depend on their size.
"""

import lzma
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePosixPath
from typing import IO

from graphs.definition import errors
from graphs.definition.types import Json
from graphs.services import dialects, encodings, tabular
from graphs.services.column_types import Column
from graphs.services.csv_files import BrokenTable, CsvReader
from statemanager.file_storage import file_storage

ROWS = 50
MAX_PAGE = 20_000  # a page is reached by reading all rows before it
MAX_TEXT = 100_000  # bytes
MAX_CELL = 300  # characters
MAX_COLUMNS = 100
MAX_ENTRIES = 1000
TEXT_ENDINGS = {".txt", ".log", ".json", ".md", ".xml", ".html", ".yaml", ".yml", ".sql"}
BROKEN_ZIP = (
    zipfile.BadZipFile,
    RuntimeError,
    NotImplementedError,
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
)


@dataclass
class Preview:
    """What a page shows: rows of a table, text, or the (name, size) entries of a zip file.

    `message` says why there is nothing to show. `more` says that another page follows, and `cut`
    that the text is longer. `hidden` columns are not shown.
    """

    columns: Sequence[Mapping[str, str]] = ()
    rows: Sequence[Sequence[Json]] = ()
    page: int = 1
    more: bool = False
    text: str | None = None
    cut: bool = False
    hidden: int = 0
    entries: Sequence[tuple[str, int]] = field(default_factory=list)
    message: str = ""

    @property
    def first(self) -> int:
        """The number of the first row on the page, from 1."""
        return (self.page - 1) * ROWS + 1


def page_of(text: str) -> int:
    """The page number in a query; 1 if the text is not a number."""
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        return 1
    return min(max(int(text), 1), MAX_PAGE)


def preview(
    stored: str, name: str, page: int = 1, columns: Iterable[Column] = (), entry: str = ""
) -> Preview:
    """A page of a file.

    `stored` is the name of the file in the storage, and `name` is the name that people see, whose
    ending decides how the file is shown. `columns` are the columns of a table, if they are known.
    `entry` is the name of a file inside a zip file.

    Raises NotFound if there is no such file or entry.
    """
    if not file_storage.exists(stored):
        raise errors.NotFound(f"The file of {name!r} is no longer in the storage.")
    with file_storage.open(stored, "rb") as file:
        if PurePosixPath(name).suffix.lower() != ".zip":
            return _file(file, name, page, list(columns))
        try:
            return _zip(file, entry, page)
        except BROKEN_ZIP as error:
            return Preview(message=f"The zip file can't be read: {error}.")


def _zip(file: IO[bytes], entry: str, page: int) -> Preview:
    """The entries of a zip file, or one of its files."""
    with zipfile.ZipFile(file) as archive:
        if not entry:
            files = [info for info in archive.infolist() if not info.is_dir()]
            sizes = [(info.filename, info.file_size) for info in files[:MAX_ENTRIES]]
            return Preview(entries=sizes)
        if entry not in archive.namelist():
            raise errors.NotFound(f"There is no {entry[:80]!r} in the zip file.")
        with archive.open(entry) as opened:
            return _file(opened, entry, page, [])


def _file(file: IO[bytes], name: str, page: int, columns: list[Column]) -> Preview:
    format = tabular.format_of(name)
    if format:
        try:
            return _table(_rows(file, name, format, bool(columns)), page, columns)
        except BrokenTable as error:
            return Preview(message=f"The file can't be shown as a table: {error}.")
    if PurePosixPath(name).suffix.lower() in TEXT_ENDINGS:
        return _text(file)
    return Preview(message="Files of this kind can't be shown here. Download the file instead.")


def _rows(file: IO[bytes], name: str, format: str, is_ours: bool) -> Iterable[Mapping[str, Json]]:
    """The rows of a table, with the cells of a CSV file as they are written there.

    CSV files of ours have commas; those that nodes wrote may have other delimiters.
    """
    if format == "jsonl":
        return tabular.read_jsonl(file, name)
    delimiter = ","
    if not is_ours:
        with suppress(dialects.Undecided):
            delimiter = dialects.delimiter_of(file, name)
        file.seek(0)
    reader = CsvReader(file, name, delimiter)
    return (
        {key: cell or None for key, cell in zip(reader.header, row, strict=True)} for row in reader
    )


def _text(file: IO[bytes]) -> Preview:
    data = file.read(MAX_TEXT + 1)
    text = encodings.as_text(data[:MAX_TEXT])
    return Preview(text=text.replace("\x00", "\N{REPLACEMENT CHARACTER}"), cut=len(data) > MAX_TEXT)


def _table(rows: Iterable[Mapping[str, Json]], page: int, columns: list[Column]) -> Preview:
    """One page of rows. Without columns, they are the keys that occur in these rows."""
    start = (page - 1) * ROWS
    read = list(islice(rows, start, start + ROWS + 1))
    shown = read[:ROWS]
    if not columns:
        keys = dict.fromkeys(key for row in shown for key in row)
        columns = [Column(name=key, type="") for key in keys]
    hidden = max(0, len(columns) - MAX_COLUMNS)
    columns = columns[:MAX_COLUMNS]
    cells = [[_shortened(row.get(column["name"])) for column in columns] for row in shown]
    return Preview(
        columns=[{"name": column["name"], "type": column["type"]} for column in columns],
        rows=cells,
        page=page,
        more=len(read) > ROWS and page < MAX_PAGE,
        hidden=hidden,
    )


def _shortened(value: Json) -> Json:
    is_long = isinstance(value, str) and len(value) > MAX_CELL
    return f"{value[:MAX_CELL]}…" if is_long else value
