"""Clusters of hosts whose clocks differ, and deployments that stop a working cluster."""

import os
import signal
from collections import defaultdict
from datetime import timedelta
from time import monotonic

import pytest
from django.utils import timezone

from graphs.auth.callers import SYSTEM
from graphs.models import Namespace
from graphs.nodes.base import registry
from graphs.services.publish import publish_graph
from runs.cluster.supervisor import MISSED_PROBES
from runs.engine import control
from runs.engine.start import start_run
from runs.models import Cluster, Run, State
from tests.chaos.figures import GRACE_SECONDS, NOISE_SECONDS
from tests.chaos.site import GRAPH, assert_all_completed, drawing_options
from tests.support.clusters import supervised, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos]


@pytest.mark.only_on("postgresql")
def test_hosts_whose_clocks_are_an_hour_apart(tmp_path):
    """Leases, wake-ups, probes and schedules use the database's clock, not that of a host."""
    registry.store()
    first_run = start_run(
        publish_graph(Namespace.objects.get_or_create(name="alpha")[0], "g", GRAPH)
    )
    with supervised(workers=1, CLOCK_SKEW="3600"), supervised(workers=1, CLOCK_SKEW="-3600"):
        until(lambda: Cluster.objects.count() == 2)
        until(lambda: Cluster.objects.answered().count() == 2)
        now = timezone.now()
        assert all(
            abs(cluster.started_at - now) < timedelta(minutes=2)
            for cluster in Cluster.objects.all()
        )
        runs = [first_run, *(start_run(first_run.graph) for _ in range(20))]
        workers = set()
        claiming = State.objects.filter(status="QUEUED").values_list("worker", flat=True)
        until(
            lambda: (
                workers.update(claiming.all())
                or not Run.objects.filter(pending_count__gt=0).exists()
            ),
            60,
        )
        # Longer than a cluster may be silent.
        until(_both_clusters_answered_probes(MISSED_PROBES + 2), 60)
        restarts = list(Cluster.objects.values_list("restarts", flat=True))
    assert restarts == [0, 0]
    ended = Run.objects.filter(pk__in=[run.pk for run in runs])
    assert {(run.status, run.error_message) for run in ended} == {("completed", "")}
    states = State.objects.filter(run__in=runs)
    assert set(states.values_list("lost_leases", flat=True)) == {0}, "no lease seemed to be over"
    clusters = {worker.rpartition(":")[0] for worker in workers}
    assert len(clusters) == 2, "both clusters claimed states"


def _both_clusters_answered_probes(number):
    """A condition for `until`: each of two idle clusters has answered more than `number` probes."""
    answers = defaultdict(set)

    def condition():
        for name, seen_at in Cluster.objects.values_list("name", "seen_at"):
            answers[name].add(seen_at)
        return len(answers) == 2 and all(len(times) > number for times in answers.values())

    return condition


def test_stops_under_load(publish, database, request, record_property):
    """A deployment stops the working cluster with SIGTERM; 100 times in the long form.

    In every third round the cluster works on a node that does not end within the grace period.
    """
    graph = publish("start>out>work>slow>all", **drawing_options())
    endless = publish(
        "a", name="endless", kinds={"a": "test.sleep"}, inputs={"a": {"seconds": 600}}
    )
    rounds = 100 if request.config.getoption("--outage-minutes") else 3
    # With a lease of a minute, a state that a stop loses would be missing for a minute.
    settings = {"GRACE_SECONDS": str(GRACE_SECONDS), "LEASE_SECONDS": "60"}
    stops = []
    for number in range(rounds):
        with supervised(**settings) as process:
            endless_runs = [start_run(endless)] if number % 3 == 0 else []
            for _ in range(6):
                start_run(graph)
            awaited_runs = endless_runs or Run.objects.filter(graph=graph)
            claimed = State.objects.filter(status="QUEUED", run__in=awaited_runs)
            until(lambda claimed=claimed: claimed.all().exists(), 30, 0.01)
            process.send_signal(signal.SIGTERM)
            stopped_at = monotonic()
            assert process.wait(60) == 0
            stops.append(monotonic() - stopped_at)
        assert not State.objects.filter(status="QUEUED").exists(), "a stop gives back its states"
        assert not _processes_of(process.pid), "a stop leaves no process behind"
        for run in endless_runs:
            control.cancel_run(run, SYSTEM)
    with supervised():
        until(lambda: not Run.objects.filter(pending_count__gt=0).exists(), 60, 0.2)
    assert not State.objects.filter(lost_leases__gt=0).exists()
    Run.objects.filter(graph=endless).delete()
    assert_all_completed(6 * rounds)
    assert max(stops) <= GRACE_SECONDS + NOISE_SECONDS, (
        "a node that does not end within the grace period is ended"
    )
    record_property(
        "report",
        f"{database}: {rounds} stops under load: {6 * rounds} runs, nothing lost, no process left; "
        f"the longest took {max(stops):.1f} s (grace {GRACE_SECONDS} s)",
    )


def _processes_of(supervisor):
    """The process ids of the processes that belong to a supervisor, itself included."""
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and _belongs_to(supervisor, pid)]


def _belongs_to(supervisor, pid):
    cluster = f"STATEMANAGER_CLUSTER={os.uname().nodename}:{supervisor}"
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return cluster.encode() in file.read()
    except OSError:
        return False
