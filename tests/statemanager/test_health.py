"""The health pages, and the version that they and the admin show."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
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


def test_the_pages_about_the_api_are_open_as_they_always_were():
    for path, status in (("/schema", 200), ("/docs/", 200), ("/readyz", 503)):
        assert Client().get(path).status_code == status, path


@pytest.mark.parametrize(
    ("setting", "paths"),
    [("PUBLIC_DOCS", ("/schema", "/docs/")), ("PUBLIC_READYZ", ("/readyz",))],
)
def test_pages_about_the_installation_can_be_closed(
    setting, paths, settings, make_key, admin_client
):
    setattr(settings, setting, False)
    key = make_key("read")
    for path in paths:
        assert Client().get(path).status_code == 401, path
        assert Client().get(path, headers={"X-API-Key": "sm_no"}).status_code == 401, path
        assert Client().get(path, headers={"X-API-Key": key}).status_code in (200, 503), path
        assert admin_client.get(path).status_code in (200, 503), path
    assert Client().get("/healthz").status_code == 200


def test_staff_without_rights_do_not_open_what_is_closed(settings, client):
    settings.PUBLIC_DOCS = settings.PUBLIC_READYZ = False
    client.force_login(User.objects.create_user("eve", is_staff=True))
    for path in ("/schema", "/docs/", "/readyz"):
        assert client.get(path).status_code == 403, path
