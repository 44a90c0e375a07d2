"""Lists and named values written cell by cell instead of as JSON: each row of an input is a few fields, and the last row is empty."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms

LONGEST = 10_000
Row = tuple[str, list[str]]  # its name, and its texts in the order of the columns


@dataclass
class Rows:
    """The rows of one input. `keyed`: it is {name: value}, else [value]. `plain`: a value is text, else an object with a text for each column."""

    prefix: str
    label: str
    keyed: bool
    plain: bool
    columns: Mapping[str, Mapping[str, Any]]
    given: list[Row]
    count: int = 0

    @classmethod
    def of(cls, prefix: str, label: str, schema: Mapping[str, Any], given: Any) -> "Rows | None":
        """None where the schema, or the value that is there, asks for more than rows of texts."""
        keyed = schema.get("type") == "object"
        inner = schema.get("additionalProperties" if keyed else "items")
        if (
            not isinstance(inner, Mapping)
            or schema.get("properties")
            or (not keyed and schema.get("type") != "array")
        ):
            return None
        plain = inner.get("type") == "string"
        columns = {"value": inner} if plain else inner.get("properties") or {}
        if (
            not columns
            or not all(_is_text(each) for each in columns.values())
            or not (plain or set(columns) <= set(inner.get("required") or ()))
        ):
            return None
        found = cls(prefix, label, keyed, plain, columns, [])
        rows = found._read(given)
        if rows is None:
            return None
        found.given = rows
        return found

    def _read(self, value: Any) -> list[Row] | None:
        """A value that is there as rows; None where it is another thing."""
        if value is None:
            return []
        if not isinstance(value, dict if self.keyed else list):
            return None
        rows = []
        for name, each in (
            value.items() if isinstance(value, dict) else [("", each) for each in value]
        ):
            cells = {"value": each} if self.plain else each
            if (
                not isinstance(cells, dict)
                or set(cells) != set(self.columns)
                or name != name.strip()
                or (self.keyed and not name)
            ):
                return None
            if not all(_fits(cells[column], schema) for column, schema in self.columns.items()):
                return None
            rows.append((name, [cells[column] for column in self.columns]))
        return rows

    def fields(self, sent: Mapping[str, Any] | None) -> dict[str, forms.Field]:
        """The fields of the rows that are there and of an empty one; of as many as were `sent`."""
        self.count = len(self.given) + 1
        while sent and f"{self.prefix}-{self.count}-0" in sent:
            self.count += 1
        empty: Row = ("", [""] * len(self.columns))
        found: dict[str, forms.Field] = {}
        for at, (name, cells) in enumerate(
            [*self.given, *[empty] * (self.count - len(self.given))]
        ):
            if self.keyed:
                found[f"{self.prefix}-{at}-name"] = _field({"title": "Name"}, name)
            for number, (column, schema) in enumerate(self.columns.items()):
                found[f"{self.prefix}-{at}-{number}"] = _field(
                    {"title": column.replace("_", " ").capitalize(), **schema}, cells[number]
                )
        return found

    def names_of(self, at: int) -> list[str]:
        return [
            *([f"{self.prefix}-{at}-name"] if self.keyed else []),
            *(f"{self.prefix}-{at}-{number}" for number in range(len(self.columns))),
        ]

    @property
    def names(self) -> list[str]:
        """Of all its fields."""
        return [name for at in range(self.count) for name in self.names_of(at)]

    def bound(self, form: forms.BaseForm) -> list[list[Any]]:
        """The fields of each row, for the page."""
        return [[form[name] for name in self.names_of(at)] for at in range(self.count)]

    def _sent(self, found: Mapping[str, Any]) -> Iterator[tuple[int, Row]]:
        """The rows that say something. One that was there and has lost its name, or all of its texts in a list, is taken away."""
        for at in range(self.count):
            cells = [
                found.get(f"{self.prefix}-{at}-{number}") or ""
                for number in range(len(self.columns))
            ]
            name = (found.get(f"{self.prefix}-{at}-name") or "").strip()
            if name or (any(cells) and (not self.keyed or at >= len(self.given))):
                yield at, (name, cells)

    def wrong(self, found: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
        """(row, what is wrong with it)."""
        seen = set()
        for at, (name, cells) in self._sent(found):
            if self.keyed and not name:
                yield at, "This row needs a name."
            elif self.keyed and name in seen:
                yield at, f"There is a row {name!r} already."
            elif lacking := [
                column
                for text, (column, schema) in zip(cells, self.columns.items(), strict=True)
                if schema.get("enum") and not text
            ]:
                yield at, f"Choose the {lacking[0].replace('_', ' ')}."
            seen.add(name)

    def value(self, found: Mapping[str, Any]) -> Any:
        """What the rows say; None for none."""
        rows = [row for _, row in self._sent(found)]
        values = [
            cells[0] if self.plain else dict(zip(self.columns, cells, strict=True))
            for _, cells in rows
        ]
        return (
            dict(zip([name for name, _ in rows], values, strict=True)) if self.keyed else values
        ) or None


def _is_text(schema: Any) -> bool:
    return (
        isinstance(schema, Mapping)
        and schema.get("type") == "string"
        and all(isinstance(each, str) for each in schema.get("enum") or ())
    )


def _fits(text: Any, schema: Mapping[str, Any]) -> bool:
    return (
        isinstance(text, str)
        and not {"\n", "\r"} & set(text)
        and len(text) <= LONGEST
        and text in (schema.get("enum") or [text])
    )


def _field(schema: Mapping[str, Any], value: str) -> forms.Field:
    if schema.get("enum"):
        return forms.ChoiceField(
            choices=[("", "–"), *((each, each) for each in schema["enum"])],
            required=False,
            label=schema["title"],
            initial=value,
        )
    widget = forms.TextInput(
        attrs={"class": "fl-long", "spellcheck": "false"} if schema.get("format") == "cel" else {}
    )
    return forms.CharField(
        max_length=LONGEST,
        required=False,
        strip=False,
        label=schema["title"],
        initial=value,
        widget=widget,
    )
