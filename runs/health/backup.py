"""Copying a running SQLite installation: the database, the files and the keys, consistently.

The copy is one folder, with which the installation can be started as it is.
"""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import connection

from graphs.definition import errors
from statemanager.conf import conf

DATABASE, FILES = "db.sqlite3", "files"
KEYS = ("secret.key", "secrets.key")
MAX_TRIES = 5

# The files that a database needs: those that runs made and those of datasets.
NAMED_FILES = """
    SELECT file FROM statemanager_runs_artifact
    UNION
    SELECT file FROM statemanager_graphs_datasettable
"""
RUN_COUNT = "SELECT count(*) FROM statemanager_runs_run"


@dataclass(frozen=True)
class Copy:
    """Where the copy is, how many runs and files it holds, and its size in bytes."""

    folder: Path
    runs: int
    files: int
    size: int


def backup(target: Path) -> Copy:
    """Copy the installation to a new folder while it goes on working.

    The database is copied first, as it is at one moment. The files that it names exist by then and
    are copied afterwards. If some of them are deleted meanwhile, the copying starts again.

    Raises Malformed on another database than SQLite, and Conflict if the folder exists or files are
    deleted faster than they can be copied.
    """
    if connection.vendor != "sqlite":
        raise errors.Malformed(
            "This command copies SQLite installations only."
            " Use pg_dump for PostgreSQL, as docs/operations.md describes."
        )
    if target.exists():
        raise errors.Conflict(f"{target} exists already. Name a new folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    # The copy gets its name only when it is complete.
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _copy_until_complete(work)
        copy = _describe(work, target)
        work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return copy


def _copy_until_complete(work: Path) -> None:
    for _ in range(MAX_TRIES):
        missing = _copy(work)
        if not missing:
            return
    raise errors.Conflict(
        f"Files are deleted faster than they can be copied; {missing} are missing from the copy."
        " Try again when fewer runs are being deleted."
    )


def _copy(work: Path) -> int:
    """Copy everything; return how many of the files that the copied database names are missing."""
    (work / DATABASE).unlink(missing_ok=True)
    _copy_database(work / DATABASE)
    shutil.rmtree(work / FILES, ignore_errors=True)
    try:
        shutil.copytree(
            conf.FILES_DIR, work / FILES, copy_function=_copy_if_exists, dirs_exist_ok=True
        )
    except shutil.Error as error:  # folders were deleted meanwhile
        return len(error.args[0])
    keys = getattr(settings, "VAR", work)  # other projects keep their keys elsewhere
    for key in KEYS:
        if (keys / key).exists():
            shutil.copy2(keys / key, work / key)
    with closing(sqlite3.connect(work / DATABASE)) as copy:
        return sum(not (work / FILES / name).exists() for (name,) in copy.execute(NAMED_FILES))


def _copy_database(target: Path) -> None:
    """Copy the database with SQLite's online backup: one consistent moment, and no writer waits."""
    connection.ensure_connection()
    with closing(sqlite3.connect(target)) as copy:
        connection.connection.backup(copy)
        copy.execute("PRAGMA journal_mode=WAL")


def _copy_if_exists(source: str, target: str) -> None:
    try:
        shutil.copy2(source, target)
    except FileNotFoundError:
        return  # deleted while the folder was being copied


def _describe(work: Path, target: Path) -> Copy:
    paths = [path for path in work.rglob("*") if path.is_file()]
    with closing(sqlite3.connect(work / DATABASE)) as copy:
        [[runs]] = copy.execute(RUN_COUNT)
    return Copy(
        folder=target,
        runs=runs,
        files=sum(FILES in path.relative_to(work).parts for path in paths),
        size=sum(path.stat().st_size for path in paths),
    )
