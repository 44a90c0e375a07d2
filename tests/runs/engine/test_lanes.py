"""Slow work beside fast work: what a worker begins while a slow node computes."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from django_q.models import OrmQ

from graphs.models import Namespace
from graphs.nodes.base import registry
from runs.engine import executor, lanes
from runs.engine.executor import Executor
from runs.engine.node_threads import NodeThread
from runs.engine.record import MAX_BATCH
from runs.engine.start import start_run
from runs.models import Run, State

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 20.0  # seconds until a slow node gives up


class Slow:
    """Makes a node slow: its calls last until something else has been called `count` times."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.enough = threading.Event()
        self.running: list[str] = []
        self.most = 0  # calls that ran at the same time
        self.lock = threading.Lock()

    def make_slow(self, *names):
        for name in names:
            self.monkeypatch.setitem(registry, name, replace(registry[name], call=self._call))

    def ends_with(self, name, count=1):
        missing = [None] * count
        call = registry[name].call

        def count_down(ctx, **inputs):
            with self.lock:
                missing.pop()
                if not missing:
                    self.enough.set()
            return call(ctx, **inputs)

        self.monkeypatch.setitem(registry, name, replace(registry[name], call=count_down))

    def _call(self, ctx, **inputs):
        with self.lock:
            self.running.append(ctx.identifier)
            self.most = max(self.most, len(self.running))
        waited = self.enough.wait(PATIENCE)
        with self.lock:
            self.running.pop()
        return {"in_time": waited}


@pytest.fixture
def slow(monkeypatch):
    return Slow(monkeypatch)


@pytest.fixture
def start(publish):
    """Start runs of one node each, in a namespace."""

    def start_runs(name, kind, count=1):
        namespace, _ = Namespace.objects.get_or_create(name=name)
        graph = publish("a", namespace=namespace, name=kind, kinds={"a": kind})
        return [start_run(graph) for _ in range(count)]

    return start_runs


def assert_all_in_time():
    assert not Run.objects.exclude(status="completed").exists()
    slow_states = State.objects.exclude(node="noop")
    assert all(state.outputs == {"in_time": True} for state in slow_states)


def test_a_slow_node_does_not_keep_another_tenants_node_waiting(slow, start):
    """The eight slow ones still run one after the other."""
    slow.make_slow("test.work")
    slow.ends_with("noop")
    start("big", "test.work", 8)
    start("small", "noop")
    Executor().drain(budget=10)
    assert_all_in_time()
    assert slow.most == 1


def test_nodes_of_the_same_tenant_run_beside_its_slow_one(slow, start):
    slow.make_slow("test.work")
    slow.ends_with("noop", 150)
    start("big", "test.work")
    start("big", "noop", 150)
    Executor().drain(budget=10)
    assert_all_in_time()


def test_a_chain_goes_on_beside_a_slow_node(slow, start, publish):
    slow.make_slow("test.work")
    slow.ends_with("noop", 10)
    start("big", "test.work")
    start_run(publish(">".join("abcdefghij")))
    Executor().drain(budget=10)
    assert_all_in_time()


def test_the_same_node_of_another_tenant_runs_beside_a_slow_one(slow, start, monkeypatch):
    """How long a node takes depends on what it works on."""
    big = start("big", "test.work")
    call = registry["test.work"].call

    def depends(ctx, **inputs):
        if ctx.run_id == big[0].run_id:
            return {"in_time": slow.enough.wait(PATIENCE)}
        slow.enough.set()
        call(ctx, seconds=0)
        return {"in_time": True}

    monkeypatch.setitem(registry, "test.work", replace(registry["test.work"], call=depends))
    worker = Executor()
    worker.lanes.learn((big[0].namespace_id, "test.work"), 5.0)
    start("small", "test.work")
    worker.drain(budget=10)
    assert_all_in_time()


def thread_of(namespace, kind, seconds):
    """A node thread whose call has taken some seconds so far."""
    state = SimpleNamespace(
        run=SimpleNamespace(namespace_id=namespace), node=SimpleNamespace(kind=kind)
    )
    thread = NodeThread([state], until=0)
    thread.current = state, None
    thread.began -= seconds
    return thread


@pytest.mark.parametrize(
    ("busy", "suited"),
    [
        ([(1, "test.work")], {(1, "noop"), (2, "noop"), (2, "test.work")}),
        ([(1, "test.work"), (1, "test.fail")], {(2, "noop"), (2, "test.work")}),
        ([(1, "test.work"), (1, "test.fail"), (2, "test.work")], {(2, "noop")}),
        ([(1, "test.work"), (1, "test.fail"), (2, "test.work"), (2, "test.fail")], set()),
    ],
)
def test_a_tenant_keeps_only_some_of_the_lanes_busy(busy, suited):
    worker = lanes.Lanes()
    worker.threads = [thread_of(*task, seconds=1) for task in busy]
    tasks = [(namespace, kind) for namespace in (1, 2) for kind in ("noop", "test.work")]
    groups = [group for group in worker.groups()[:2] if group.limit]
    assert {task for task in tasks for group in groups if group.suits(task)} == suited


def test_a_lane_opens_when_the_others_have_been_busy_for_a_while():
    worker = lanes.Lanes()
    assert [group.limit for group in worker.groups()[:2]] == [MAX_BATCH, 1]
    worker.threads = [thread_of(1, "test.work", seconds=lanes.BUSY_SECONDS / 2)]
    assert [group.limit for group in worker.groups()[:2]] == [0, 0]
    worker.threads = [thread_of(1, "test.work", seconds=lanes.BUSY_SECONDS * 2)]
    assert [group.limit for group in worker.groups()[:2]] == [MAX_BATCH, 1]
    worker.learn((2, "noop"), lanes.BUSY_SECONDS * 2)
    assert not worker.groups()[1].suits((2, "noop"))


def test_a_worker_that_has_been_busy_for_long_begins_no_other_slow_node(slow, start, monkeypatch):
    """It goes on with the rest, comes to an end, and hints at what is left."""
    monkeypatch.setattr(executor, "LATE_SECONDS", 0.05)
    slow.make_slow("test.work")
    slow.ends_with("noop")
    start("big", "test.work", 3)
    start("small", "noop")
    OrmQ.objects.all().delete()
    Executor().drain(budget=0.05)
    assert State.objects.get(node="noop").status == "SUCCESS"
    states = State.objects.filter(node="test.work").values_list("status", flat=True)
    assert sorted(states) == ["CREATED", "CREATED", "SUCCESS"]
    assert OrmQ.objects.count() == 1


def test_side_effects_of_computing_nodes_stay_in_one_lane(monkeypatch):
    """A worker that dies leaves one of them in doubt."""
    monkeypatch.setitem(registry, "noop", replace(registry["noop"], side_effects=True))
    worker = lanes.Lanes()
    assert all(group.suits((2, "noop")) for group in worker.groups()[:2])
    worker.threads = [thread_of(1, "test.work", seconds=1)]
    assert not any(group.suits((2, "noop")) for group in worker.groups()[:2])


def test_a_worker_that_is_to_be_replaced_begins_nothing_more(start):
    """It has a thread that may never end."""
    start("small", "noop")
    worker = Executor()
    worker.tainted = True
    assert worker.drain() == 0
    assert State.objects.get().status == "CREATED"
