"""The condition that a run has a label, on both databases."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, F, Func, Q, Value
from django.db.models.sql.compiler import SQLCompiler

from runs.core import sql


def labelled(value: str, labels: str = "labels") -> Q:
    """Runs with a label, given as its key or as key=value; `labels` is the way to the column."""
    key, equals, label_value = value.partition("=")
    if not key:
        raise ValueError("a label is key=value, or a key alone")
    if not sql.postgres():
        return Q(HasLabel(F(labels), Value(key), *([Value(label_value)] if equals else [])))
    if not equals:
        return Q(**{f"{labels}__has_key": key})
    return Q(**{f"{labels}__contains": {key: label_value}})  # an index could answer this


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
