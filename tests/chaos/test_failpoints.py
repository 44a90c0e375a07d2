"""At each named place a process is killed, stopped past its lease, or loses its database: nothing is lost, nothing recorded twice.

A new place in `runs.failpoints` is tested from itself. `--chaos-rounds N` does every action at every place N times; without it each place has one kill.
"""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from time import monotonic

import pytest

from runs import rescuing, statuses
from runs.failpoints import ACTIONS, POINTS
from runs.models import BulkOperation, Checkpoint, LogLine, Run, State
from runs.starting import RunOptions, start_run
from tests.clusters import FAST, ROOT, environment, until
from tests.invariants import assert_books_agree

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos]
RUNS = 4


def pytest_generate_tests(metafunc):
    rounds = metafunc.config.getoption("--chaos-rounds")
    actions = ACTIONS if rounds else ("kill",)
    if "point" in metafunc.fixturenames:
        mine = [point for point, who in POINTS.items() if (who == "caller") == ("caller" in metafunc.function.__name__)]
        cases = [(point, action) for point in mine for action in actions] * max(1, rounds)
        metafunc.parametrize(("point", "action"), cases, ids=[f"{point}-{action}-{number}" for number, (point, action) in enumerate(cases)])


@contextmanager
def fault(point, action, tmp_path):
    """The environment that arms it, and what it stopped goes on in the end."""
    marker = tmp_path / "fired"
    try:
        yield environment(STATEMANAGER_FAILPOINT=f"{point}:{action}:{marker}"), marker
    finally:
        wake(marker)


def wake(marker):
    if marker.exists():
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(marker.read_text()), signal.SIGCONT)


def supervisor(env):
    return subprocess.Popen([sys.executable, "-m", "django", "supervise", "--workers", "2"], cwd=ROOT, env=env, stderr=subprocess.DEVNULL)


def test_a_place_of_the_cluster(point, action, publish, tmp_path, lane, record_property):
    graph = publish(
        "start>out>work>slow>all work>once>all",
        kinds={"out": "test.each", "work": "test.work", "slow": "test.sleep", "once": "test.tool"},
        inputs={
            "out": {"items": [1, 2, 3]},
            "work": {"seconds": 0.02, "value": "${{ out.outputs.value }}"},
            "slow": {"seconds": 1.3 if point == "in-heartbeat" else 0.1, "value": "${{ work.outputs.value }}"},
            "once": {"path": str(tmp_path / "calls")},
            "all": {"value": "${{ slow.outputs.value }}"},
        },
        data={"all": {"unites": {"identifier": "start"}}, "once": {"retry": {"max_retries": 2, "backoff_factor": 0.001}}},
    )
    with fault(point, action, tmp_path) as (env, marker):
        process = supervisor(env)
        try:
            runs = [start_run(graph) for _ in range(RUNS)]
            if point == "in-sweep-between-mark-and-hint":
                lose_a_state(graph)
            until(marker.exists, 40)
            fired = monotonic()
            if action == "kill" and until(marker.read_text) == str(process.pid):
                process.wait(10)
                process = supervisor(env)
            if action == "stop":
                until(lambda: monotonic() - fired > float(FAST["LEASE_SECONDS"]) + 1.5, 10)
                wake(marker)
            until(lambda: not Run.objects.filter(pending_count__gt=0).exists(), 60, 0.1)
            record_property("report", f"{lane}: {action} at {point}: all runs over {monotonic() - fired:.1f} s later")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    for run in runs:
        assert_books_agree(run)
        assert run.status == "completed", run.error_message
        assert [counts[1] for counts in run.tally.values()] == [1, 3, 3, 3, 3, 1], run.tally
        assert run.tool_results.count() == 3
    more = State.objects.filter(run__in=runs, attempt__gt=1).count()
    assert more <= 100, "at most a slice is done again"


def lose_a_state(graph):
    """A state that a worker claimed and never reported."""
    lost = start_run(graph)
    State.objects.filter(run=lost, status__in=statuses.UNFINISHED).update(status="QUEUED", attempt=1, worker="gone", lease_expires_at=None)


def act(env, point, graph):
    return subprocess.Popen([sys.executable, "-m", "tests.chaos.actor", point, str(graph.pk)], cwd=ROOT, env=env, stderr=subprocess.PIPE)


def test_a_place_of_a_caller(point, action, publish, tmp_path):
    graph = publish("a>b")
    if point == "cancel-between-flag-and-states":
        start_run(graph, RunOptions(run_id="asked"))
    if point == "bulk-delete-between-batches":
        for _ in range(120):
            start_run(graph, RunOptions(labels={"doomed": "yes"}))
        start_run(graph, RunOptions(run_id="stays"))
    with fault(point, action, tmp_path) as (env, marker):
        first = act(env, point, graph)
        until(marker.exists, 30)
        wake(marker) if action == "stop" else None
        first.communicate(timeout=30)
        assert (first.returncode == 0) == (action == "stop"), first.returncode
        if action != "stop":
            untouched(point)
            BulkOperation.objects.update(lease_expires_at=None)  # as when its lease is over
            again = act(env, point, graph)
            _, said = again.communicate(timeout=30)
            assert again.returncode == 0, said.decode()[-500:]
    done(point)
    for run in Run.objects.filter(graph=graph):
        assert_books_agree(run)
    assert rescuing.rescue_expired() == 0


def untouched(point):
    """What a transaction had not committed isn't there; what it had, is."""
    if point == "run-created-before-response":
        assert Run.objects.filter(run_id="asked").count() == 1
    if point == "cancel-between-flag-and-states":
        assert Run.objects.get(run_id="asked").status == "queued"
        assert not State.objects.filter(status="CANCELLED").exists()
    if point == "checkpoint-put-before-commit":
        assert (Checkpoint.objects.count(), Run.objects.count()) == (0, 0)
    if point == "bulk-delete-between-batches":
        assert Run.objects.count() in (1, 21)


def done(point):
    if point == "run-created-before-response":
        assert (Run.objects.count(), State.objects.count()) == (1, 1)
    elif point == "cancel-between-flag-and-states":
        assert Run.objects.get(run_id="asked").status == "cancelled"
    elif point == "checkpoint-put-before-commit":
        assert (Run.objects.get(run_id="asked").status, Checkpoint.objects.count()) == ("completed", 1)
    elif point == "bulk-delete-between-batches":
        assert list(Run.objects.values_list("run_id", flat=True)) == ["stays"]
        assert (State.objects.count(), LogLine.objects.count()) == (1, 1)
        operation = BulkOperation.objects.get()
        assert (operation.done, operation.failed) == (120, 0)
    else:
        raise AssertionError(f"{point} has no test of its effect")
