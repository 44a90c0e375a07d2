"""At each failpoint a process is killed, stopped past its lease, or loses its database.

Nothing that was recorded is lost, and nothing is recorded twice. The cases come from
`runs.core.failpoints`, so that a new failpoint is tested automatically. `--chaos-rounds N` performs
each action at each failpoint N times; without it, each failpoint has one kill.
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
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.health import verify
from runs.models import BulkOperation, Checkpoint, Cluster, LogLine, Run, State, ToolResult
from tests.chaos.actor import RUN_ID
from tests.chaos.executions import assert_few_unrecorded, executions
from tests.support.clusters import FAST, ROOT, SUPERVISE, environment, until
from tests.support.invariants import assert_counters_agree

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos]
RUNS = 3  # before the failpoint is armed, and as many afterwards
WORKERS = 2
STATES = {"start": 1, "out": 3, "many": 60, "work": 3, "slow": 3, "once": 3, "all": 1, "fast": 60}
FAST_SECONDS = 0.001
CANCELS = ("cancel-between-flag-and-states", "after-cancel-commit")


def pytest_generate_tests(metafunc):
    if "point" not in metafunc.fixturenames:
        return
    rounds = metafunc.config.getoption("--chaos-rounds")
    actions = ACTIONS if rounds else ("kill",)
    of_callers = "caller" in metafunc.function.__name__
    points = [point for point, process in POINTS.items() if (process == "caller") == of_callers]

    cases = [(point, action) for point in points for action in actions] * max(1, rounds)
    ids = [f"{point}-{action}-{number}" for number, (point, action) in enumerate(cases)]
    metafunc.parametrize(("point", "action"), cases, ids=ids)


@contextmanager
def armed(point, action, tmp_path):
    """Yield the environment that arms the failpoint, and its marker file.

    In the end a process that the failpoint stopped continues.
    """
    marker = tmp_path / "fired"
    try:
        yield environment(STATEMANAGER_FAILPOINT=f"{point}:{action}:{marker}"), marker
    finally:
        resume(marker)


def resume(marker):
    """Continue the process whose id is in the marker file."""
    if marker.exists():
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(marker.read_text()), signal.SIGCONT)


def start_supervisor(env):
    return subprocess.Popen(
        [*SUPERVISE, "--workers", str(WORKERS)],
        cwd=ROOT,
        env=env,
        stderr=subprocess.DEVNULL,
    )


def publish_nodes_of_every_kind(publish, tmp_path, slow):
    """Publish a graph of slow, fast and waiting nodes, and of one that makes tool calls.

    The nodes write a line for each execution; the calls are written to a file of their own.
    """
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


def test_a_failpoint_of_the_cluster(point, action, publish, tmp_path, database, record_property):
    graph = publish_nodes_of_every_kind(
        publish, tmp_path, slow=1.3 if "heartbeat" in point else 0.1
    )
    with armed(point, action, tmp_path) as (env, marker):
        # While the marker exists, the failpoint does nothing: it must strike busy workers.
        marker.touch()
        process = start_supervisor(env)
        try:
            runs = [start_run(graph) for _ in range(RUNS)]
            until(lambda: len(executions(tmp_path / "executions")) > STATES["fast"] / 2, 40)
            marker.unlink()
            runs += [start_run(graph) for _ in range(RUNS)]
            if point == "in-sweep-between-mark-and-hint":
                runs.append(start_run_with_lost_state(graph))
            until(marker.exists, 40)
            fired = monotonic()
            calls_before = recorded_calls(tmp_path / "calls")

            process, struck_workers = after_fault(action, marker, env, process)
            until(lambda: not Run.objects.filter(pending_count__gt=0).exists(), 60, 0.1)
            seconds = monotonic() - fired
            if Cluster.objects.filter(restarts__gt=0).exists():
                struck_workers = WORKERS
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    assert_all_completed_once(runs)
    unrecorded = assert_few_unrecorded(
        tmp_path / "executions", {"fast": FAST_SECONDS}, waiting=("slow",)
    )
    assert len(unrecorded) <= struck_workers, "only struck workers lose work"
    repeated_calls = assert_few_repeated_calls(
        tmp_path / "calls", len(runs), calls_before, struck_workers, point, action
    )
    repeated = sum(nodes.total() for nodes in unrecorded.values())
    record_property(
        "report",
        f"{database}: {action} at {point}: all runs over {seconds:.1f} s later, "
        f"{repeated} executions and {repeated_calls} calls more than needed",
    )


def assert_few_repeated_calls(log, runs, calls_before, struck_workers, point, action):
    """Assert that only unrecorded calls were made again; return how many.

    A process that is stopped while it has SQLite's lock loses nothing, because no other process can
    take its states away: "mid-node" repeats a call for certain only if the action is not "stop".
    """
    calls = Counter(log.read_text().split())
    assert {key: calls[key] for key in calls_before} == calls_before, (
        "a recorded result is never computed again"
    )
    assert len(calls) == runs * STATES["once"], "each state made its call"

    repeated = calls.total() - len(calls)
    mid_call = point == "mid-node"
    at_least = mid_call and action != "stop"
    at_most = max(struck_workers, mid_call)
    assert at_least <= repeated <= at_most, "only a call that was not recorded is made again"
    return repeated


def after_fault(action, marker, env, process):
    """Let the fault take its course; return the living supervisor and how many workers were struck.

    A process that was stopped continues after its lease. A dead supervisor is replaced.
    """
    pid = int(until(marker.read_text))
    if action == "raise":
        return process, 0
    if action == "stop":
        stopped = monotonic()
        until(lambda: monotonic() - stopped > float(FAST["LEASE_SECONDS"]) + 1.5, 10)
        resume(marker)
        return process, WORKERS  # a stopped process may have locks that all workers wait for
    if pid != process.pid:
        return process, 1
    process.wait(10)
    return start_supervisor(env), WORKERS


def assert_all_completed_once(runs):
    for run in runs:
        assert_counters_agree(run)
        assert run.status == "completed", run.error_message
        assert {node: counts[1] for node, counts in run.node_counts.items()} == STATES
        assert run.tool_results.count() == STATES["once"]


def recorded_calls(log):
    """{state: calls} of the states whose result is recorded by now."""
    recorded = [key.rsplit(":", 2)[0] for key in ToolResult.objects.values_list("key", flat=True)]
    calls = Counter(log.read_text().split()) if log.exists() else Counter()
    return {key: calls[key] for key in recorded}


def start_run_with_lost_state(graph):
    """Start a run whose state a worker claimed and never reported.

    In one transaction: between two, a real worker could claim the state, and its report of the
    same attempt would be recorded.
    """
    with transaction.atomic():
        run = start_run(graph)
        State.objects.filter(run=run, status__in=statuses.UNFINISHED).update(
            status="QUEUED", attempt=1, worker="gone", lease_expires_at=None
        )
    return run


def start_actor(env, point, graph):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.actor", point, str(graph.pk)],
        cwd=ROOT,
        env=env,
        stderr=subprocess.PIPE,
    )


def test_a_failpoint_of_a_caller(point, action, publish, tmp_path):
    graph = publish("a>b")
    if point == "after-run-state-commit":
        start_outside(graph.namespace, RunOptions(run_id=RUN_ID))
    if point in CANCELS:
        start_run(graph, RunOptions(run_id=RUN_ID))
    if point == "bulk-delete-between-batches":
        for _ in range(120):
            start_run(graph, RunOptions(labels={"doomed": "yes"}))
        start_run(graph, RunOptions(run_id="stays"))
    with armed(point, action, tmp_path) as (env, marker):
        first = start_actor(env, point, graph)
        until(marker.exists, 30)
        if action == "stop":
            resume(marker)
        first.communicate(timeout=30)
        assert (first.returncode == 0) == (action == "stop"), first.returncode
        if action != "stop":
            assert_only_committed_work_exists(point)
            BulkOperation.objects.update(lease_expires_at=None)  # as if its lease were over
            second = start_actor(env, point, graph)
            _, errors = second.communicate(timeout=30)
            assert second.returncode == 0, errors.decode()[-500:]
    assert_done_once(point)
    for run in Run.objects.filter(graph=graph):
        assert_counters_agree(run)
    assert lease_recovery.rescue_expired() == 0


def assert_only_committed_work_exists(point):
    """What the first process committed is there, and nothing else."""
    if point == "run-created-before-response":
        assert Run.objects.filter(run_id=RUN_ID).count() == 1
    if point in CANCELS:
        committed = point == "after-cancel-commit"
        assert Run.objects.get(run_id=RUN_ID).status == ("cancelled" if committed else "queued")
        assert State.objects.filter(status="CANCELLED").exists() == committed
    if point == "checkpoint-put-before-commit":
        assert (Checkpoint.objects.count(), Run.objects.count()) == (0, 0)
    if point in ("after-checkpoint-put-commit", "after-run-state-commit"):
        assert (Checkpoint.objects.count(), Run.objects.count()) == (1, 1)
    if point == "bulk-delete-between-batches":
        assert Run.objects.count() in (1, 21)


def assert_done_once(point):
    """The action took effect once, although two processes performed it."""
    if point == "run-created-before-response":
        assert (Run.objects.count(), State.objects.count()) == (1, 1)
    elif point in CANCELS:
        assert Run.objects.get(run_id=RUN_ID).status == "cancelled"
        assert LogLine.objects.filter(message__startswith="Cancelled").count() == 1
    elif point in ("checkpoint-put-before-commit", "after-checkpoint-put-commit"):
        assert Run.objects.get(run_id=RUN_ID).status == "completed"
        assert Checkpoint.objects.count() == 1
    elif point == "after-run-state-commit":
        assert Run.objects.get(run_id=RUN_ID).status == "running"
        assert State.objects.get().status == "QUEUED"
        assert Checkpoint.objects.count() == 1
        assert not list(verify.verify())
    elif point == "bulk-delete-between-batches":
        assert list(Run.objects.values_list("run_id", flat=True)) == ["stays"]
        assert (State.objects.count(), LogLine.objects.count()) == (1, 1)
        operation = BulkOperation.objects.get()
        assert (operation.done, operation.failed) == (120, 0)
    else:
        raise AssertionError(f"{point} has no test of its effect")
