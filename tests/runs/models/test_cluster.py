"""When a cluster counts as alive: by the database's clock, and for a number of probes."""

import ast
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from runs.core import sql
from runs.models import Cluster
from runs.models.cluster import ALIVE_PROBES, MISSED_PROBES

ROOT = Path(__file__).parents[3]


def cluster(seconds, name="c"):
    """A cluster that was seen this many seconds ago."""
    seen = sql.clock() - timedelta(seconds=seconds)
    return Cluster.objects.create(name=name, host="here", pid=1, workers=1, seen_at=seen)


@pytest.mark.django_db
@pytest.mark.parametrize("probe", [0.5, 4, 60])
def test_a_cluster_is_alive_while_its_probes_are_answered(conf, probe):
    conf.PROBE_SECONDS = probe
    cluster(probe * ALIVE_PROBES / 2, "answers")
    cluster(probe * ALIVE_PROBES + 0.4, "silent")
    assert [cluster.name for cluster in Cluster.objects.alive()] == ["answers"]


@pytest.mark.django_db
def test_another_time_may_be_given():
    cluster(30)
    assert not Cluster.objects.alive(within=29).exists()
    assert Cluster.objects.alive(within=31).exists()


@pytest.mark.django_db
def test_the_clock_of_the_host_does_not_matter(monkeypatch):
    cluster(0)
    later = timezone.now() + timedelta(hours=1)
    monkeypatch.setattr(timezone, "now", lambda: later)
    assert Cluster.objects.alive().exists()


def test_a_cluster_that_is_being_replaced_is_still_alive():
    assert ALIVE_PROBES > MISSED_PROBES


def test_no_other_code_compares_the_last_sign_of_life_with_a_time():
    """Only the queryset, and the sweeper that forgets clusters after a day, use `seen_at`."""
    users = set()
    for app in ("runs", "statemanager", "graphs"):
        for path in sorted((ROOT / app).rglob("*.py")):
            if "migrations" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.keyword) and (node.arg or "").startswith("seen_at__"):
                    users.add(f"{path.relative_to(ROOT)}: {node.arg}")
    assert users == {
        "runs/models/cluster.py: seen_at__gt",  # alive, and answered
        "runs/engine/heartbeat.py: seen_at__lt",  # forgets clusters
    }
