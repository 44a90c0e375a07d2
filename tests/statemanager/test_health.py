"""The health pages, and the version that they and the admin show."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from runs.engine import heartbeat
from runs.models import Cluster
from statemanager import __version__

pytestmark = pytest.mark.django_db


def test_healthz_answers_with_the_version():
    answer = Client().get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "version": "0.9.0"}


def test_readyz_answers_503_without_a_cluster():
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "no cluster")


def test_readyz_answers_200_only_after_a_worker_has_answered():
    heartbeat.register("here:1", "here", 2)
    assert Client().get("/readyz").status_code == 503, "the cluster was started, and that is all"
    Cluster.objects.update(seen_at=timezone.now() + timedelta(seconds=1))
    assert Client().get("/readyz").status_code == 200


def test_the_admin_footer_shows_the_version(admin_client):
    assert f"State Manager {__version__}" in admin_client.get("/admin/").content.decode()
