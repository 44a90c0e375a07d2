"""The health pages, and the version that they and the admin show."""

import pytest
from django.test import Client

from statemanager import __version__

pytestmark = pytest.mark.django_db


def test_healthz_answers_with_the_version():
    answer = Client().get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "version": "0.9.0"}


def test_readyz_answers_503_without_a_cluster():
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "no cluster")


def test_the_admin_footer_shows_the_version(admin_client):
    assert f"State Manager {__version__}" in admin_client.get("/admin/").content.decode()
