"""Rows in and out of files: CSV with typed columns and JSON Lines, streamed, with every error named by file and line."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NoReturn

TYPES = ("integer", "number", "text")
MAX_LINE = 10 * 2**20
csv.field_size_limit(MAX_LINE)


class BrokenTable(ValueError):
    """A file that can't be read as a table; the message names the file and the line."""


class _Lines:
    """The text lines of a binary UTF-8 file, with or without a byte order mark; `number` is that of the line given last."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name, self.number = file, name, 0

    def __iter__(self) -> Iterator[str]:
        for raw in self._file:
            self.number += 1
            try:
                line = raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise BrokenTable(
                    f"{self._name}, line {self.number}: not UTF-8 (byte 0x{byte:02x}); give its encoding or convert it"
                ) from None
            if "\x00" in line:
                raise BrokenTable(f"{self._name}, line {self.number}: a NUL character")
            yield line


def read_csv(file: BinaryIO, name: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file with a header, all values as text. Raises BrokenTable."""
    lines = _Lines(file, name)
    rows = csv.reader(lines, strict=True)
    try:
        header = next(rows, None)
        if not header or not all(header):
            raise BrokenTable(f"{name}, line 1: every column needs a name in the header")
        if doubled := {column for column in header if header.count(column) > 1}:
            raise BrokenTable(
                f"{name}, line 1: the column {doubled.pop()!r} stands twice in the header"
            )
        width = len(header)
        for row in rows:
            if len(row) != width:
                if not row:
                    continue
                raise BrokenTable(
                    f"{name}, line {lines.number}: {len(row)} values for {width} columns"
                )
            yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise BrokenTable(f"{name}, line {lines.number}: {error}") from None


def read_jsonl(file: BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file; blank lines don't count. Raises BrokenTable."""
    lines = _Lines(file, name)
    for line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant, parse_float=_finite)
            if "\\u" in line:
                json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise BrokenTable(
                f"{name}, line {lines.number}: a lone surrogate, which is no valid text"
            ) from None
        except (ValueError, RecursionError) as error:
            raise BrokenTable(f"{name}, line {lines.number}: {error}") from None
        if not isinstance(row, dict):
            raise BrokenTable(f"{name}, line {lines.number}: not a JSON object")
        yield row


def _finite(text: str) -> float:
    if abs(value := float(text)) == float("inf"):
        raise ValueError(f"the number {text[:30]} is too large")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def read_rows(
    file: BinaryIO, name: str, format: str, columns: Iterable[Any]
) -> Iterator[dict[str, Any]]:
    """The rows of a table with their types: an empty CSV cell is None, numbers are numbers."""
    if format == "jsonl":
        yield from read_jsonl(file, name)
        return
    convert = {
        column["name"]: int if column["type"] == "integer" else float
        for column in columns
        if column["type"] != "text"
    }
    for row in read_csv(file, name):
        typed: dict[str, Any] = {key: value if value != "" else None for key, value in row.items()}
        for key, to in convert.items():
            if typed[key] is not None:
                typed[key] = to(typed[key])
        yield typed


class TypesSeen:
    """Learns the narrowest type of each column while rows pass by."""

    def __init__(self) -> None:
        self.types: dict[str, str] = {}
        self.rows = 0

    def watch_csv(self, rows: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
        for row in rows:
            if not self.rows:
                self.types = dict.fromkeys(row, "integer")
            self.rows += 1
            for key, kind in self.types.items():
                if kind != "text" and row[key] != "":
                    self.types[key] = _narrowest(row[key], kind)
            yield row

    def watch_json(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        for row in rows:
            self.rows += 1
            if row.keys() - self.types.keys():
                self.types |= {key: "any" for key in row if key not in self.types}
            yield row

    @property
    def columns(self) -> list[dict[str, str]]:
        return [{"name": name, "type": kind} for name, kind in self.types.items()]


def _narrowest(value: str, kind: str) -> str:
    """integer stays while whole numbers without leading zeros come, then number, then text."""
    digits = value[1:] if value[:1] == "-" else value
    if digits.isascii() and digits.isdigit():
        return kind if len(digits) < 19 and (digits == "0" or digits[0] != "0") else "text"
    try:
        number = float(value)
    except ValueError:
        return "text"
    plain = (
        value.strip("+-0123456789.eE") == ""
        and "_" not in value
        and number == number
        and abs(number) != float("inf")
    )
    leading_zero = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    return "number" if plain and not leading_zero else "text"


def write_jsonl(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """The rows as JSON Lines, in chunks of some kilobytes."""
    chunk: list[str] = []
    for row in rows:
        chunk.append(json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
        if len(chunk) >= 256:
            yield ("\n".join(chunk) + "\n").encode()
            chunk.clear()
    if chunk:
        yield ("\n".join(chunk) + "\n").encode()


def write_csv(
    rows: Iterable[Mapping[str, Any]], columns: list[str], guard_formulas: bool = True
) -> Iterator[bytes]:
    """The rows as CSV with a header. With the guard, text cells that a spreadsheet would run get a leading apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_cell(column, guard_formulas) for column in columns])
    for count, row in enumerate(rows, start=1):
        writer.writerow([_cell(row.get(column), guard_formulas) for column in columns])
        if count % 256 == 0:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(value: Any, guard_formulas: bool) -> Any:
    if isinstance(value, str):
        return (
            f"'{value}"
            if guard_formulas and value[:1] in ("=", "+", "-", "@", "\t", "\r")
            else value
        )
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value
