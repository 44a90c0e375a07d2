"""Snapshots of the test database and of files, which can be restored.

Django's `flush` empties every table and recreates content types and permissions, which takes
longer than most tests. A snapshot is restored in a few milliseconds.
"""

import io
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Protocol

from django.db import connection

from statemanager.conf import conf

LARGE = 2**20  # bytes; smaller tables are emptied faster by DELETE, which makes no new files


class Snapshot(Protocol):
    def restore(self) -> None: ...


def take() -> Snapshot:
    return SqliteSnapshot() if connection.vendor == "sqlite" else PostgresSnapshot()


class SqliteSnapshot:
    """A copy of the whole file in memory.

    Sequences are not reset, so that a process that caches rows by id never finds another row under
    the same id.
    """

    def __init__(self) -> None:
        connection.ensure_connection()
        self.copy = sqlite3.connect(":memory:", check_same_thread=False)
        connection.connection.backup(self.copy)

    def restore(self) -> None:
        connection.ensure_connection()
        live = connection.connection
        sequences = live.execute("SELECT seq, name FROM sqlite_sequence").fetchall()
        self.copy.backup(live)
        live.execute("DELETE FROM sqlite_sequence")
        live.executemany("INSERT INTO sqlite_sequence (seq, name) VALUES (?, ?)", sequences)
        live.commit()


class PostgresSnapshot:
    """The rows of every table that was not empty."""

    def __init__(self) -> None:
        self.tables = connection.introspection.django_table_names(only_existing=True)
        self.rows = {table: _copy_out(table) for table in self._filled()}

    def _filled(self) -> dict[str, int]:
        """{table: bytes} of the tables that have rows, by one statement."""
        parts = [
            f"SELECT '{table}', pg_relation_size('\"{table}\"')"
            f' WHERE EXISTS (SELECT 1 FROM "{table}")'
            for table in self.tables
        ]
        with connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(parts))
            return dict(cursor.fetchall())

    def restore(self) -> None:
        filled = self._filled()
        large = [f'"{table}"' for table, size in filled.items() if size > LARGE]
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")  # foreign keys in any order
            if large:
                cursor.execute(f"TRUNCATE {', '.join(large)} CASCADE")
            for table in filled:
                cursor.execute(f'DELETE FROM "{table}"')
            for table, rows in self.rows.items():
                with cursor.copy(f'COPY "{table}" FROM STDIN') as copy:
                    copy.write(rows)
            cursor.execute("SET session_replication_role = DEFAULT")


def _copy_out(table: str) -> bytes:
    rows = io.BytesIO()
    with connection.cursor() as cursor, cursor.copy(f'COPY "{table}" TO STDOUT') as copy:
        for part in copy:
            rows.write(part)
    return rows.getvalue()


class FilesSnapshot:
    """A copy of the files of runs, which belongs to a snapshot of the rows."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="statemanager-files-"))
        if conf.FILES_DIR.exists():
            shutil.copytree(conf.FILES_DIR, self.folder, dirs_exist_ok=True)

    def restore(self) -> None:
        shutil.copytree(self.folder, conf.FILES_DIR, dirs_exist_ok=True)

    def close(self) -> None:
        shutil.rmtree(self.folder)
