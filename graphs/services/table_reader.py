"""Reading a table for a node: a few values of each row, and the row as it is written in the file.

Most nodes look at some columns and pass the others on. What they pass on is copied, neither
converted nor formatted again: it stays exact, and copying is fast.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from json.encoder import encode_basestring
from typing import IO, Any

from graphs.definition.types import JsonObject
from graphs.services import tabular
from graphs.services.column_types import Column, converter
from graphs.services.csv_files import CsvReader, CsvWriter

Raw = Any  # a row as it was read: the cells of a CSV file, or a line of JSON and its object
Values = JsonObject


class CsvTable:
    """The rows of a CSV file; `columns` are in the order of its header."""

    format = "csv"

    def __init__(self, file: IO[bytes], name: str, columns: Collection[Column]) -> None:
        self._reader = CsvReader(file, name)
        self.columns = tabular.columns_in_order(self._reader.header, columns)
        self._writer = CsvWriter(self._reader.header)

    def pairs(self, wanted: Collection[str] | None = None) -> Iterator[tuple[Raw, Values]]:
        """Each row with the values of the wanted columns, or of all of them."""
        converters = [
            (at, column["name"], converter(column))
            for at, column in enumerate(self.columns)
            if wanted is None or column["name"] in wanted
        ]
        for row in self._reader:
            yield row, {name: convert(row[at]) for at, name, convert in converters}

    def heading(self) -> str:
        return self._writer.line(self._reader.header)

    def line(self, raw: Raw) -> str:
        return self._writer.line(raw)

    def key_maker(self, wanted: Collection[str]) -> Callable[[Raw], tuple[str, ...]]:
        """A function that tells rows apart by the wanted columns, for a memory of results."""
        places = [at for at, column in enumerate(self.columns) if column["name"] in wanted]
        return lambda raw: tuple([raw[at] for at in places])

    def json_members(self, without: Collection[str]) -> Callable[[Raw], str]:
        """A function that gives the members of a row as JSON, without some of them."""
        kept = [column["name"] for column in self.columns if column["name"] not in without]
        return self.named_members({name: name for name in kept})

    def named_members(self, names: Mapping[str, str]) -> Callable[[Raw], str]:
        """A function that gives some columns of a row as JSON, under other names."""
        makers = [
            (at, f"{encode_basestring(names[column['name']])}:", _json_maker(column))
            for at, column in enumerate(self.columns)
            if column["name"] in names
        ]
        return lambda raw: ",".join([name + make(raw[at]) for at, name, make in makers])


class JsonTable:
    """The rows of a JSON Lines file. The values of a row are all its members."""

    format = "jsonl"

    def __init__(self, file: IO[bytes], name: str, columns: Collection[Column]) -> None:
        self._rows = tabular.read_json_lines(file, name)
        self.columns = list(columns)

    def pairs(self, wanted: Collection[str] | None = None) -> Iterator[tuple[Raw, Values]]:
        for line, row in self._rows:
            yield (line, row), row

    def heading(self) -> str:
        return ""

    def line(self, raw: Raw) -> str:
        line: str = raw[0]
        return line if line.endswith("\n") else f"{line}\n"

    def key_maker(self, wanted: Collection[str]) -> None:
        """There is no memory: members may be lists, and 1, 1.0 and true are different."""

    def json_members(self, without: Collection[str]) -> Callable[[Raw], str]:
        def members(raw: Raw) -> str:
            kept = {key: value for key, value in raw[1].items() if key not in without}
            return tabular.to_json(kept)[1:-1]

        return members

    def named_members(self, names: Mapping[str, str]) -> Callable[[Raw], str]:
        def members(raw: Raw) -> str:
            return tabular.to_json({new: raw[1].get(name) for name, new in names.items()})[1:-1]

        return members


TableRows = CsvTable | JsonTable


def open_table(file: IO[bytes], name: str, format: str, columns: Collection[Column]) -> TableRows:
    """Raises BrokenTable, as does reading the rows."""
    return JsonTable(file, name, columns) if format == "jsonl" else CsvTable(file, name, columns)


def _json_integer(cell: str) -> str:
    return cell or "null"


def _json_number(cell: str) -> str:
    """A number that JSON's readers take for a float."""
    if not cell:
        return "null"
    return cell if "." in cell else f"{cell}.0"


def _json_text(cell: str) -> str:
    return encode_basestring(cell) if cell else "null"


def _json_maker(column: Column) -> Callable[[str], str]:
    return _JSON.get(column["type"], _json_text)


_JSON = {"integer": _json_integer, "number": _json_number}
