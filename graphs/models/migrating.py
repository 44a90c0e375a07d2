"""Operations for migrations that run while old code works on the tables."""

from typing import Any

from django.contrib.postgres import operations
from django.db.migrations.operations import AddIndex, RemoveIndex
from django.db.migrations.state import ProjectState

_VALID = """
    SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relname = %s AND pg_table_is_visible(c.oid)
"""


class AddIndexConcurrently(operations.AddIndexConcurrently):
    """Makes an index without locking the table; on SQLite, an ordinary one.

    The migration must have `atomic = False`. It can be repeated if it was interrupted: an index
    that was made stays, and one that could not be made, which PostgreSQL keeps, is made again.
    """

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        is_valid = _is_valid(schema_editor, self.index.name)
        if is_valid:
            return
        if schema_editor.connection.vendor != "postgresql":
            AddIndex.database_forwards(self, app_label, schema_editor, from_state, to_state)
            return
        if is_valid is False:
            name = schema_editor.quote_name(self.index.name)
            with schema_editor.connection.cursor() as cursor:
                cursor.execute(f"DROP INDEX CONCURRENTLY {name}")
        super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        if schema_editor.connection.vendor != "postgresql":
            AddIndex.database_backwards(self, app_label, schema_editor, from_state, to_state)
            return
        super().database_backwards(app_label, schema_editor, from_state, to_state)


def _is_valid(schema_editor: Any, index: str) -> bool | None:
    """Whether the index can be used; None if there is none of this name."""
    with schema_editor.connection.cursor() as cursor:
        if schema_editor.connection.vendor == "postgresql":
            cursor.execute(_VALID, [index])
        else:
            cursor.execute(
                "SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = %s", [index]
            )
        row = cursor.fetchone()
    return bool(row[0]) if row else None


class RemoveIndexConcurrently(operations.RemoveIndexConcurrently):
    """Drops an index without locking the table; on SQLite, an ordinary one. It can be repeated."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        if _is_valid(schema_editor, self.name) is None:
            return
        if schema_editor.connection.vendor != "postgresql":
            RemoveIndex.database_forwards(self, app_label, schema_editor, from_state, to_state)
            return
        super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        if schema_editor.connection.vendor != "postgresql":
            RemoveIndex.database_backwards(self, app_label, schema_editor, from_state, to_state)
            return
        super().database_backwards(app_label, schema_editor, from_state, to_state)
