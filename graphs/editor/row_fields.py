"""Fields for lists and mappings that are written cell by cell instead of as JSON.

Each row of an input is a few fields, and the last row is empty.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from django import forms
from django.forms.boundfield import BoundField

from graphs.definition.types import Json

MAX_TEXT = 10_000
Schema = Mapping[str, Json]


class Row(NamedTuple):
    """A row: its name, "" in a list, and its texts in the order of the columns."""

    name: str
    cells: list[str]


@dataclass
class Rows:
    """The rows of one input.

    With `keyed`, the input is a mapping of names to values, else a list of values. With `plain`, a
    value is a text, else an object with a text for each column.
    """

    prefix: str
    label: str
    keyed: bool
    plain: bool
    columns: Mapping[str, Schema]
    given: list[Row]
    count: int = 0

    @classmethod
    def of(cls, prefix: str, label: str, schema: Schema, given: Json) -> "Rows | None":
        """The rows of an input; None if rows of texts can't show its schema or its value."""
        keyed = schema.get("type") == "object"
        columns = _columns(schema, keyed)
        if columns is None:
            return None
        inner = schema["additionalProperties" if keyed else "items"]
        rows = cls(prefix, label, keyed, inner.get("type") == "string", columns, [])
        read = rows._read(given)
        if read is None:
            return None
        rows.given = read
        return rows

    def _read(self, value: Json) -> list[Row] | None:
        """The rows of a value; None if they can't show it."""
        if value is None:
            return []
        items: Iterable[tuple[str, Json]]
        if self.keyed and isinstance(value, dict):
            items = value.items()
        elif not self.keyed and isinstance(value, list):
            items = [("", item) for item in value]
        else:
            return None
        rows = [self._read_row(name, item) for name, item in items]
        known = [row for row in rows if row is not None]
        return known if len(known) == len(rows) else None

    def _read_row(self, name: str, item: Json) -> Row | None:
        cells = {"value": item} if self.plain else item
        if not isinstance(cells, dict) or cells.keys() != self.columns.keys():
            return None
        if name != name.strip() or (self.keyed and not name):
            return None
        if not all(_fits(cells[column], schema) for column, schema in self.columns.items()):
            return None
        return Row(name, [cells[column] for column in self.columns])

    def fields(self, data: Mapping[str, str] | None) -> dict[str, forms.Field]:
        """The fields of the rows and of an empty one; or as many rows as `data` has."""
        self.count = len(self.given) + 1
        while data and f"{self.prefix}-{self.count}-0" in data:
            self.count += 1
        empty = Row("", [""] * len(self.columns))
        rows = [*self.given, *[empty] * (self.count - len(self.given))]
        fields: dict[str, forms.Field] = {}
        for number, row in enumerate(rows):
            fields |= self._fields_of(number, row)
        return fields

    def _fields_of(self, number: int, row: Row) -> dict[str, forms.Field]:
        fields: dict[str, forms.Field] = {}
        if self.keyed:
            fields[f"{self.prefix}-{number}-name"] = _field({"title": "Name"}, row.name)
        for position, (column, schema) in enumerate(self.columns.items()):
            titled = {"title": column.replace("_", " ").capitalize(), **schema}
            fields[f"{self.prefix}-{number}-{position}"] = _field(titled, row.cells[position])
        return fields

    def names_of(self, number: int) -> list[str]:
        """The names of the fields of a row."""
        names = [f"{self.prefix}-{number}-{position}" for position in range(len(self.columns))]
        return [f"{self.prefix}-{number}-name", *names] if self.keyed else names

    @property
    def names(self) -> list[str]:
        """The names of all fields."""
        return [name for number in range(self.count) for name in self.names_of(number)]

    def bound(self, form: forms.BaseForm) -> list[list[BoundField]]:
        """The fields of each row, for the page."""
        return [[form[name] for name in self.names_of(number)] for number in range(self.count)]

    def _sent(self, cleaned: Mapping[str, Json]) -> Iterator[tuple[int, Row]]:
        """The rows that are filled in, with their numbers.

        A row that was there before is removed if its name, or in a list all of its texts, were
        emptied.
        """
        for number in range(self.count):
            prefix = f"{self.prefix}-{number}"
            positions = range(len(self.columns))
            cells = [cleaned.get(f"{prefix}-{position}") or "" for position in positions]
            name = (cleaned.get(f"{prefix}-name") or "").strip()
            may_lack_name = not self.keyed or number >= len(self.given)
            if name or (any(cells) and may_lack_name):
                yield number, Row(name, cells)

    def problems(self, cleaned: Mapping[str, Json]) -> Iterator[tuple[int, str]]:
        """(number of the row, what is wrong with it)"""
        seen: set[str] = set()
        for number, row in self._sent(cleaned):
            missing = self._missing_choice(row)
            if self.keyed and not row.name:
                yield number, "Enter a name for this row."
            elif self.keyed and row.name in seen:
                yield number, f"There is already a row {row.name!r}."
            elif missing:
                yield number, f"Choose the {missing.replace('_', ' ')}."
            seen.add(row.name)

    def _missing_choice(self, row: Row) -> str:
        """The first column with choices of which none was chosen; "" if there is none."""
        for text, (column, schema) in zip(row.cells, self.columns.items(), strict=True):
            if schema.get("enum") and not text:
                return column
        return ""

    def value(self, cleaned: Mapping[str, Json]) -> Json:
        """The value that the rows make; None if there are none."""
        rows = [row for _, row in self._sent(cleaned)]
        if not rows:
            return None
        if self.keyed:
            return {row.name: self._value_of(row) for row in rows}
        return [self._value_of(row) for row in rows]

    def _value_of(self, row: Row) -> Json:
        return row.cells[0] if self.plain else dict(zip(self.columns, row.cells, strict=True))


def _columns(schema: Schema, keyed: bool) -> Mapping[str, Schema] | None:
    """The columns of an input; None if its values are more than texts or objects of texts."""
    inner = schema.get("additionalProperties" if keyed else "items")
    if not isinstance(inner, Mapping) or schema.get("properties"):
        return None
    if not keyed and schema.get("type") != "array":
        return None
    if inner.get("type") == "string":
        return {"value": inner} if _is_text(inner) else None
    columns = inner.get("properties") or {}
    if not columns or not all(_is_text(column) for column in columns.values()):
        return None
    # A text that may be missing could not be told from an empty one.
    return columns if set(columns) <= set(inner.get("required") or ()) else None


def _is_text(schema: Json) -> bool:
    if not isinstance(schema, Mapping) or schema.get("type") != "string":
        return False
    return all(isinstance(choice, str) for choice in schema.get("enum") or ())


def _fits(text: Json, schema: Schema) -> bool:
    """Whether a cell can show the text as it is."""
    if not isinstance(text, str) or len(text) > MAX_TEXT or {"\n", "\r"} & set(text):
        return False
    return text in (schema.get("enum") or [text])


def _field(schema: Schema, value: str) -> forms.Field:
    if schema.get("enum"):
        choices = [("", "–"), *((choice, choice) for choice in schema["enum"])]
        return forms.ChoiceField(
            choices=choices, required=False, label=schema["title"], initial=value
        )
    is_expression = schema.get("format") == "cel"
    attributes = {"class": "fl-long", "spellcheck": "false"} if is_expression else {}
    return forms.CharField(
        max_length=MAX_TEXT,
        required=False,
        strip=False,
        label=schema["title"],
        initial=value,
        widget=forms.TextInput(attrs=attributes),
    )
