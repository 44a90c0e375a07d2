"""What a supervisor does in its rounds, beside clusters of other supervisors."""

import subprocess
from datetime import timedelta

import pytest
from django.utils import timezone

from runs import reporting, supervising
from runs.models import Cluster

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def supervise():
    """Makes supervisors whose cluster is one process that waits; nothing of them is left."""
    made = []

    def make():
        supervisor = supervising.Supervisor(1)
        reporting.register(supervisor.name, supervisor.host, supervisor.workers)
        supervisor.process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True)
        supervisor._started = supervising.monotonic()
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
    for name, seen in {"killed": ago(hours=25), "away": ago(hours=23), "alive": ago(seconds=1)}.items():
        Cluster.objects.create(name=name, host="there", pid=1, workers=1, started_at=ago(days=9), seen_at=seen)
    Cluster.objects.filter(name=supervisor.name).update(seen_at=ago(days=2))
    supervisor.tick()
    assert set(Cluster.objects.values_list("name", flat=True)) == {"away", "alive", supervisor.name}
