"""An installation of each earlier release is migrated to this code and continues its runs."""

import gzip
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from tests.support.clusters import ROOT, database_url, supervised, until
from tests.upgrade.make import HERE, environment

RELEASES = sorted(path.name for path in HERE.iterdir() if path.name[0].isdigit())
TOMBSTONES = "SELECT run_id FROM statemanager_runs_tombstone"
LOST_LEASES = "SELECT sum(lost_leases) FROM statemanager_runs_state"
BEFORE = {
    "completed": "completed",
    "completed_rerun_1": "completed",
    "exported": "completed",
    "answered": "completed",
    "partial": "partial",
    "failed": "failed",
    "cancelled": "cancelled",
    "paused": "paused",
    "waiting": "paused",
    "external": "running",
    "running": "running",
    "queued": "queued",
}
AFTER = {**BEFORE, "running": "completed", "queued": "completed"}
pytestmark = [pytest.mark.cluster, pytest.mark.django_db(transaction=True)]


class Installation:
    """A copy of the installation of a release, in a database of its own."""

    def __init__(self, folder: Path, release: str) -> None:
        self.folder, self.url = folder, ""
        shutil.copytree(HERE / release / "files", folder / "files")
        if connection.vendor == "sqlite":
            file = folder / "db.sqlite3"
            file.write_bytes(gzip.decompress((HERE / release / "db.sqlite3.gz").read_bytes()))
            self.url = f"sqlite:///{file}"
        else:
            name = f"upgrade_{release.replace('.', '_')}"
            with connection.cursor() as cursor:
                cursor.execute(f'DROP DATABASE IF EXISTS "{name}"')
                cursor.execute(f'CREATE DATABASE "{name}"')
            self.url = f"{database_url().rpartition('/')[0]}/{name}"
            dump = gzip.decompress((HERE / release / "dump.sql.gz").read_bytes()).decode()
            with psycopg.connect(self.url, autocommit=True) as database:
                database.execute(dump)  # type: ignore[call-overload]
            self._move_files()

    def _move_files(self) -> None:
        """Put the files where the dump has them: those of the release are of its SQLite file."""
        for (name,) in self.rows("SELECT file FROM statemanager_runs_artifact"):
            target = self.folder / "files" / name
            if not target.exists():
                [source] = (self.folder / "files" / "runs").rglob(target.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                source.rename(target)

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        values = environment(self.folder, self.url)
        process = subprocess.run(
            command, cwd=ROOT, env=values, capture_output=True, text=True, check=False
        )
        assert not process.returncode, process.stdout + process.stderr
        return process.stdout

    def statuses(self) -> dict[str, str]:
        return dict(self.rows("SELECT run_id, status FROM statemanager_runs_run"))

    def rows(self, statement: str) -> list[Any]:
        if connection.vendor == "sqlite":
            with sqlite3.connect(self.folder / "db.sqlite3") as database:
                return database.execute(statement).fetchall()
        with psycopg.connect(self.url) as database:
            return database.execute(statement).fetchall()  # type: ignore[call-overload]


@pytest.mark.parametrize("release", RELEASES)
def test_an_old_installation_is_migrated_and_continues_its_runs(release, tmp_path):
    installation = Installation(tmp_path, release)
    assert installation.statuses() == BEFORE
    installation.manage("migrate", "--verbosity", "0")
    assert installation.statuses() == BEFORE
    installation.manage("verify", "--checksums")
    values = environment(tmp_path, installation.url)
    with supervised(workers=1, **{key: values[key] for key in ("VAR_DIR", "DATABASE_URL")}):
        until(lambda: installation.statuses() == AFTER, 60)
    installation.manage("verify")
    assert "deleted" in {run_id for [run_id] in installation.rows(TOMBSTONES)}
    [[lost]] = installation.rows(LOST_LEASES)
    assert lost == 1, "the state of the lost worker was not recovered exactly once"
