"""Whether the tables are what the models say: columns, indexes and constraints.

Indexes that somebody added are fine (`create_search_indexes` adds some). Columns that no model has
and unique indexes that nobody knows are reported, because they make inserts fail.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from django.apps import apps
from django.db import connection
from django.db.models import ForeignKey, Model

from graphs.web.ttl_cache import cached
from runs.core import sql
from runs.health.probes import Finding

CACHE_SECONDS = 60.0
LABELS = ("statemanager_graphs", "statemanager_runs")
FIX = (
    "Restore what is missing as the migrations have it (manage.py sqlmigrate shows them), and"
    " change the tables by migrations only."
)
# Indexes that PostgreSQL does not use, because making them concurrently failed.
INVALID_INDEXES = """
    SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE NOT i.indisvalid AND c.relname LIKE 'sm\\_%%'
"""
Constraints = Mapping[str, Mapping[str, Any]]


def findings() -> Iterator[Finding]:
    """Find tables that were changed by something else than migrations.

    Reading how every table is made takes a second or two on SQLite, so a process that is asked
    again within CACHE_SECONDS gives the same answer.
    """
    yield from cached(("schema", _version()), lambda: list(_find()), seconds=CACHE_SECONDS)


def _version() -> int:
    """Changes with every change of the tables on SQLite; PostgreSQL has nothing like it."""
    return sql.run("PRAGMA schema_version")[0][0] if connection.vendor == "sqlite" else 0


def _find() -> Iterator[Finding]:
    for model in _models():
        for problem in _problems(model):
            yield Finding("error", f"The table {model._meta.db_table} {problem}.", FIX)
    if connection.vendor == "postgresql":
        for (name,) in sql.run(INVALID_INDEXES):
            yield Finding(
                "warning",
                f"The index {name} is not valid, so it is not used.",
                f'Run REINDEX INDEX CONCURRENTLY "{name}".',
            )


def _models() -> list[type[Model]]:
    """Our models, with the tables of their many-to-many relations."""
    configs = [apps.get_app_config(label) for label in LABELS]
    return [model for config in configs for model in config.get_models(include_auto_created=True)]


def _problems(model: type[Model]) -> Iterator[str]:
    table = model._meta.db_table
    with connection.cursor() as cursor:
        described = connection.introspection.get_table_description(cursor, table)
        constraints = connection.introspection.get_constraints(cursor, table)
    stored = {column.name for column in described}
    fields = {str(field.column): field for field in model._meta.local_concrete_fields}
    for name in sorted(fields.keys() - stored):
        yield f"has no column {name}"
    for name in sorted(stored - fields.keys()):
        yield f"has a column {name} that no model has"
    for name in sorted(_named(model) - constraints.keys()):
        yield f"has no index or constraint {name}"
    for column, field in sorted(fields.items()):
        yield from _problems_of_field(column, field, constraints)
    yield from _unknown_unique(model, constraints)


def _named(model: type[Model]) -> set[str]:
    """The indexes and constraints that have a name of ours."""
    options = model._meta
    return {str(each.name) for each in (*options.indexes, *options.constraints)}


def _problems_of_field(column: str, field: Any, constraints: Constraints) -> Iterator[str]:
    of_column = [each for each in constraints.values() if each["columns"] == [column]]
    begin_with_it = [each for each in constraints.values() if each["columns"][:1] == [column]]
    if field.unique and not any(each["unique"] or each["primary_key"] for each in of_column):
        yield f"has nothing that keeps {column} unique"
    is_foreign_key = isinstance(field, ForeignKey) and getattr(field, "db_constraint", True)
    if is_foreign_key and not any(each["foreign_key"] for each in of_column):
        yield f"has no foreign key {column}"
    if field.db_index and not field.unique and not any(each["index"] for each in begin_with_it):
        yield f"has no index of {column}"


def _unknown_unique(model: type[Model], constraints: Constraints) -> Iterator[str]:
    known = _named(model)
    single = {field.column for field in model._meta.local_concrete_fields if field.unique}
    together = {tuple(sorted(columns)) for columns in _unique_together(model)}
    for name, each in sorted(constraints.items()):
        columns = tuple(sorted(filter(None, each["columns"] or ())))
        is_known = name in known or each["primary_key"] or columns in together
        if each["unique"] and not is_known and not single.issuperset(columns):
            yield f"has a unique index {name} that no model has"


def _unique_together(model: type[Model]) -> Iterator[list[str]]:
    for names in model._meta.unique_together:
        yield [str(model._meta.get_field(name).column) for name in names]  # type: ignore[union-attr]
