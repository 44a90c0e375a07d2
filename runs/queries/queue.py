"""The queue of external runs as lists show it, and its filters."""

from collections.abc import Mapping
from typing import Any

import django_filters
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Func
from django.db.models.sql.compiler import SQLCompiler
from django.http import QueryDict

from graphs.auth.callers import Caller
from graphs.models.querysets import InNamespaces
from runs.external import queue
from runs.models import QueueEntry
from runs.queries.filters import ExactFilter, InvalidFilters, TextFilter
from runs.queries.labels import labelled


class Unindexed(Func):
    """A column that SQLite compares without an index. PostgreSQL knows when not to use one."""

    arity = 1
    template = "%(expressions)s"

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any
    ) -> tuple[str, tuple[str | int, ...]]:
        sql, params = self.as_sql(compiler, connection, template="+%(expressions)s")
        return sql, tuple(params)


class QueueFilter(django_filters.FilterSet):
    """Runs by their namespace, workspace, session, run id, and one label."""

    namespace = ExactFilter(field_name="namespace__name", help_text="its namespace")
    workspace = ExactFilter(field_name="of_workspace", help_text="its workspace")
    session = ExactFilter(field_name="of_session", help_text="its session")
    label = TextFilter(
        read=lambda text: labelled(text, "run__labels"),
        help_text="a label as key=value, or its key",
    )
    run_id = ExactFilter(field_name="run__run_id", help_text="its whole run id")

    class Meta:
        model = QueueEntry
        fields: list[str] = []


def waiting(caller: Caller, filters: Mapping[str, str]) -> InNamespaces:
    """The entries of the runs that the caller may claim now and that match these filters.

    Raises InvalidFilters for values that can't be read.
    """
    query = QueryDict(mutable=True)
    query.update({name: value for name, value in filters.items() if value})
    entries = queue.waiting(caller).alias(
        of_workspace=Unindexed(F("run__workspace")), of_session=Unindexed(F("run__session_id"))
    )
    filterset = QueueFilter(query, queryset=entries)
    if not filterset.is_valid():
        raise InvalidFilters({name: " ".join(texts) for name, texts in filterset.errors.items()})
    return filterset.qs


def with_runs(entries: InNamespaces) -> InNamespaces:
    """The entries with what is shown of their runs."""
    return entries.select_related("run__namespace", "run__parent")
