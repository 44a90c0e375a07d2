"""Sessions of the admin: idle ones end, people see and end their own, and guessing is slowed."""

from time import time

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken

from graphs.auth import api_keys
from graphs.models import ApiKey
from runs.models import AuditEntry
from statemanager import sessions
from tests.support.api_client import ApiClient

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
PAGE = "/admin/access/"
LIST = "/admin/run-manager/"


@pytest.fixture
def ann(settings):
    settings.AXES_ENABLED = True
    settings.AXES_FAILURE_LIMIT = 3
    return User.objects.create_superuser("ann", password=PASSWORD)


def logged_in(username="ann", address="198.51.100.1"):
    client = Client(REMOTE_ADDR=address, headers={"User-Agent": f"browser at {address}"})
    form = {"username": username, "password": PASSWORD}
    assert client.post(reverse("admin:login"), form).status_code == 302
    return client


def be_idle(client, minutes):
    session = client.session
    session[sessions.USED] = int(time() - minutes * 60)
    session.save()


def is_open(client, **options):
    return client.get(LIST, **options).status_code == 200


def test_an_idle_session_ends(ann, settings):
    settings.SESSION_IDLE_MINUTES = 30
    client = logged_in()
    be_idle(client, 29)
    assert is_open(client)
    assert time() - client.session[sessions.USED] < 60, "that was a use of it"
    be_idle(client, 31)
    assert not is_open(client)
    assert AuditEntry.objects.filter(action="logout", actor="ann").exists()
    settings.SESSION_IDLE_MINUTES = 0
    client = logged_in()
    be_idle(client, 100_000)
    assert is_open(client)


def test_what_an_open_page_asks_for_by_itself_keeps_no_session(ann, settings):
    settings.SESSION_IDLE_MINUTES = 30
    client = logged_in()
    be_idle(client, 29)
    assert is_open(client, headers={"Poll": "1"})
    assert time() - client.session[sessions.USED] > 28 * 60
    be_idle(client, 31)
    assert not is_open(client, headers={"Poll": "1"})


def test_every_poll_says_that_it_is_one():
    """Otherwise an open page would keep its session for ever."""
    for path in templates():
        text = path.read_text()
        assert text.count('hx-trigger="every') == text.count('hx-headers=\'{"Poll": "1"}\''), path


def templates():
    from django.conf import settings

    return sorted((settings.BASE_DIR / "templates").rglob("*.html"))


def test_people_see_their_own_sessions_and_keys_only(ann):
    User.objects.create_superuser("bob", password=PASSWORD)
    logged_in("bob", "198.51.100.66")
    theirs, own = (api_keys.create_key((), "read", name=name)[0] for name in ("theirs", "own"))
    ApiKey.objects.filter(pk=own.pk).update(created_by=ann)
    logged_in(address="198.51.100.2")
    client = logged_in()
    page = client.get(PAGE).content.decode()
    assert "198.51.100.2" in page
    assert "This one" in page
    assert own.prefix in page
    assert theirs.prefix not in page
    assert "198.51.100.66" not in page
    for session in Session.objects.all():
        assert session.session_key not in page, "a key would be a login"


def test_one_session_or_all_others_are_ended(ann):
    User.objects.create_superuser("bob", password=PASSWORD)
    bob = logged_in("bob", "198.51.100.66")
    second, third = logged_in(address="198.51.100.2"), logged_in(address="198.51.100.3")
    body = {"username": "ann", "password": PASSWORD}
    refresh = ApiClient()("POST", "/token", body)[1]["refresh"]
    client = logged_in()
    listed = {session.address: session for session in client.get(PAGE).context["sessions"]}
    client.post(PAGE, {"session": listed["198.51.100.2"].name})
    assert [is_open(each) for each in (second, third, client, bob)] == [False, True, True, True]
    client.post(PAGE, {"others": "1"})
    assert [is_open(each) for each in (third, client, bob)] == [False, True, True]
    assert ApiClient()("POST", "/token/refresh", {"refresh": refresh})[0] == 401
    assert BlacklistedToken.objects.count() == 1
    ended = AuditEntry.objects.filter(action="end_session", actor="ann", via="page")
    assert [entry.detail for entry in ended.order_by("pk")] == [
        "session from 198.51.100.2",
        "session from 198.51.100.3",
    ]


def test_an_own_key_is_revoked_and_no_other(ann):
    (theirs, _), (own, text) = (api_keys.create_key((), "admin") for _ in range(2))
    ApiKey.objects.filter(pk=own.pk).update(created_by=ann)
    client = logged_in()
    for key in (theirs, own):
        client.post(PAGE, {"key": key.prefix})
    assert ApiClient(text)("GET", f"{LIST}runs")[0] == 401
    assert ApiKey.objects.get(revoked_at=None) == theirs
    assert AuditEntry.objects.get(action="revoke_key").actor == "ann"


def test_the_page_is_for_people_who_are_logged_in(client):
    assert client.get(PAGE).status_code == client.post(PAGE, {"others": "1"}).status_code == 302


def test_sessions_that_cannot_be_read_are_left_out(ann):
    client = logged_in()
    Session.objects.create(session_key="x", session_data="broken", expire_date="2099-01-01T00:00Z")
    assert len(client.get(PAGE).context["sessions"]) == 1


def change_password(client, old, new="another good password"):
    form = {"old_password": old, "new_password1": new, "new_password2": new}
    return client.post(reverse("admin:password_change"), form)


def test_guessing_the_old_password_is_slowed_down_like_a_login(ann):
    client = logged_in()
    answers = [change_password(client, "wrong").status_code for _ in range(4)]
    assert answers == [200, 200, 429, 429]
    assert change_password(client, PASSWORD).status_code == 429, "right or wrong"
    failures = AuditEntry.objects.filter(action="login_failed", actor="ann", via="page")
    assert failures.count() == 3
    ann.refresh_from_db()
    assert ann.check_password(PASSWORD)


def test_a_new_password_that_is_too_weak_is_no_failed_login(ann):
    client = logged_in()
    for _ in range(4):
        assert change_password(client, PASSWORD, "1").status_code == 200
    assert change_password(client, PASSWORD).status_code == 302
