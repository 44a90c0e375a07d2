"""The condition that a run has a label, on both databases."""

import json
import re
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, F, Func, Q, Value
from django.db.models.sql.compiler import SQLCompiler

from runs.core import sql

_UNCLEAR = re.compile(r'[\s="]')
_DECODER = json.JSONDecoder()


def labelled(value: str, labels: str = "labels") -> Q:
    """Runs with a label, given as its key or as key=value; `labels` is the way to the column.

    Both may be quoted as in JSON.
    """
    key, equals, label_value = _parts(value)
    if not key:
        raise ValueError("a label is key=value, or a key alone")
    if not sql.postgres():
        return Q(HasLabel(F(labels), Value(key), *([Value(label_value)] if equals else [])))
    if not equals:
        return Q(**{f"{labels}__has_key": key})
    return Q(**{f"{labels}__contains": {key: label_value}})  # an index could answer this


def written(key: str, value: str) -> str:
    """The text that means this label, quoted where it could be read in another way."""
    return f"{_quoted(key)}={_quoted(value)}"


def _quoted(text: str) -> str:
    is_plain = text and not _UNCLEAR.search(text)
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _parts(text: str) -> tuple[str, bool, str]:
    """The key of a label, whether a value follows, and the value. Raises ValueError."""
    if text.startswith('"'):
        key, end = _DECODER.raw_decode(text)
        rest = text[end:]
        if rest and not rest.startswith("="):
            raise ValueError("after the key of a label comes = or nothing")
        equals, value = bool(rest), rest[1:]
    else:
        key, sign, value = text.partition("=")
        equals = bool(sign)
    if value.startswith('"') and value.endswith('"') and len(value) > 1:
        value = str(_DECODER.decode(value))
    return key, equals, value


class HasLabel(Func):
    """On SQLite, whether an object has a key, or a key with a text.

    A JSON path can't name every key: SQLite compares the letters of the path with the stored
    escapes, and takes digits for the place in a list.
    """

    output_field = BooleanField()

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any
    ) -> tuple[str, tuple[str | int, ...]]:
        labels, *wanted = (compiler.compile(part) for part in self.get_source_expressions())
        columns = ("key", "atom")[: len(wanted)]
        condition = " AND ".join(f"{name} = %s" for name in columns)
        params = (*labels[1], *(value for _, values in wanted for value in values))
        return f"EXISTS (SELECT 1 FROM json_each({labels[0]}) WHERE {condition})", params
