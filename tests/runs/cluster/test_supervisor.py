"""What supervisors do regularly, and that they leave the clusters of others alone."""

import os
import socket
from datetime import timedelta

import pytest
from django.db import InternalError, OperationalError
from django.utils import timezone

from runs.cluster import supervisor as supervisors
from runs.engine import claim, heartbeat
from runs.engine.start import start_run
from runs.engine.types import worker_name
from runs.models import Cluster, State

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def supervise(monkeypatch):
    """A function that makes supervisors, whose clusters are a single process that only waits."""
    monkeypatch.setattr(supervisors, "cluster_command", lambda workers: ["sleep", "600"])
    supervisors_made = []

    def make(is_started=True):
        supervisor = supervisors.Supervisor(1)
        supervisors_made.append(supervisor)
        if is_started:
            supervisor.start()
        return supervisor

    yield make
    for supervisor in supervisors_made:
        supervisor._kill()


@pytest.fixture
def clock(monkeypatch):
    """The supervisors' clock, [seconds], which stands still."""
    now = [10_000.0]
    monkeypatch.setattr(supervisors, "monotonic", lambda: now[0])
    return now


def ago(**time):
    return timezone.now() - timedelta(**time)


def test_clusters_that_were_silent_for_a_day_are_forgotten(supervise):
    supervisor = supervise()
    seen_at = {"killed": ago(hours=25), "away": ago(hours=23), "alive": ago(seconds=1)}
    for name, seen in seen_at.items():
        Cluster.objects.create(
            name=name, host="there", pid=1, workers=1, started_at=ago(days=9), seen_at=seen
        )
    Cluster.objects.filter(name=supervisor.name).update(seen_at=ago(days=2))
    supervisor.tick()
    assert set(Cluster.objects.values_list("name", flat=True)) == {"away", "alive", supervisor.name}


def test_containers_with_the_same_host_name_and_process_ids_are_told_apart(
    supervise, publish, monkeypatch
):
    """Neither supervisor takes back or ends what the workers of the other have claimed.

    Their workers have the same process ids, and their containers the same host name.
    """
    with monkeypatch.context() as container:
        container.setattr(socket, "gethostname", lambda: "worker")
        container.setattr(os, "getpid", lambda: 1)
        first = supervise()
        second = supervise()
    assert set(Cluster.objects.values_list("name", "host", "pid")) == {
        (first.name, "worker", 1),
        (second.name, "worker", 1),
    }
    for _ in range(2):
        start_run(publish("a"))
    of_first = {claim_state(first): f"{first.name}:7"}
    of_second = {claim_state(second): f"{second.name}:7"}
    monkeypatch.setattr(first, "_living", lambda: [7])
    monkeypatch.setattr(second, "_living", list)  # All its workers are gone.

    first._sweep()
    assert leases() == of_first | of_second
    second._sweep()
    assert leases() == of_first
    second.stop()
    assert leases() == of_first
    assert list(Cluster.objects.values_list("name", "stopping")) == [(first.name, False)]
    assert Cluster.objects.alive(within=60).filter(name=first.name).exists()


@pytest.mark.parametrize(
    ("before", "after"), [([1, 2, 3], [1, 2]), ([1, 2], [1, 2, 4])], ids=["went", "went-unseen"]
)
def test_a_cluster_is_in_doubt_when_its_processes_changed(
    supervise, monkeypatch, clock, before, after
):
    """Process 3 is gone, or it came and went unseen, and only its replacement 4 shows that."""
    supervisor = supervise()
    monkeypatch.setattr(supervisor, "_living", lambda: before)
    supervisor._check_members()
    clock[0] += 60
    supervisor._due["probe"] = clock[0] + 4
    supervisor._check_members()
    assert supervisor._due["probe"] == clock[0] + 4, "nothing changed"
    Cluster.objects.update(started_at=ago(seconds=60), seen_at=ago(seconds=1))
    assert not supervisor._stuck()
    monkeypatch.setattr(supervisor, "_living", lambda: after)
    supervisor._check_members()
    assert supervisor._due["probe"] == 0
    clock[0] += supervisors.DOUBT_SECONDS + 0.1
    assert not supervisor._stuck(), "it has given a sign of life since then"
    Cluster.objects.update(seen_at=ago(seconds=5))
    assert "no sign of life for 4 s" in supervisor._stuck()


@pytest.mark.parametrize(
    "error", [OperationalError("no server"), InternalError("read-only"), OSError("no processes")]
)
def test_a_start_that_fails_is_repeated_in_the_next_round(supervise, monkeypatch, error):
    supervisor = supervise(is_started=False)

    def failing(*_):
        raise error

    with monkeypatch.context() as outage:
        outage.setattr(heartbeat, "register", failing)
        supervisor.tick()
        assert supervisor.process is None
    supervisor.tick()
    assert supervisor.process.poll() is None


def test_a_cluster_that_ended_while_the_database_was_away_is_replaced(supervise, monkeypatch):
    supervisor = supervise()
    Cluster.objects.update(seen_at=timezone.now())
    lost = supervisor.process
    with monkeypatch.context() as outage:
        outage.setattr(supervisors, "close_old_connections", connection_error)
        lost.kill()
        lost.wait()
        supervisor.tick()
        supervisor.tick()
        assert supervisor.process is None
    supervisor.tick()
    assert supervisor.process.poll() is None
    assert Cluster.objects.get().restarts == 1


def test_starts_that_fail_are_repeated_after_growing_pauses(supervise, monkeypatch, clock):
    monkeypatch.setattr(supervisors, "cluster_command", lambda workers: ["false"])
    supervisor = supervise(is_started=False)
    pauses = []
    for _ in range(8):
        supervisor.start()
        supervisor.process.wait()
        supervisor.tick()
        assert supervisor.process is None
        pauses.append(supervisor._next_start - clock[0])
        clock[0] = supervisor._next_start
    assert pauses == [0, 2, 4, 8, 16, 30, 30, 30]


def test_each_start_has_more_time_than_the_one_before_until_one_answers(supervise, clock):
    supervisor = supervise()
    for patience in (15, 30, 60, 120, 240, 240):
        Cluster.objects.update(seen_at=ago(hours=1), started_at=ago(hours=1))
        clock[0] += patience - 1
        assert not supervisor._stuck(), f"{patience} s are not over"
        clock[0] += 1
        assert supervisor._stuck()
        supervisor._end_cluster("it did not answer")
        clock[0] = max(clock[0], supervisor._next_start)
        supervisor.start()
    Cluster.objects.update(started_at=ago(seconds=9), seen_at=ago(seconds=1))
    assert not supervisor._stuck()
    supervisor._end_cluster("it went away")
    assert supervisor._next_start == clock[0], "it had answered, so the next start is at once"


def test_a_supervisor_that_never_started_its_cluster_stops(supervise):
    supervise(is_started=False).stop()


def connection_error():
    raise OperationalError("no server")


def claim_state(supervisor):
    """Claim a state for process 7 of the supervisor's cluster, and return the id of the state."""
    worker = worker_name(supervisor.name, 7)
    [state] = claim.claim(worker, [claim.Group(["noop"], 1)], 30, claim.FactsCache())
    return state.id


def leases():
    """{state id: worker} of all states that are leased."""
    return {
        state.pk.hex: state.worker
        for state in State.objects.filter(status="QUEUED", lease_expires_at__gt=timezone.now())
    }
