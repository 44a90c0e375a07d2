"""A backup is made under load and started elsewhere, and every run in it ends."""

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
from django.core.management import CommandError, call_command
from django.db import connection

from runs.engine.start import start_run
from runs.models import Run, State
from statemanager.conf import conf
from tests import postgres
from tests.support.clusters import ROOT, SUPERVISE, environment, supervised, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.cluster]
RUNS = 24


@pytest.fixture
def graph(publish):
    return publish(
        "start>out>work>slow>file",
        kinds={"out": "test.each", "work": "test.work", "slow": "test.sleep", "file": "test.emit"},
        inputs={
            "out": {"items": [1, 2, 3]},
            "work": {"seconds": 0.03},
            "slow": {"seconds": 0.5},
            "file": {"rows": 3},
        },
    )


def start_many(graph):
    """Start runs until some are completed, some have just begun, and workers are busy."""
    for _ in range(RUNS // 2):
        start_run(graph)
    until(lambda: Run.objects.filter(status="completed").exists(), 30)
    for _ in range(RUNS - RUNS // 2):
        start_run(graph)
    until(lambda: State.objects.filter(identifier="slow", status="QUEUED").exists(), 30)


@pytest.fixture(autouse=True)
def _no_files():
    """Remove the files of earlier tests, whose rows are gone, so that they are not copied."""
    shutil.rmtree(conf.FILES_DIR, ignore_errors=True)


def assert_all_runs_complete(env):
    """Run a cluster on the copy until all its runs are completed, and check them with `verify`."""
    process = subprocess.Popen(
        [*SUPERVISE, "--workers", "2"],
        cwd=ROOT,
        env=env,
        stderr=subprocess.DEVNULL,
    )
    script = (
        "from runs.models import Run;"
        "print(Run.objects.filter(pending_count__gt=0).count());"
        "print(Run.objects.exclude(status='completed').count())"
    )
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
    process = subprocess.run(
        [sys.executable, "-m", "django", "shell", "-v0", "-c", script],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stdout


def test_a_backup_made_under_load_can_be_started(graph, tmp_path):
    if connection.vendor != "sqlite":
        with pytest.raises(CommandError, match="pg_dump"):
            call_command("backup", tmp_path / "copy")
        return
    with supervised():
        start_many(graph)
        output = StringIO()
        call_command("backup", tmp_path / "copy", stdout=output)
    assert f"{RUNS} runs" in output.getvalue()
    assert not list(tmp_path.glob(".copy*")), "no temporary folder is left over"
    with sqlite3.connect(tmp_path / "copy" / "db.sqlite3") as copy:
        [[unfinished]] = copy.execute(
            "SELECT count(*) FROM statemanager_runs_run WHERE pending_count > 0"
        )
    assert unfinished > 0, "the copy was made while runs were unfinished"
    with pytest.raises(CommandError, match="exists already"):
        call_command("backup", tmp_path / "copy")
    env = environment(VAR_DIR=str(tmp_path / "copy"), DATABASE_URL="")
    assert_all_runs_complete({key: value for key, value in env.items() if key != "DATABASE_URL"})


@pytest.mark.only_on("postgresql")
def test_a_dump_made_under_load_can_be_started(graph, tmp_path):
    """The procedure for PostgreSQL in docs/operations.md."""
    binaries = postgres.binaries()
    assert binaries
    dump = shutil.which("pg_dump", path=f"{binaries}:{os.environ['PATH']}")
    restore = shutil.which("pg_restore", path=f"{binaries}:{os.environ['PATH']}")
    assert dump
    assert restore
    url = environment()["DATABASE_URL"]
    with supervised():
        start_many(graph)
        subprocess.run([dump, "-Fc", "-f", str(tmp_path / "state.dump"), url], check=True)
        shutil.copytree(conf.FILES_DIR, tmp_path / "files")
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
            [[leased]] = copy.execute(
                "SELECT count(*) FROM statemanager_runs_state WHERE status = 'QUEUED'"
            )
        assert unfinished > 0, "the copy was made while runs were unfinished"
        assert leased > 0, "the copy contains states whose workers don't exist there"
        assert_all_runs_complete(
            environment(DATABASE_URL=target, FILES_DIR=str(tmp_path / "files"))
        )
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
