"""Runs in a real supervised cluster: concurrency, logs, faults and stops."""

import os
import signal
from time import monotonic

import pytest
from django.core import signing
from django.utils import timezone
from django_q import core_signing
from django_q.models import OrmQ
from django_q.signing import PickleSerializer

from runs.engine.start import start_run
from runs.engine.wakeup import QUEUE
from runs.models import Cluster, LogLine, Run, State
from tests.support.clusters import group_of, supervised, until
from tests.support.runs import by_node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.cluster]


def ended(run, seconds=40):
    """Wait until the run has ended, and return it."""
    until(lambda: Run.objects.get(pk=run.pk).ended, seconds)
    run.refresh_from_db()
    return run


def test_waiting_nodes_run_concurrently_and_computing_nodes_beside_them(publish):
    wide = publish(
        "f>s",
        kinds={"f": "test.each", "s": "test.sleep"},
        inputs={"f": {"items": list(range(20))}, "s": {"seconds": 1.0}},
    )
    plain = publish("a>b>c", name="plain")
    with supervised(workers=2):
        until(lambda: Cluster.objects.exists())
        ended(start_run(plain))
        began = monotonic()
        run = start_run(wide)
        until(
            lambda: State.objects.filter(run=run, status="QUEUED", node="test.sleep").count() >= 10,
            10,
        )
        beside = start_run(plain)
        assert ended(beside).status == "completed"
        assert State.objects.filter(run=run, node="test.sleep", status="SUCCESS").count() < 20
        assert ended(run).status == "completed"
        assert monotonic() - began < 10  # One after the other they would take 20 seconds.


def test_logs_and_progress_are_visible_while_a_slow_node_runs(publish):
    graph = publish("w", kinds={"w": "test.work"}, inputs={"w": {"seconds": 4}})
    with supervised(workers=1):
        run = start_run(graph)
        until(lambda: State.objects.filter(run=run, status="QUEUED").exists())
        until(lambda: LogLine.objects.filter(run=run, message="begun").exists(), 1.5)
        run.refresh_from_db()
        assert (run.status, run.current_node) == ("running", "w")
        assert ended(run).status == "completed"


def test_a_node_that_exits_its_process_times_out_and_harms_no_other_run(publish):
    poison = publish("p", name="poison", kinds={"p": "test.exit"})
    plain = publish("a>b>c>d", name="plain")
    with supervised(workers=2, LEASE_SECONDS="2", HEARTBEAT_SECONDS="0.5", SWEEP_SECONDS="0.5"):
        bad = start_run(poison)
        good = [start_run(plain) for _ in range(20)]
        for run in good:
            assert ended(run).status == "completed"
        ended(bad)
    assert (bad.status, by_node(bad)) == ("failed", {"p": ["TIMEDOUT"]})
    assert "worker lost" in bad.error_message
    assert State.objects.get(run=bad).attempt == 3
    assert not State.objects.filter(run__in=good, lost_leases__gt=2).exists()


def test_a_node_past_its_deadline_fails_and_its_worker_continues(publish):
    graph = publish(
        "w", kinds={"w": "test.sleep"}, inputs={"w": {"seconds": 60}}, data={"w": {"timeout": 1}}
    )
    with supervised(workers=1):
        run = ended(start_run(graph), 15)
        assert run.error_message == "w: timed out: it ran longer than 1 s"
        assert ended(start_run(publish("a>b", name="plain"))).status == "completed"


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_stopping_leaves_no_process_and_loses_nothing(publish, stop_signal):
    graph = publish("w>x", kinds={"w": "test.sleep"}, inputs={"w": {"seconds": 30}})
    with supervised(workers=2, GRACE_SECONDS="2") as supervisor:
        runs = [start_run(graph) for _ in range(4)]
        until(lambda: State.objects.filter(run__in=runs, status="QUEUED").count() == 4)
        leader = Cluster.objects.get().pid
        sessions = [
            pid for pid in os.listdir("/proc") if pid.isdigit() and _parent(pid) == supervisor.pid
        ]
        before = {
            pid: group for session in sessions for pid, group in group_of(int(session)).items()
        }
        assert len(before) >= 4
        supervisor.send_signal(stop_signal)
        began = monotonic()
        assert supervisor.wait(15) == 0
        assert monotonic() - began < 12
        assert not [pid for session in sessions for pid in group_of(int(session))]
    assert leader == supervisor.pid
    states = State.objects.filter(run__in=runs, node="test.sleep")
    assert {(state.status, state.lost_leases) for state in states} == {("CREATED", 0)}
    assert not Cluster.objects.exists()


def _parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


def test_a_killed_supervisor_leaves_no_orphan(publish):
    with supervised(workers=2) as supervisor:
        ended(start_run(publish("a")))
        [session] = [
            int(pid)
            for pid in os.listdir("/proc")
            if pid.isdigit() and _parent(pid) == supervisor.pid
        ]
        assert group_of(session)
        supervisor.kill()
        supervisor.wait(5)
        until(lambda: not group_of(session), 10)


def test_a_killed_idle_worker_does_not_stop_the_work(publish):
    graph = publish("a>b")
    with supervised(workers=2, PROBE_SECONDS="1") as supervisor:
        ended(start_run(graph))
        for _ in range(3):
            [session] = [
                int(pid)
                for pid in os.listdir("/proc")
                if pid.isdigit() and _parent(pid) == supervisor.pid
            ]
            os.kill(max(group_of(session)), signal.SIGKILL)
            assert ended(start_run(graph), 30).status == "completed"


def test_the_state_of_a_dead_worker_does_not_wait_for_the_end_of_its_lease(publish):
    """The supervisor sees that its process is gone. Leases are for hosts that are lost."""
    graph = publish("w", kinds={"w": "test.sleep"}, inputs={"w": {"seconds": 1.0}})
    with supervised(workers=2, LEASE_SECONDS="300", HEARTBEAT_SECONDS="100"):
        run = start_run(graph)
        state = until(lambda: State.objects.filter(run=run, status="QUEUED").first())
        os.kill(int(state.worker.rpartition(":")[2]), signal.SIGKILL)
        assert ended(run, 20).status == "completed"
    state.refresh_from_db()
    assert (state.attempt, state.lost_leases) == (2, 1)


def test_poisoned_hints_do_not_stop_the_work(publish):
    """Workers pass over messages that they cannot read or execute.

    The messages have a broken signature, no content, an unknown function, or the wrong type.
    """
    unknown_function = core_signing.dumps(
        {
            "id": "1",
            "name": "x",
            "func": "runs.cluster.tasks.no_such_function",
            "args": (),
            "kwargs": {},
            "started": timezone.now(),
        },
        salt=QUEUE,
        serializer=PickleSerializer,
    )
    wrong_type = signing.dumps("text", salt=QUEUE)
    for payload in ("not a message", "", unknown_function, wrong_type):
        OrmQ.objects.create(key=QUEUE, payload=payload, lock=timezone.now())
    with supervised(workers=1):
        assert ended(start_run(publish("a>b"))).status == "completed"
