"""What the files of an upload would become: their delimiters and first rows. Nothing is stored."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import IO

from graphs.definition.types import Json
from graphs.services import dialects, tabular
from graphs.services.csv_files import BrokenTable, CsvReader
from graphs.services.dataset_files import (
    COPY_BYTES,
    Content,
    Problems,
    Reading,
    Source,
    copy_decoded,
    unpacked,
)

ROWS = 10
MAX_TABLES = 20


@dataclass
class TablePreview:
    """The first rows of a file. `problem` says why it would be refused, as far as they show it.

    `delimiter` has the name of what separates the columns of a CSV file, and `choices` those that
    are possible if only people can know.
    """

    file: str
    delimiter: str = ""
    choices: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    rows: list[list[Json]] = field(default_factory=list)
    problem: str = ""


def previews(sources: Iterable[Source], reading: Reading) -> list[TablePreview]:
    """The tables of the first 20 files, and what is wrong with files that can't be opened."""
    problems = Problems()
    with ExitStack() as stack:
        files: list[Source] = []
        for source in sources:
            files += unpacked(source, stack, problems)
        tables = [_preview(file, reading, stack) for file in files[:MAX_TABLES]]
    return tables + [TablePreview(file="", problem=problem) for problem in problems]


def _preview(source: Source, reading: Reading, stack: ExitStack) -> TablePreview:
    shown = TablePreview(source.name)
    try:
        file = _beginning(source, reading.encoding, stack)
        if source.format == "jsonl":
            _show_jsonl(shown, file)
        else:
            _show_csv(shown, file, reading.delimiter)
    except (BrokenTable, LookupError, UnicodeError, EOFError, RuntimeError) as error:
        shown.problem = str(error)
    return shown


def _beginning(source: Source, encoding: str, stack: ExitStack) -> IO[bytes]:
    """The first whole lines of a file, in UTF-8."""
    content = Content(stack)
    copy_decoded(source, encoding, content, COPY_BYTES)
    file = content.from_start()
    if source.file.read(1):
        end = file.read().rfind(b"\n") + 1
        file.truncate(end or None)
        file.seek(0)
    return file


def _show_jsonl(shown: TablePreview, file: IO[bytes]) -> None:
    rows = list(islice(tabular.read_jsonl(file, shown.file), ROWS))
    shown.columns = list(dict.fromkeys(key for row in rows for key in row))
    shown.rows = [[row.get(name) for name in shown.columns] for row in rows]


def _show_csv(shown: TablePreview, file: IO[bytes], given: str) -> None:
    delimiter = given or _found(shown, file)
    file.seek(0)
    shown.delimiter = dialects.NAMES[delimiter]
    reader = CsvReader(file, shown.file, delimiter)
    shown.columns = reader.header
    for row in islice(_rows(shown, reader, bool(given)), ROWS):
        shown.rows.append(list(row))


def _found(shown: TablePreview, file: IO[bytes]) -> str:
    """The delimiter of the file; the first of the possible ones if only people can know."""
    try:
        return dialects.delimiter_of(file, shown.file)
    except dialects.Undecided as error:
        _ask(shown, error)
        return error.choices[0]


def _rows(shown: TablePreview, reader: CsvReader, is_given: bool) -> Iterator[list[str]]:
    if is_given or shown.choices:
        yield from reader
        return
    try:
        yield from dialects.checked(reader, shown.file)
    except dialects.Undecided as error:
        _ask(shown, error)


def _ask(shown: TablePreview, error: dialects.Undecided) -> None:
    shown.choices = [dialects.NAMES[choice] for choice in error.choices]
    shown.problem = str(error)
