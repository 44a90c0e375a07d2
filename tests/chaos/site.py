"""An installation on a PostgreSQL server of its own, and a disk that can be filled."""

import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from runs.models import Run
from tests import postgres
from tests.chaos.installation import Installation
from tests.support.clusters import ROOT, database_url, environment, until
from tests.support.definitions import definition
from tests.support.invariants import assert_counters_agree

GRAPH = definition(
    "start>out>work>slow>all",
    kinds={"out": "test.each", "work": "test.work", "slow": "test.sleep"},
    inputs={
        "out": {"items": [1, 2, 3]},
        "work": {"seconds": 0.03},
        "slow": {"seconds": 0.15},
    },
    data={"all": {"unites": {"identifier": "start"}}},
)
STATES = {"start": 1, "out": 3, "work": 3, "slow": 3, "all": 1}

PREPARE = """
from graphs.auth import api_keys
from graphs.models import Namespace
from graphs.nodes.base import registry

registry.store()
Namespace.objects.create(name="alpha")
print(api_keys.create_key(["alpha"], "admin")[1])
"""

SUCCEEDED_STATES = """
SELECT identifier, count(*), count(DISTINCT (run_id, path))
FROM statemanager_runs_state
WHERE status = 'SUCCESS'
GROUP BY 1
"""

CUT_CONNECTIONS = """
SELECT count(pg_terminate_backend(pid))
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = 'statemanager'
"""

FAILED_STATES = """
SELECT identifier, status, attempt, lost_leases, error
FROM statemanager_runs_state
WHERE status NOT IN ('SUCCESS', 'CREATED', 'QUEUED')
"""


def drawing_options():
    """The graph of the site as arguments for the fixture `publish`."""
    kinds, inputs, data = {}, {}, {}
    for node in GRAPH["nodes"]:
        kinds[node["id"]], inputs[node["id"]] = node["kind"], node["data"]["inputs"]
        data[node["id"]] = {key: value for key, value in node["data"].items() if key != "inputs"}
    return {"kinds": kinds, "inputs": inputs, "data": data}


def assert_all_completed(count):
    runs = list(Run.objects.select_related("version"))
    assert [run.status for run in runs] == ["completed"] * count, [
        run.error_message for run in runs
    ]
    for run in runs:
        assert_counters_agree(run)
        assert {node: counts[1] for node, counts in run.node_counts.items()} == STATES


class Site:
    """An installation on a PostgreSQL server of its own. Runs are started over HTTP."""

    def __init__(self, tmp_path, env=None, server=None, **settings):
        self.server = server or postgres.Server(quick=False, **settings)
        self.server.copy_from(database_url())  # the test database is migrated: that takes seconds
        self.env = {"DATABASE_URL": self.server.url, "VAR_DIR": str(tmp_path), **(env or {})}
        key = self.command("shell", "-v0", "-c", PREPARE).split()[-1]
        self.installation = Installation(key, **self.env)
        self.started = 0
        self.graph = self.installation.post(
            "/graphs", {"name": "g", "namespace": "alpha", **GRAPH}, "graph"
        )["id"]

    def command(self, *arguments):
        """Run a management command, which must succeed, and return what it prints."""
        completed = self.run_command(*arguments)
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return completed.stdout

    def run_command(self, *arguments):
        return subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=ROOT,
            env=environment(**self.env),
            capture_output=True,
            text=True,
            check=False,
        )

    def start_command(self, *arguments):
        """Start a management command; its stderr is a pipe."""
        return subprocess.Popen(
            [sys.executable, "-m", "django", *arguments],
            cwd=ROOT,
            env=environment(**self.env),
            stderr=subprocess.PIPE,
        )

    def victims(self):
        """{pid: role} of every process of the installation that is running."""
        workers = self.read("SELECT DISTINCT worker FROM statemanager_runs_state WHERE worker > ''")
        return self.installation.victims(worker for (worker,) in workers)

    def start(self, runs=1):
        for _ in range(runs):
            self.started += 1
            self.installation.post(f"/graphs/{self.graph}/run", {}, f"run {self.started}")

    def read(self, statement):
        with psycopg.connect(self.server.url, autocommit=True) as database:
            return database.execute(statement).fetchall()

    def cut_connections(self):
        """Cut all connections to the database; return how many there were."""
        return self.read(CUT_CONNECTIONS)[0][0]

    def unfinished(self):
        return self.read("SELECT count(*) FROM statemanager_runs_run WHERE pending_count > 0")[0][0]

    def assert_all_completed_once(self):
        """Wait until all runs have ended; each state succeeded once, and the counters agree."""
        until(lambda: self.installation.revive() or not self.unfinished(), 90, 0.3)
        ended = self.read("SELECT status, count(*) FROM statemanager_runs_run GROUP BY 1")
        assert ended == [("completed", self.started)], (ended, self.read(FAILED_STATES))
        assert set(self.read(SUCCEEDED_STATES)) == {
            (node, states * self.started, states * self.started) for node, states in STATES.items()
        }
        assert "all counters match their states" in self.command("verify")

    def close(self):
        try:
            self.installation.close()
        finally:
            self.server.close()


@contextmanager
def site(tmp_path, env=None, server=None, **settings):
    opened = Site(tmp_path, env, server, **settings)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def small_disk(megabytes):
    """A file system of the given size. Mounting one needs root; without it the test is skipped."""
    folder = Path(tempfile.mkdtemp(prefix="statemanager-disk-"))
    folder.chmod(0o755)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a full disk (this user may not mount one)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()
