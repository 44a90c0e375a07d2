"""Searching texts in any case, with the same result on both databases.

Left alone, the databases differ: SQLite's LIKE and UPPER know only ASCII letters, PostgreSQL's LIKE
distinguishes case, and its UPPER knows the letters of the database's locale. So both sides of a
comparison are put into upper case letter by letter, as the C library does: by a function of ours
on SQLite, and by a collation that knows Unicode on PostgreSQL.

- `like`: the whole text matches a pattern in which `*` stands for any text.
- `any_case`: the text contains this one.
"""

from functools import cache
from typing import Any

from django.db import connection, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import Lookup
from django.db.models.sql.compiler import SQLCompiler
from django.dispatch import receiver

# Those that know the case of Unicode's letters, the most stable first: indexes depend on it.
_COLLATIONS = ("C.utf8", "C.UTF-8", "pg_c_utf8", "und-x-icu")
_FIND_COLLATIONS = """
    SELECT collname FROM pg_collation
    WHERE collname = ANY(%s) AND collencoding IN (-1, pg_char_to_encoding(getdatabaseencoding()))
"""


class Like(Lookup):
    """SQL's LIKE in any case, with `*` as the wildcard; every other character is literal."""

    lookup_name = "like"

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[str | int, ...]]:
        left, params = self.process_lhs(compiler, connection)
        pattern = upper("%s" if connection.vendor == "sqlite" else "%s::text")
        return f"{upper(left)} LIKE {pattern} ESCAPE '\\'", (*params, self._pattern(str(self.rhs)))

    def _pattern(self, text: str) -> str:
        return _escaped(text).replace("*", "%")


class AnyCase(Like):
    """Whether the text contains this one, in any case."""

    lookup_name = "any_case"

    def _pattern(self, text: str) -> str:
        return f"%{_escaped(text)}%"


for _field in (models.CharField, models.TextField):
    _field.register_lookup(Like)
    _field.register_lookup(AnyCase)


def upper(expression: str) -> str:
    """SQL for a text in upper case. Indexes for searches have it, too."""
    if connection.vendor == "sqlite":
        return f"statemanager_upper({expression})"
    collation = _collation()
    return f'UPPER({expression} COLLATE "{collation}")' if collation else f"UPPER({expression})"


@cache
def _collation() -> str:
    """A collation of this server that knows Unicode, or "" for that of the database."""
    with connection.cursor() as cursor:
        cursor.execute(_FIND_COLLATIONS, [list(_COLLATIONS)])
        found = {row[0] for row in cursor.fetchall()}
    return next((name for name in _COLLATIONS if name in found), "")


@receiver(connection_created)
def add_upper(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Give a connection to SQLite the function that `upper` calls."""
    if connection.vendor == "sqlite":
        connection.connection.create_function("statemanager_upper", 1, _upper, deterministic=True)


def _upper(text: str | None) -> str | None:
    if text is None or text.isascii():
        return text and text.upper()
    return "".join(big if len(big := letter.upper()) == 1 else letter for letter in text)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
