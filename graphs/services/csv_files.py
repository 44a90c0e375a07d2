"""Reading and writing CSV files. Every cell that is written is read as the same text.

This is the only reader and the only writer of CSV. Errors name the file and the line.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TypeVar

from graphs.definition.types import Json

MAX_LINE = 10 * 2**20  # bytes of a row, or characters of a field
MAX_COLUMNS = 5_000
MAX_COLUMN_NAME = 1_000  # characters
DELIMITERS = (",", ";", "\t", "|")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
BOM = "\ufeff"
T = TypeVar("T")

csv.field_size_limit(MAX_LINE)


class BrokenTable(ValueError):
    """A file can't be read as a table. The message names the file and the line."""


class Lines:
    """The lines of a UTF-8 file, with or without a byte order mark.

    `number` is the number of the last line that was read, from 1. Raises BrokenTable for bytes that
    are not UTF-8, for NUL characters, which PostgreSQL can't store, and for rows of more than
    MAX_LINE bytes, before they are read. A row ends where the reader calls `end_row`.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name
        self._row_size = 0
        self.number = 0
        self.last = ""

    def end_row(self) -> None:
        self._row_size = 0

    def __iter__(self) -> Iterator[str]:
        readline = self._file.readline
        while raw := readline(MAX_LINE + 1):
            self.number += 1
            self._row_size += len(raw)
            if self._row_size > MAX_LINE:
                raise self.broken(f"a row of more than {MAX_LINE:,} bytes")
            try:
                line = raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise self.broken(
                    f"not UTF-8 (byte 0x{byte:02x}), which was assumed; give the file's encoding,"
                    " such as windows-1252"
                ) from None
            if "\x00" in line:
                raise self.broken("a NUL character; if the file is in UTF-16, give this encoding")
            self.last = line
            yield line

    def broken(self, problem: str, line: int | None = None) -> BrokenTable:
        """The error for a problem in the current line, or in the line with this number."""
        return BrokenTable(f"{self._name}, line {line or self.number}: {problem}")


class CsvReader:
    """The header of a CSV file, and its rows as lists of as many texts. Blank lines are skipped.

    `name` is the file's name for errors. Raises BrokenTable if the header is incomplete, if a row
    has too few or too many values, or if the file is not valid CSV.
    """

    def __init__(self, file: IO[bytes], name: str, delimiter: str = ",") -> None:
        self._lines = Lines(file, name)
        self._delimiter = delimiter
        self._rows = csv.reader(self._lines, strict=True, delimiter=delimiter)
        try:
            self.header = _checked_header(next(self._rows, None), self._lines)
        except csv.Error as error:
            raise self._invalid(error) from None
        self._lines.end_row()

    def __iter__(self) -> Iterator[list[str]]:
        width, end_row = len(self.header), self._lines.end_row
        try:
            for row in self._rows:
                end_row()
                if len(row) == width:
                    yield row
                elif row:
                    raise self._lines.broken(f"{len(row)} values for {width} columns{self._note()}")
        except csv.Error as error:
            raise self._invalid(error) from None

    @property
    def quoted(self) -> bool:
        """Whether the last line that was read begins with a quotation mark."""
        return self._lines.last.startswith('"')

    def _invalid(self, error: csv.Error) -> BrokenTable:
        if "new-line character" in str(error):
            return self._lines.broken("a carriage return (CR) without a line feed (LF)")
        return self._lines.broken(f"{error}{self._note()}")

    def _note(self) -> str:
        return "" if self._delimiter == "," else f"; {self._delimiter!r} separates the columns"


def _checked_header(header: list[str] | None, lines: Lines) -> list[str]:
    if not header or not all(header):
        raise lines.broken("every column needs a name in the header", line=1)
    if len(header) > MAX_COLUMNS:
        raise lines.broken(f"{len(header):,} columns; {MAX_COLUMNS:,} are allowed", line=1)
    longest = max(header, key=len)
    if len(longest) > MAX_COLUMN_NAME:
        raise lines.broken(
            f"the name of a column has {len(longest):,} characters; {MAX_COLUMN_NAME:,} are"
            " allowed",
            line=1,
        )
    counts = Counter(header)
    repeated = next((column for column in header if counts[column] > 1), None)
    if repeated is not None:
        raise lines.broken(f"the header has the column {repeated!r} twice", line=1)
    return header


class CsvWriter:
    """Makes the lines of a CSV file.

    Cells with line ends are quoted, a lone carriage return, too. So are all cells of a table of one
    column, where a blank line, or a cell with a semicolon, could be taken for something else.
    """

    def __init__(self, header: Sequence[str], line_end: str = "\n") -> None:
        quote_all = len(header) == 1 or any(name.startswith(BOM) for name in header[:1])
        # With these line ends, the writers of all versions of Python quote both characters.
        self._writer = csv.writer(
            _Echo(),
            lineterminator="\r\n",
            quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL,
        )
        self._line_end = line_end

    def line(self, cells: Iterable[Json]) -> str:
        line: str = self._writer.writerow(cells)  # what the echo's `write` returns
        return line[:-2] + self._line_end


class _Echo:
    """A file for `csv.writer` whose `write()` returns the text instead of storing it."""

    def write(self, text: str) -> str:
        return text


def harmless(value: T) -> T | str:
    """The value as a cell; an apostrophe is put before text that a spreadsheet would execute."""
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value
