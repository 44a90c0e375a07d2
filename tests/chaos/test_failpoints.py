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
from contextlib import suppress
from time import monotonic

import pytest
from django.db import transaction
from django.db.models import Sum

from graphs.auth.callers import SYSTEM
from runs.actions import notification_rules
from runs.core import sql, statuses
from runs.core.failpoints import ACTIONS, POINTS
from runs.engine import lease_recovery
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.health import verify
from runs.models import (
    BulkOperation,
    Checkpoint,
    Cluster,
    LogLine,
    NotificationMessage,
    NotificationRule,
    Run,
    State,
    ToolResult,
)
from tests.chaos.actor import RUN_ID
from tests.chaos.executions import assert_few_unrecorded, executions
from tests.support.clusters import FAST, ROOT, SUPERVISE, environment, until
from tests.support.invariants import assert_counters_agree
from tests.support.receiver import receiving

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos]
RUNS = 3  # at first, and as many just before the failpoint is armed
WORKERS = 2
STATES = {"start": 1, "out": 3, "many": 60, "work": 3, "slow": 3, "once": 3, "all": 1, "fast": 60}
FAST_SECONDS = 0.001
CANCELS = ("cancel-between-flag-and-states", "after-cancel-commit")


def pytest_generate_tests(metafunc):
    if "point" in metafunc.fixturenames:
        cases = cases_of("caller", metafunc.config)
        ids = [f"{point}-{action}-{number}" for number, (point, action) in enumerate(cases)]
        metafunc.parametrize(("point", "action"), cases, ids=ids)


KINDS = {"caller": ("caller",), "sender": ("sender",), "cluster": ("worker", "supervisor")}


def cases_of(process, config):
    """[(failpoint, action)] to be tested: those of callers, of senders, or of the cluster."""
    rounds = config.getoption("--chaos-rounds")
    actions = ACTIONS if rounds else ("kill",)
    points = [point for point, of in POINTS.items() if of in KINDS[process]]
    return [(point, action) for point in points for action in actions] * max(1, rounds)


class Failpoints:
    """The folder of failpoints of the processes that a test starts."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def environment(self):
        return environment(STATEMANAGER_FAILPOINTS=str(self.folder))

    def arm(self, point, action):
        (self.folder / f"{point}.fired").unlink(missing_ok=True)
        draft = self.folder / "draft"
        draft.write_text(action)
        draft.rename(self.folder / point)

    def fired(self, point):
        """The id of the process that reached an armed failpoint, or None."""
        marker = self.folder / f"{point}.fired"
        return int(marker.read_text()) if marker.exists() else None

    def resume(self):
        """Continue every process that a failpoint has stopped."""
        for marker in self.folder.glob("*.fired"):
            with suppress(ProcessLookupError):
                os.kill(int(marker.read_text()), signal.SIGCONT)


def test_each_failpoint_is_of_a_known_kind():
    assert set(POINTS.values()) == {kind for kinds in KINDS.values() for kind in kinds}


@pytest.fixture
def failpoints(tmp_path):
    folder = Failpoints(tmp_path / "failpoints")
    yield folder
    folder.resume()


class Supervised:
    """A cluster whose supervisor is replaced when a failpoint has killed it."""

    def __init__(self, env):
        self.env = env
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [*SUPERVISE, "--workers", str(WORKERS)],
            cwd=ROOT,
            env=self.env,
            stderr=subprocess.DEVNULL,
        )

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def restarts():
    return Cluster.objects.aggregate(total=Sum("restarts", default=0))["total"]


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


def test_the_failpoints_of_the_cluster(
    failpoints, publish, tmp_path, database, request, record_property
):
    """One after the other, in one installation."""
    reports = []
    cluster = Supervised(failpoints.environment())
    try:
        for number, (point, action) in enumerate(cases_of("cluster", request.config)):
            folder = tmp_path / str(number)
            folder.mkdir()
            report = strike(failpoints, point, action, cluster, publish, folder)
            reports.append(f"{database}: {report}")
    finally:
        failpoints.resume()
        cluster.stop()
    record_property("report", "\n".join(reports))


def test_the_failpoints_of_a_sender(failpoints, publish, request):
    """A worker dies before or after a message was sent: it arrives, each time with the same id."""
    graph = publish("a", kinds={"a": "test.fail"})
    with receiving() as receiver:
        rule = NotificationRule(name="told", target=receiver.url, every_seconds=0)
        notification_rules.save(rule, SYSTEM)
        cluster = Supervised({**failpoints.environment(), "ALLOW_PRIVATE_ADDRESSES": "1"})
        try:
            told = []
            for point, action in cases_of("sender", request.config):
                failpoints.arm(point, action)
                told += [start_run(graph).run_id for _ in range(RUNS)]
                pid = until(lambda point=point: failpoints.fired(point), 40)
                after_fault(action, pid, failpoints, cluster)
                until(lambda so_far=tuple(told): sent_again(so_far, receiver), 60, 0.2)
        finally:
            failpoints.resume()
            cluster.stop()
    ids = messages_of(receiver)
    assert sorted(ids) == sorted(told)
    assert all(len(found) == 1 for found in ids.values()), "no event is in two messages"
    assert not NotificationMessage.objects.exclude(status="delivered").exists()


def sent_again(told, receiver):
    """Whether every run was told. The leases of dead senders are ended at once."""
    NotificationMessage.objects.filter(status="waiting").update(due_at=sql.clock())
    waiting = NotificationMessage.objects.filter(status="waiting").exists()
    return not waiting and set(messages_of(receiver)) == set(told)


def messages_of(receiver):
    """{run id: ids of the messages that told about it}"""
    found = {}
    for (headers, _), body in zip(list(receiver.requests), receiver.bodies, strict=False):
        for event in body["events"]:
            found.setdefault(event["run_id"], set()).add(headers["webhook-id"])
    return found


def strike(failpoints, point, action, cluster, publish, folder):
    """Let runs meet a fault at one failpoint, and assert what came of them; return a report."""
    slow = 1.3 if "heartbeat" in point else 0.1
    graph = publish_nodes_of_every_kind(publish, folder, slow)
    restarts_before = restarts()
    runs = [start_run(graph) for _ in range(RUNS)]
    until(lambda: len(executions(folder / "executions")) > STATES["fast"] / 2, 40)
    runs += [start_run(graph) for _ in range(RUNS)]
    # Only now: the fault must strike busy workers.
    failpoints.arm(point, action)
    if point == "in-sweep-between-mark-and-hint":
        runs.append(start_run_with_lost_state(graph))
    pid = until(lambda: failpoints.fired(point), 40)
    fired = monotonic()
    calls_before = recorded_calls(folder / "calls")

    struck_workers = after_fault(action, pid, failpoints, cluster)
    until(lambda: not Run.objects.filter(pending_count__gt=0).exists(), 60, 0.1)
    seconds = monotonic() - fired
    if restarts() > restarts_before:
        struck_workers = WORKERS

    assert_all_completed_once(runs)
    unrecorded = assert_few_unrecorded(
        folder / "executions", {"fast": FAST_SECONDS}, waiting=("slow",)
    )
    assert len(unrecorded) <= struck_workers, "only struck workers lose work"
    repeated_calls = assert_few_repeated_calls(
        folder / "calls", len(runs), calls_before, struck_workers, point, action
    )
    repeated = sum(nodes.total() for nodes in unrecorded.values())
    return (
        f"{action} at {point}: all runs over {seconds:.1f} s later, "
        f"{repeated} executions and {repeated_calls} calls more than needed"
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


def after_fault(action, pid, failpoints, cluster):
    """Let the fault take its course; return how many workers were struck.

    A process that was stopped continues after its lease. A dead supervisor is replaced.
    """
    if action == "raise":
        return 0
    if action == "stop":
        stopped = monotonic()
        until(lambda: monotonic() - stopped > float(FAST["LEASE_SECONDS"]) + 1.5, 10)
        failpoints.resume()
        return WORKERS  # a stopped process may have locks that all workers wait for
    if pid != cluster.process.pid:
        return 1
    cluster.process.wait(10)
    cluster.start()
    return WORKERS


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


def start_actor(failpoints, point, graph):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.actor", point, str(graph.pk)],
        cwd=ROOT,
        env=failpoints.environment(),
        stderr=subprocess.PIPE,
    )


def test_a_failpoint_of_a_caller(point, action, publish, failpoints):
    graph = publish("a>b")
    if point == "after-run-state-commit":
        start_outside(graph.namespace, RunOptions(run_id=RUN_ID))
    if point in CANCELS:
        start_run(graph, RunOptions(run_id=RUN_ID))
    if point == "bulk-delete-between-batches":
        for _ in range(120):
            start_run(graph, RunOptions(labels={"doomed": "yes"}))
        start_run(graph, RunOptions(run_id="stays"))
    failpoints.arm(point, action)
    first = start_actor(failpoints, point, graph)
    until(lambda: failpoints.fired(point), 30)
    if action == "stop":
        failpoints.resume()
    first.communicate(timeout=30)
    assert (first.returncode == 0) == (action == "stop"), first.returncode
    if action != "stop":
        assert_only_committed_work_exists(point)
        BulkOperation.objects.update(lease_expires_at=None)  # as if its lease were over
        second = start_actor(failpoints, point, graph)
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
