"""A copy that was made under load is started elsewhere, and every run that it holds ends."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from runs.engine.start import start_run
from runs.models import Run, State
from tests import postgres
from tests.support.clusters import ROOT, environment, supervised, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.cluster]
RUNS = 24


@pytest.fixture
def graph(publish):
    return publish(
        "start>out>work>slow>file", kinds={"out": "test.each", "work": "test.work", "slow": "test.sleep", "file": "test.emit"},
        inputs={"out": {"items": [1, 2, 3]}, "work": {"seconds": 0.03}, "slow": {"seconds": 0.5}, "file": {"rows": 3}},
    )  # fmt: skip


def start_many(graph):
    """Have work in every stage: runs that are over, states in the hands of workers, and runs that have only begun."""
    for _ in range(RUNS // 2):
        start_run(graph)
    until(lambda: Run.objects.filter(status="completed").exists(), 30)
    for _ in range(RUNS - RUNS // 2):
        start_run(graph)
    until(lambda: State.objects.filter(identifier="slow", status="QUEUED").exists(), 30)


@pytest.fixture(autouse=True)
def _no_files():
    """What tests before left, whose rows are gone, is not to be copied."""
    shutil.rmtree(settings.FILES, ignore_errors=True)


def restored(env):
    """A supervisor on the copy, until nothing is unfinished; what `verify` and the runs say then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "supervise", "--workers", "2"],
        cwd=ROOT,
        env=env,
        stderr=subprocess.DEVNULL,
    )
    script = "from runs.models import Run; print(Run.objects.filter(pending_count__gt=0).count(), Run.objects.exclude(status='completed').count())"
    try:
        until(lambda: shell(env, script).split() == ["0", "0"], 60, 0.5)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    verified = subprocess.run(
        [sys.executable, "-m", "django", "verify"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "all counters match their states" in verified.stdout, verified.stdout + verified.stderr


def shell(env, script):
    done = subprocess.run(
        [sys.executable, "-m", "django", "shell", "-v0", "-c", script],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_copy_made_under_load(graph, tmp_path):
    if connection.vendor != "sqlite":
        with pytest.raises(CommandError, match="pg_dump"):
            call_command("backup", tmp_path / "copy")
        return
    with supervised():
        start_many(graph)
        call_command("backup", tmp_path / "copy", stdout=(said := StringIO()))
    assert f"{RUNS} runs" in said.getvalue()
    assert not list(tmp_path.glob(".copy*")), "nothing half done is left"
    with sqlite3.connect(tmp_path / "copy" / "db.sqlite3") as copy:
        [[unfinished]] = copy.execute(
            "SELECT count(*) FROM statemanager_runs_run WHERE pending_count > 0"
        )
    assert unfinished > 0, "it was made in the middle"
    with pytest.raises(CommandError, match="is there already"):
        call_command("backup", tmp_path / "copy")
    env = environment(VAR_DIR=str(tmp_path / "copy"), DATABASE_URL="")
    restored({key: value for key, value in env.items() if key != "DATABASE_URL"})


def test_a_dump_made_under_load(graph, tmp_path):
    """The way that docs/operations.md tells for PostgreSQL."""
    binaries = postgres.binaries()
    if connection.vendor != "postgresql":
        return
    assert binaries
    dump = shutil.which("pg_dump", path=f"{binaries}:{os.environ['PATH']}")
    restore = shutil.which("pg_restore", path=f"{binaries}:{os.environ['PATH']}")
    assert dump
    assert restore
    url = environment()["DATABASE_URL"]
    with supervised():
        start_many(graph)
        subprocess.run([dump, "-Fc", "-f", str(tmp_path / "state.dump"), url], check=True)
        shutil.copytree(settings.FILES, tmp_path / "files")
    name = "restored_copy"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        target = f"{url.rpartition('/')[0]}/{name}"
        subprocess.run(
            [restore, "--no-owner", "-d", target, str(tmp_path / "state.dump")], check=True
        )
        assert Path(tmp_path / "files").exists()
        with psycopg.connect(target) as copy:
            [[unfinished]] = copy.execute(
                "SELECT count(*) FROM statemanager_runs_run WHERE pending_count > 0"
            )
            [[held]] = copy.execute(
                "SELECT count(*) FROM statemanager_runs_state WHERE status = 'QUEUED'"
            )
        assert unfinished > 0, "it was made in the middle"
        assert held > 0, "with states in the hands of workers that the copy will never hear of"
        restored(environment(DATABASE_URL=target, FILES_DIR=str(tmp_path / "files")))
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
