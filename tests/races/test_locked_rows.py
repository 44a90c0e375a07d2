"""A person's transaction locks a run, for as long as it likes. Nobody else's work waits for it.

SQLite has no row locks: whoever writes there has the whole file, for a moment.
"""

from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from graphs.models import CronTrigger
from runs.actions import rerun, schedules
from runs.cluster.supervisor import Supervisor
from runs.core import sql
from runs.engine import claim, heartbeat, lease_recovery
from runs.engine.executor import Executor
from runs.engine.start import start_run
from runs.models import LogLine, Run, State
from tests.support.clusters import supervised, until
from tests.support.engine import claimed, sign
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.races]


@contextmanager
def locked(row):
    """Lock a row on a connection of its own, with the strongest lock there is."""
    if connection.vendor == "sqlite":
        yield
        return
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            table = row._meta.db_table
            cursor.execute(f"SELECT 1 FROM {table} WHERE id = %s FOR UPDATE", [row.pk])
        yield
        other.rollback()
    finally:
        other.close()


@pytest.fixture(autouse=True)
def _short_waits(database):
    """The connection of this test waits as long for a lock as that of a worker, and shorter."""
    if database == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
    yield
    connection.close()


def test_a_worker_goes_on_with_other_runs(publish):
    """The results of the locked run wait in the worker, and are recorded when it is free."""
    held, other = start_run(publish("a>b")), start_run(publish("c>d", name="other"))
    executor = Executor(threads=False)
    with locked(held):
        executor.drain(0.3)
        assert by_node(other) == {"c": ["SUCCESS"], "d": ["SUCCESS"]}
        if connection.vendor == "postgresql":
            assert by_node(held) == {"a": ["QUEUED"]}
            assert len(executor.deferred) == 1
            later = start_run(other.graph)
            executor.drain(0.3)
            assert by_node(later) == {"c": ["SUCCESS"], "d": ["SUCCESS"]}
    until(lambda: executor.drain(0.3) is not None and not len(executor.deferred), 10)
    assert by_node(held) == {"a": ["SUCCESS"], "b": ["SUCCESS"]}
    assert State.objects.filter(attempt__gt=1).count() == 0
    for run in (held, other):
        run.refresh_from_db()
        assert_counters_agree(run)


def test_leases_are_renewed_and_lines_wait(publish):
    run = start_run(publish("a"))
    [state] = claimed()
    State.objects.update(lease_expires_at=sql.clock())
    with locked(run):
        renewed = heartbeat.renew_leases([sign(state, "a line")], 300)
        assert renewed.held == {state.id}
        assert renewed.unstored == (set() if connection.vendor == "sqlite" else {state.id})
    assert State.objects.get().lease_expires_at > timezone.now() + timedelta(seconds=200)
    assert LogLine.objects.filter(message="a line").exists() == (not renewed.unstored)


def test_the_sweep_gives_back_the_states_of_other_runs(publish, monkeypatch):
    monkeypatch.setattr(lease_recovery, "BATCH", 2)
    graph = publish("a b c")
    runs = [start_run(graph) for _ in range(3)]
    claim.claim("gone", [claim.Group(["noop"], 100)], -1, claim.FactsCache())
    with locked(runs[0]):
        assert lease_recovery.rescue_expired() == (9 if connection.vendor == "sqlite" else 6)
        lease_recovery.mark_running()
    lease_recovery.rescue_expired()
    assert State.objects.filter(status="CREATED", lost_leases=1).count() == 9


def test_schedules_and_reruns_of_others_take_place(publish):
    graphs = [publish("a", name=name, kinds={"a": "test.fail"}) for name in ("locked", "free")]
    past = timezone.now() - timedelta(minutes=1)
    for graph in graphs:
        CronTrigger.objects.create(graph=graph, expression="* * * * *", next_at=past)
    with locked(graphs[0]):
        assert schedules.fire_due() == (2 if connection.vendor == "sqlite" else 1)
    schedules.fire_due(timezone.now() + timedelta(minutes=2))
    assert {run.graph.name for run in Run.objects.all()} == {"locked", "free"}

    Executor(threads=False).drain()
    Run.objects.update(reruns_left=1)
    first = Run.objects.filter(graph=graphs[0]).first()
    failed = Run.objects.filter(status="failed").count()
    with locked(first):
        expected = failed if connection.vendor == "sqlite" else failed - 1
        assert rerun.rerun_failures() == expected


def test_a_round_of_the_supervisor_ends_soon(publish, monkeypatch):
    run = start_run(publish("a"))
    claim.claim("gone", [claim.Group(["noop"], 100)], -1, claim.FactsCache())
    supervisor = Supervisor(1)
    monkeypatch.setattr(supervisor, "start", lambda: None)
    with locked(run):
        supervisor.tick()
    lease_recovery.rescue_expired()
    assert by_node(run) == {"a": ["CREATED"]}


@pytest.mark.cluster
def test_a_cluster_works_on_while_a_run_is_locked(publish):
    """One worker, a run locked for longer than a lease, and strangers' runs that end meanwhile."""
    slow = {"kinds": {"a": "test.sleep"}, "inputs": {"a": {"seconds": 6}}}
    held, sleeping = start_run(publish("a>b")), start_run(publish("a>b", name="slow", **slow))
    with supervised(workers=1):
        with locked(held):
            until(lambda: by_node(sleeping) == {"a": ["QUEUED"]}, 30)
            strangers = [start_run(publish("x>y", name="stranger")) for _ in range(5)]
            until(lambda: Run.objects.get(pk=sleeping.pk).status == "completed", 30)
            assert {Run.objects.get(pk=run.pk).status for run in strangers} == {"completed"}
            assert not State.objects.filter(run=sleeping, lost_leases__gt=0).exists()
            if connection.vendor == "postgresql":
                assert Run.objects.get(pk=held.pk).status in ("queued", "running")
        until(lambda: Run.objects.get(pk=held.pk).status == "completed", 30)
    assert State.objects.filter(run=held, attempt=1).count() == 2, "nothing was executed twice"
