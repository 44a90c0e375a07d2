"""What a supervisor does in its rounds, beside clusters of other supervisors."""

import os
import socket
import subprocess
from datetime import timedelta

import pytest
from django.utils import timezone

from runs.cluster import supervisor as supervisor_module
from runs.engine import claim as claim_module
from runs.engine import heartbeat
from runs.engine.start import start_run
from runs.engine.types import worker_name
from runs.models import Cluster, State

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def supervise():
    """Makes supervisors whose cluster is one process that waits; nothing of them is left."""
    made = []

    def make():
        supervisor = supervisor_module.Supervisor(1)
        heartbeat.register(supervisor.name, supervisor.host, supervisor.workers)
        supervisor.process = subprocess.Popen(
            ["cat"], stdin=subprocess.PIPE, start_new_session=True
        )
        supervisor._started = supervisor_module.monotonic()
        made.append(supervisor)
        return supervisor

    yield make
    for supervisor in made:
        supervisor._kill()
        supervisor.process.stdin.close()


def ago(**how_long):
    return timezone.now() - timedelta(**how_long)


def test_clusters_that_were_silent_for_a_day_are_forgotten(supervise):
    supervisor = supervise()
    for name, seen in {
        "killed": ago(hours=25),
        "away": ago(hours=23),
        "alive": ago(seconds=1),
    }.items():
        Cluster.objects.create(
            name=name, host="there", pid=1, workers=1, started_at=ago(days=9), seen_at=seen
        )
    Cluster.objects.filter(name=supervisor.name).update(seen_at=ago(days=2))
    supervisor.tick()
    assert set(Cluster.objects.values_list("name", flat=True)) == {"away", "alive", supervisor.name}


def test_containers_with_the_same_host_name_and_process_ids_keep_apart(
    supervise, publish, monkeypatch
):
    """Neither gives back, ends or forgets what the other's workers hold, although they are named and numbered alike."""
    with monkeypatch.context() as container:
        container.setattr(socket, "gethostname", lambda: "worker")
        container.setattr(os, "getpid", lambda: 1)
        one, other = supervise(), supervise()
    assert set(Cluster.objects.values_list("name", "host", "pid")) == {
        (one.name, "worker", 1),
        (other.name, "worker", 1),
    }
    for _ in range(2):
        start_run(publish("a"))
    held = {each: claim(each) for each in (one, other)}
    monkeypatch.setattr(one, "_living", lambda: [7])
    monkeypatch.setattr(other, "_living", list)  # its workers went
    one._sweep()
    assert holders() == {held[one]: f"{one.name}:7", held[other]: f"{other.name}:7"}
    other._sweep()
    assert holders() == {held[one]: f"{one.name}:7"}
    other.stop()
    assert holders() == {held[one]: f"{one.name}:7"}
    assert list(Cluster.objects.values_list("name", "stopping")) == [(one.name, False)]
    assert Cluster.objects.alive(within=60).filter(name=one.name).exists()


@pytest.mark.parametrize(
    ("before", "after"), [([1, 2, 3], [1, 2]), ([1, 2], [1, 2, 4])], ids=["went", "went-unseen"]
)
def test_a_cluster_is_in_doubt_when_its_processes_changed(supervise, monkeypatch, before, after):
    """Process 3 went; or it came and went between two looks, and only 4, which stands in for it, shows that."""
    clock, supervisor = [supervisor_module.monotonic()], supervise()
    monkeypatch.setattr(supervisor_module, "monotonic", lambda: clock[0])
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
    clock[0] += supervisor_module.DOUBT_SECONDS + 0.1
    assert not supervisor._stuck(), "it has given a sign since"
    Cluster.objects.update(seen_at=ago(seconds=5))
    assert "no sign of life for 4 s" in supervisor._stuck()


def claim(supervisor):
    """What a worker of its cluster holds, whose process id is the same in every container."""
    [state] = claim_module.claim(
        worker_name(supervisor.name, 7), [(["noop"], 1)], 30, claim_module.FactsCache()
    )
    return state.id


def holders():
    return {
        state.pk.hex: state.worker
        for state in State.objects.filter(status="QUEUED", lease_expires_at__gt=timezone.now())
    }
