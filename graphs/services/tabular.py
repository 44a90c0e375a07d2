"""Tables as CSV and JSON Lines, row by row. Errors name the file and the line.

JSON Lines have types of their own: every value stays what it is in JSON, and the columns have the
type "any". CSV is text, and its columns have the types that `column_types` finds.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import IO

from graphs.definition import payloads
from graphs.definition.types import Json, JsonObject
from graphs.services import csv_files
from graphs.services.column_types import Column, ColumnSeen, converter, text_of
from graphs.services.csv_files import (
    MAX_COLUMN_NAME,
    MAX_COLUMNS,
    BrokenTable,
    CsvReader,
    CsvWriter,
    Lines,
)

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
ROWS_PER_CHUNK = 256
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # an escaped one
to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def format_of(name: str) -> str | None:
    """The format of a file by the ending of its name, or None if it isn't that of a table."""
    return FORMATS.get(PurePosixPath(name).suffix.lower())


# --- reading ---------------------------------------------------------------------------------


def read_rows(
    file: IO[bytes], name: str, format: str, columns: Iterable[Column]
) -> Iterator[JsonObject]:
    """The rows of a table ("csv" or "jsonl") with the values that their columns' types have.

    Columns of a CSV file that `columns` doesn't name are text. Raises BrokenTable.
    """
    if format == "jsonl":
        return read_jsonl(file, name)
    return _typed(CsvReader(file, name), columns)


def columns_in_order(header: Iterable[str], columns: Iterable[Column]) -> list[Column]:
    """The columns of a CSV file as they follow each other there. Unknown ones are text."""
    known = {column["name"]: column for column in columns}
    return [known.get(name, Column(name=name, type="text")) for name in header]


def _typed(reader: CsvReader, columns: Iterable[Column]) -> Iterator[JsonObject]:
    header = reader.header
    converters = [converter(column) for column in columns_in_order(header, columns)]
    for row in reader:
        yield {
            name: convert(cell) for name, convert, cell in zip(header, converters, row, strict=True)
        }


def read_jsonl(file: IO[bytes], name: str) -> Iterator[JsonObject]:
    """The rows of `read_json_lines` without their lines."""
    return (row for _, row in read_json_lines(file, name))


def read_json_lines(file: IO[bytes], name: str) -> Iterator[tuple[str, JsonObject]]:
    """The lines of a JSON Lines file, each with its object. Blank lines are skipped.

    `name` is the file's name for errors. Raises BrokenTable for a line that is not a JSON object,
    and for NaN, Infinity, numbers too large for a float, and text that can't be stored.
    """
    lines = Lines(file, name)
    for line in lines:
        lines.end_row()
        if not line.strip():
            continue
        try:
            row = payloads.parse(line)
            if "\\u" in line:  # only an escape can produce a lone surrogate or a NUL
                to_json(row).encode()
        except UnicodeEncodeError:
            raise lines.broken("half of a surrogate pair, which is not valid text") from None
        except (ValueError, RecursionError) as error:
            raise lines.broken(str(error)) from None
        if not isinstance(row, dict):
            raise lines.broken("not a JSON object")
        if "\\u0000" in line and NUL.search(line):
            raise lines.broken("a NUL character")
        yield line, row


# --- finding out what a table holds ----------------------------------------------------------


def inspect_csv(header: list[str], rows: Iterable[list[str]]) -> tuple[list[Column], int]:
    """Read all rows of a CSV file. Returns its columns with their types and the number of rows."""
    seen = [ColumnSeen() for _ in header]
    rows = iter(rows)
    count = 0
    while chunk := list(islice(rows, ROWS_PER_CHUNK)):
        count += len(chunk)
        for column, values in zip(seen, zip(*chunk, strict=True), strict=True):
            column.add(values)
    if not count:
        return [Column(name=name, type="text") for name in header], 0
    return [column.column(name) for column, name in zip(seen, header, strict=True)], count


class RowsSeen:
    """Finds the columns, and counts the rows, while the rows of `watch` are read."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self.rows = 0

    def watch(self, rows: Iterable[Mapping[str, Json]]) -> Iterator[Mapping[str, Json]]:
        """The same rows. The columns are all keys that occur, in order of appearance."""
        for row in rows:
            self.rows += 1
            if not row.keys() <= self._names.keys():
                self._names |= dict.fromkeys(row)
                if len(self._names) > MAX_COLUMNS:
                    raise BrokenTable(
                        f"its rows have more than {MAX_COLUMNS:,} different members together"
                    )
                if max(map(len, row)) > MAX_COLUMN_NAME:
                    raise BrokenTable(
                        f"the name of a member has more than {MAX_COLUMN_NAME:,} characters"
                    )
            yield row

    @property
    def columns(self) -> list[Column]:
        return [Column(name=name, type="any") for name in self._names]


def joined_members(first: str, second: str) -> str:
    """An object, as JSON, with the members of two. The first ones come without braces."""
    if not first:
        return second
    return f"{{{first}{second[1:]}" if second == "{}" else f"{{{first},{second[1:]}"


# --- writing ---------------------------------------------------------------------------------


def in_chunks(lines: Iterable[str]) -> Iterator[bytes]:
    """Lines as bytes, so many at a time that writing them costs little."""
    lines = iter(lines)
    while chunk := "".join(islice(lines, ROWS_PER_CHUNK)):
        yield chunk.encode()


def write_jsonl(rows: Iterable[Mapping[str, Json]]) -> Iterator[bytes]:
    """The rows as JSON Lines, in chunks of 256 rows. Raises ValueError for NaN and Infinity."""
    return in_chunks(f"{to_json(row)}\n" for row in rows)


def write_csv(
    rows: Iterable[Mapping[str, Json]], columns: Sequence[Column], guard_formulas: bool = True
) -> Iterator[bytes]:
    """The rows as CSV with a header, in chunks of 256 rows.

    Text is written as it is, None as an empty cell, lists, objects and booleans as JSON, and the
    numbers of a CSV file as they were there. With `guard_formulas`, text that a spreadsheet would
    run as a formula gets an apostrophe in front.
    """
    return in_chunks(csv_lines(rows, columns, guard_formulas))


def csv_lines(
    rows: Iterable[Mapping[str, Json]], columns: Sequence[Column], guard_formulas: bool
) -> Iterator[str]:
    guard = csv_files.harmless if guard_formulas else str
    names = [column["name"] for column in columns]
    header = [guard(name) for name in names]
    writer = CsvWriter(header)
    yield writer.line(header)
    cells = [(column["name"], _cell_maker(column, guard)) for column in columns]
    for row in rows:
        yield writer.line([cell(row.get(name)) for name, cell in cells])


def csv_lines_of_cells(
    rows: Iterable[list[str]], columns: Sequence[Column], guard_formulas: bool
) -> Iterator[str]:
    """The lines of a CSV file with the cells of another one, under its columns."""
    header = [column["name"] for column in columns]
    texts = [at for at, column in enumerate(columns) if column["type"] not in ("integer", "number")]
    if guard_formulas:
        header = [csv_files.harmless(name) for name in header]
    writer = CsvWriter(header)
    yield writer.line(header)
    for row in rows:
        if guard_formulas:
            for at in texts:
                if row[at].startswith(csv_files.FORMULA_STARTS):
                    row[at] = csv_files.harmless(row[at])
        yield writer.line(row)


def _cell_maker(column: Column, guard: Callable[[str], str]) -> Callable[[Json], Json]:
    decimals = column.get("decimals", 0)
    is_number = column["type"] == "number"

    def cell(value: Json) -> Json:
        if isinstance(value, str):
            return guard(value)
        if isinstance(value, float) and is_number:
            return text_of(value, decimals)
        if isinstance(value, dict | list | bool):
            return json.dumps(value, ensure_ascii=False)
        return value

    return cell
