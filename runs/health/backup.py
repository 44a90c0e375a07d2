"""A consistent copy of a living SQLite installation: database, files and keys, in one folder that can be started as it is."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from graphs.definition import errors

DATABASE, FILES = "db.sqlite3", "files"
KEYS = ("secret.key", "secrets.key")
TRIES = 5
_NAMED = "SELECT file FROM statemanager_runs_artifact UNION SELECT file FROM statemanager_graphs_datasettable"


@dataclass(frozen=True)
class Copy:
    """Where the copy is, how many runs and files it holds, and its size in bytes."""

    folder: Path
    runs: int
    files: int
    size: int


def backup(target: Path) -> Copy:
    """Copy everything to this folder, which must not exist yet, while work goes on.

    The database is copied first and at one moment; the files that it names exist by then, and are copied afterwards. If some were deleted meanwhile, it begins
    anew. Raises Conflict for a folder that is there, and Malformed on another database.
    """
    if connection.vendor != "sqlite":
        raise errors.Malformed(
            "This copies SQLite installations. For PostgreSQL use pg_dump, as docs/operations.md says."
        )
    if target.exists():
        raise errors.Conflict(f"{target} is there already; name a new folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for _ in range(TRIES):
            if not (missing := _copied(work)):
                break
        else:
            raise errors.Conflict(
                f"Files are deleted faster than they are copied; {missing} were missing at last."
            )
        with closing(sqlite3.connect(work / DATABASE)) as copy:
            [[runs]] = copy.execute("SELECT count(*) FROM statemanager_runs_run")
        found = [path for path in work.rglob("*") if path.is_file()]
        work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return Copy(
        target,
        runs,
        sum(FILES in path.relative_to(work).parts for path in found),
        sum((target / path.relative_to(work)).stat().st_size for path in found),
    )


def _copied(work: Path) -> int:
    """Copy all; how many of the files that the copied database names are missing."""
    (work / DATABASE).unlink(missing_ok=True)
    _copy_database(work / DATABASE)
    shutil.rmtree(work / FILES, ignore_errors=True)
    try:
        shutil.copytree(settings.FILES, work / FILES, copy_function=_if_there, dirs_exist_ok=True)
    except shutil.Error as gone:  # folders that were deleted meanwhile
        return len(gone.args[0])
    for key in KEYS:
        if (settings.VAR / key).exists():
            shutil.copy2(settings.VAR / key, work / key)
    with closing(sqlite3.connect(work / DATABASE)) as copy:
        return sum(not (work / FILES / name).exists() for (name,) in copy.execute(_NAMED))


def _copy_database(target: Path) -> None:
    """SQLite's own online backup: one consistent moment, no writer waits."""
    connection.ensure_connection()
    with closing(sqlite3.connect(target)) as copy:
        source: Any = connection.connection
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=WAL")


def _if_there(source: str, target: str) -> None:
    """A file that was deleted while the folder was being copied."""
    try:
        shutil.copy2(source, target)
    except FileNotFoundError:
        return
