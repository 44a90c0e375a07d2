"""At each named place a process is killed, stopped past its lease, or loses its database: nothing is lost, nothing recorded twice.

A new place in `runs.core.failpoints` is tested from itself. `--chaos-rounds N` does every action at every place N times; without it each place has one kill.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager, suppress
from time import monotonic

import pytest
from django.db import transaction

from runs.core import statuses
from runs.core.failpoints import ACTIONS, POINTS
from runs.engine import lease_recovery
from runs.engine.start import RunOptions, start_outside, start_run
from runs.health import verify
from runs.models import BulkOperation, Checkpoint, Cluster, LogLine, Run, State, ToolResult
from tests.chaos.executions import executions, little_in_vain
from tests.support.clusters import FAST, ROOT, environment, until
from tests.support.invariants import assert_counters_agree

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos]
RUNS = 3  # before the fault is armed, and as many afterwards
WORKERS = 2
STATES = {"start": 1, "out": 3, "many": 60, "work": 3, "slow": 3, "once": 3, "all": 1, "fast": 60}
FAST_SECONDS = 0.001
CANCELS = ("cancel-between-flag-and-states", "after-cancel-commit")


def pytest_generate_tests(metafunc):
    rounds = metafunc.config.getoption("--chaos-rounds")
    actions = ACTIONS if rounds else ("kill",)
    if "point" in metafunc.fixturenames:
        mine = [
            point
            for point, who in POINTS.items()
            if (who == "caller") == ("caller" in metafunc.function.__name__)
        ]
        cases = [(point, action) for point in mine for action in actions] * max(1, rounds)
        metafunc.parametrize(
            ("point", "action"),
            cases,
            ids=[f"{point}-{action}-{number}" for number, (point, action) in enumerate(cases)],
        )


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
    return subprocess.Popen(
        [sys.executable, "-m", "django", "supervise", "--workers", str(WORKERS)],
        cwd=ROOT,
        env=env,
        stderr=subprocess.DEVNULL,
    )


def published(publish, tmp_path, slow):
    """A graph of slow, fast and waiting nodes, which leave a line for each execution, and of one that makes calls, which have a file of their own."""
    log = {"path": str(tmp_path / "executions")}
    return publish(
        "start>out>work>slow>all work>once>all start>many>fast",
        kinds={
            "out": "test.each",
            "many": "test.each",
            "work": "test.count",
            "fast": "test.tick",
            "slow": "test.sleep",
            "once": "test.tool",
        },
        inputs={
            "out": {"items": [1, 2, 3]},
            "many": {"items": [*range(STATES["fast"])]},
            "work": {"seconds": 0.02, "value": "${{ out.outputs.value }}", **log},
            "fast": {"seconds": FAST_SECONDS, **log},
            "slow": {"seconds": slow, "value": "${{ work.outputs.value }}", **log},
            "once": {"path": str(tmp_path / "calls"), "seconds": 0.03},
            "all": {"value": "${{ slow.outputs.value }}"},
        },
        data={
            "all": {"unites": {"identifier": "start"}},
            "once": {"retry": {"max_retries": 2, "backoff_factor": 0.001}},
        },
    )


def test_a_place_of_the_cluster(point, action, publish, tmp_path, database, record_property):
    graph = published(publish, tmp_path, slow=1.3 if "heartbeat" in point else 0.1)
    with fault(point, action, tmp_path) as (env, marker):
        marker.touch()  # as if it had been: it is to strike workers with much in hand
        process = supervisor(env)
        try:
            runs = [start_run(graph) for _ in range(RUNS)]
            until(lambda: len(executions(tmp_path / "executions")) > STATES["fast"] / 2, 40)
            marker.unlink()
            runs += [start_run(graph) for _ in range(RUNS)]
            if point == "in-sweep-between-mark-and-hint":
                runs.append(lose_a_state(graph))
            until(marker.exists, 40)
            fired, known = monotonic(), recorded_calls(tmp_path / "calls")
            process, struck_workers = struck(action, marker, env, process)
            until(lambda: not Run.objects.filter(pending_count__gt=0).exists(), 60, 0.1)
            took = monotonic() - fired
            struck_workers = (
                WORKERS if Cluster.objects.filter(restarts__gt=0).exists() else struck_workers
            )
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    all_done_once(runs)
    more = nearly_nothing_again(tmp_path, len(runs), known, struck_workers, point, action)
    record_property(
        "report",
        f"{database}: {action} at {point}: all runs over {took:.1f} s later, {more} more than needed",
    )


def nearly_nothing_again(tmp_path, runs, known, struck_workers, point, action):
    """What was done more often than needed is within what is promised of each worker that was struck; in words, how much it was."""
    vain = little_in_vain(tmp_path / "executions", {"fast": FAST_SECONDS}, waiting=("slow",))
    assert len(vain) <= struck_workers, "work that nobody took away is recorded"
    calls = Counter((tmp_path / "calls").read_text().split())
    assert {key: calls[key] for key in known} == known, "a recorded result is never computed again"
    assert len(calls) == runs * STATES["once"], "each state made its call"
    twice = calls.total() - len(calls)
    mid_call = point == "mid-node"
    sure = (
        mid_call and action != "stop"
    )  # a process that is stopped while it holds SQLite's lock loses nothing: nobody can take it away
    assert sure <= twice <= max(struck_workers, mid_call), (
        "only a call that was not recorded is made again"
    )
    return f"{sum(nodes.total() for nodes in vain.values())} executions and {twice} calls"


def struck(action, marker, env, process):
    """What follows the fault: the supervisor that lives afterwards, and how many workers it struck. One that is stopped may hold what others wait for."""
    pid = int(until(marker.read_text))
    if action == "raise":
        return process, 0
    if action == "stop":
        stopped = monotonic()
        until(lambda: monotonic() - stopped > float(FAST["LEASE_SECONDS"]) + 1.5, 10)
        wake(marker)
        return process, WORKERS
    if pid != process.pid:
        return process, 1
    process.wait(10)
    return supervisor(env), WORKERS


def all_done_once(runs):
    for run in runs:
        assert_counters_agree(run)
        assert run.status == "completed", run.error_message
        assert {node: counts[1] for node, counts in run.node_counts.items()} == STATES
        assert run.tool_results.count() == STATES["once"]


def recorded_calls(log):
    """{state: calls} of those whose result is recorded by now."""
    known = [key.rsplit(":", 2)[0] for key in ToolResult.objects.values_list("key", flat=True)]
    calls = Counter(log.read_text().split()) if log.exists() else Counter()
    return {key: calls[key] for key in known}


def lose_a_state(graph):
    """A state that a worker claimed and never reported.

    In one transaction: between two, a real worker could claim the state, and its report of the
    same attempt would be recorded.
    """
    with transaction.atomic():
        lost = start_run(graph)
        State.objects.filter(run=lost, status__in=statuses.UNFINISHED).update(
            status="QUEUED", attempt=1, worker="gone", lease_expires_at=None
        )
    return lost


def act(env, point, graph):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.actor", point, str(graph.pk)],
        cwd=ROOT,
        env=env,
        stderr=subprocess.PIPE,
    )


def test_a_place_of_a_caller(point, action, publish, tmp_path):
    graph = publish("a>b")
    if point == "after-run-state-commit":
        start_outside(graph.namespace, RunOptions(run_id="asked"))
    if point in CANCELS:
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
        assert_counters_agree(run)
    assert lease_recovery.rescue_expired() == 0


def untouched(point):
    """What a transaction had not committed isn't there; what it had, is."""
    if point == "run-created-before-response":
        assert Run.objects.filter(run_id="asked").count() == 1
    if point in CANCELS:
        committed = point == "after-cancel-commit"
        assert Run.objects.get(run_id="asked").status == ("cancelled" if committed else "queued")
        assert State.objects.filter(status="CANCELLED").exists() == committed
    if point == "checkpoint-put-before-commit":
        assert (Checkpoint.objects.count(), Run.objects.count()) == (0, 0)
    if point in ("after-checkpoint-put-commit", "after-run-state-commit"):
        assert (Checkpoint.objects.count(), Run.objects.count()) == (1, 1)
    if point == "bulk-delete-between-batches":
        assert Run.objects.count() in (1, 21)


def done(point):
    if point == "run-created-before-response":
        assert (Run.objects.count(), State.objects.count()) == (1, 1)
    elif point in CANCELS:
        assert (
            Run.objects.get(run_id="asked").status,
            LogLine.objects.filter(message__startswith="Cancelled").count(),
        ) == ("cancelled", 1)
    elif point in ("checkpoint-put-before-commit", "after-checkpoint-put-commit"):
        assert (Run.objects.get(run_id="asked").status, Checkpoint.objects.count()) == (
            "completed",
            1,
        )
    elif point == "after-run-state-commit":
        assert (
            Run.objects.get(run_id="asked").status,
            State.objects.get().status,
            Checkpoint.objects.count(),
        ) == ("running", "QUEUED", 1)
        assert not list(verify.verify())
    elif point == "bulk-delete-between-batches":
        assert list(Run.objects.values_list("run_id", flat=True)) == ["stays"]
        assert (State.objects.count(), LogLine.objects.count()) == (1, 1)
        operation = BulkOperation.objects.get()
        assert (operation.done, operation.failed) == (120, 0)
    else:
        raise AssertionError(f"{point} has no test of its effect")
