"""Reading and writing tables as CSV and JSON Lines, row by row. Errors name the file and the line.

JSON Lines have types of their own: every value stays what it is in JSON. CSV is text, so each
column of a CSV file has a type, which `TypesSeen` finds when the file is loaded:

=========  ======================================================  ==========================
type       every non-empty value of the column is                  `read_rows` makes of it
=========  ======================================================  ==========================
integer    a whole number of at most 18 digits: 7, -7, 0           int
number     a whole or decimal number: 1.5, -2, 1e3                 float
text       anything; also 007, 1_000, nan and longer integers      str
=========  ======================================================  ==========================

An empty cell is None, whatever the type. Leading zeros make a column text, because they usually
belong to a code and not to a quantity. So do integers of more than 18 digits, which a float would
round. The columns of JSON Lines have the type "any".
"""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO, NoReturn

from typing_extensions import TypedDict

from graphs.definition.types import Json, JsonObject

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
MAX_LINE = 10 * 2**20  # bytes of a row, or characters of a field
MAX_COLUMNS = 5_000
MAX_INTEGER_DIGITS = 18  # fits into 64 bits
ROWS_PER_CHUNK = 256
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
CONVERTERS: dict[str, Callable[[str], int | float]] = {"integer": int, "number": float}

csv.field_size_limit(MAX_LINE)


class Column(TypedDict):
    """A column of a table. `type` is "integer", "number", "text", or "any" where it isn't known."""

    name: str
    type: str


def format_of(name: str) -> str | None:
    """The format of a file by the ending of its name, or None if it isn't that of a table."""
    return FORMATS.get(PurePosixPath(name).suffix.lower())


class BrokenTable(ValueError):
    """A file can't be read as a table. The message names the file and the line."""


class _Lines:
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
                    f"not UTF-8 (byte 0x{byte:02x}); give the file's encoding, or convert the file"
                ) from None
            if "\x00" in line:
                raise self.broken("a NUL character")
            yield line

    def broken(self, problem: str, line: int | None = None) -> BrokenTable:
        """The error for a problem in the current line, or in the line with this number."""
        return BrokenTable(f"{self._name}, line {line or self.number}: {problem}")


def read_csv(file: IO[bytes], name: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file with a header. All values are text.

    `name` is the file's name for errors. Blank lines are skipped. Raises BrokenTable if the header
    is incomplete, if a row has too few or too many values, or if the file is not valid CSV.
    """
    lines = _Lines(file, name)
    rows = csv.reader(lines, strict=True)
    try:
        header = _checked_header(next(rows, None), lines)
        width = len(header)
        lines.end_row()
        for row in rows:
            lines.end_row()
            if not row:
                continue
            if len(row) != width:
                raise lines.broken(f"{len(row)} values for {width} columns")
            yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise lines.broken(str(error)) from None


def _checked_header(header: list[str] | None, lines: _Lines) -> list[str]:
    if not header or not all(header):
        raise lines.broken("every column needs a name in the header", line=1)
    if len(header) > MAX_COLUMNS:
        raise lines.broken(f"{len(header):,} columns; {MAX_COLUMNS:,} are allowed", line=1)
    counts = Counter(header)
    repeated = next((column for column in header if counts[column] > 1), None)
    if repeated is not None:
        raise lines.broken(f"the header has the column {repeated!r} twice", line=1)
    return header


def read_jsonl(file: IO[bytes], name: str) -> Iterator[JsonObject]:
    """The rows of a JSON Lines file: one object per line. Blank lines are skipped.

    `name` is the file's name for errors. Raises BrokenTable for a line that is not a JSON object,
    and for NaN, Infinity, numbers too large for a float, and text that can't be encoded.
    """
    lines = _Lines(file, name)
    for line in lines:
        lines.end_row()
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_refuse_constant, parse_float=_finite)
            if "\\u" in line:  # only an escape can produce a lone surrogate
                json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise lines.broken("half of a surrogate pair, which is not valid text") from None
        except (ValueError, RecursionError) as error:
            raise lines.broken(str(error)) from None
        if not isinstance(row, dict):
            raise lines.broken("not a JSON object")
        yield row


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:30]} is too large")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read_rows(
    file: IO[bytes], name: str, format: str, columns: Iterable[Column]
) -> Iterator[JsonObject]:
    """The rows of a table ("csv" or "jsonl") with typed values, as the module's table describes.

    `columns` gives the types of a CSV file; columns that it doesn't name are text. Raises
    BrokenTable.
    """
    if format == "jsonl":
        yield from read_jsonl(file, name)
        return

    converters = {
        column["name"]: CONVERTERS[column["type"]]
        for column in columns
        if column["type"] in CONVERTERS
    }
    for row in read_csv(file, name):
        typed: JsonObject = {key: value if value != "" else None for key, value in row.items()}
        for key, convert in converters.items():
            if typed[key] is not None:
                typed[key] = convert(typed[key])
        yield typed


class TypesSeen:
    """Finds the type of each column, and counts the rows, while rows are read.

    Wrap the rows in `watch_csv` or `watch_json` and read them; `columns` and `rows` then describe
    what was read.
    """

    def __init__(self) -> None:
        self.types: dict[str, str] = {}
        self.rows = 0

    def watch_csv(self, rows: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
        """The same rows. Each column gets the narrowest type that holds all its values."""
        for row in rows:
            if not self.rows:
                self.types = dict.fromkeys(row, "integer")
            self.rows += 1
            for key, type_so_far in self.types.items():
                if type_so_far != "text" and row[key] != "":
                    self.types[key] = _widened(type_so_far, row[key])
            yield row

    def watch_json(self, rows: Iterable[Mapping[str, Json]]) -> Iterator[Mapping[str, Json]]:
        """The same rows. The columns are all keys that occur, in order of appearance."""
        for row in rows:
            self.rows += 1
            if row.keys() - self.types.keys():
                self.types |= {key: "any" for key in row if key not in self.types}
                if len(self.types) > MAX_COLUMNS:
                    raise BrokenTable(
                        f"its rows have more than {MAX_COLUMNS:,} different members together"
                    )
            yield row

    @property
    def columns(self) -> list[Column]:
        return [Column(name=name, type=type_name) for name, type_name in self.types.items()]


def _widened(type_so_far: str, value: str) -> str:
    """The type of a column that was "integer" or "number" so far, after one more value."""
    digits = value.removeprefix("-")
    leading_zero = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    if leading_zero:
        return "text"
    if digits.isascii() and digits.isdigit():
        return type_so_far if len(digits) <= MAX_INTEGER_DIGITS else "text"
    return "number" if _is_decimal(value) else "text"


def _is_decimal(value: str) -> bool:
    """Whether a text is a finite decimal number. `float` alone also takes nan, inf and 1_000."""
    if value.strip("+-0123456789.eE") != "" or "_" in value:
        return False
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def write_jsonl(rows: Iterable[Mapping[str, Json]]) -> Iterator[bytes]:
    """The rows as JSON Lines, in chunks of 256 rows. Raises ValueError for NaN and Infinity."""
    chunk: list[str] = []
    for row in rows:
        chunk.append(json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
        if len(chunk) >= ROWS_PER_CHUNK:
            yield ("\n".join(chunk) + "\n").encode()
            chunk.clear()
    if chunk:
        yield ("\n".join(chunk) + "\n").encode()


def write_csv(
    rows: Iterable[Mapping[str, Json]], columns: list[str], guard_formulas: bool = True
) -> Iterator[bytes]:
    """The rows as CSV with a header, in chunks of 256 rows.

    Text is written as it is, None as an empty cell, and lists, objects and booleans as JSON. With
    `guard_formulas`, text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_cell(column, guard_formulas) for column in columns])
    for number, row in enumerate(rows, start=1):
        writer.writerow([_cell(row.get(column), guard_formulas) for column in columns])
        if number % ROWS_PER_CHUNK == 0:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(value: Json, guard_formulas: bool) -> Json:
    if isinstance(value, str):
        is_formula = guard_formulas and value.startswith(FORMULA_STARTS)
        return f"'{value}" if is_formula else value
    if isinstance(value, dict | list | bool):
        return json.dumps(value, ensure_ascii=False)
    return value
