"""Logins: guessing is slowed down, weak passwords are refused, and tokens end."""

import json
from datetime import timedelta

import pytest
from axes.models import AccessAttempt, AccessLog
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from graphs.auth import login_records
from tests.support.api_client import ApiClient

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


@pytest.fixture
def ann(settings):
    settings.AXES_ENABLED = True
    settings.AXES_FAILURE_LIMIT = 3
    return User.objects.create_superuser("ann", password=PASSWORD)


def token(password, address="198.51.100.1", **headers):
    """The answer to a request for a token: status, body and Retry-After."""
    answer = Client().post(
        "/token",
        {"username": "ann", "password": password},
        content_type="application/json",
        REMOTE_ADDR=address,
        headers=headers,
    )
    return answer.status_code, answer.json(), answer.headers.get("Retry-After")


def login(password):
    form = {"username": "ann", "password": password}
    return Client().post(reverse("admin:login"), form, REMOTE_ADDR="198.51.100.1")


def test_an_account_that_failed_too_often_waits_longer_and_longer(ann):
    assert [token("wrong")[0] for _ in range(4)] == [401, 401, 429, 429]
    status, body, wait = token(PASSWORD)
    assert (status, wait) == (429, "240")
    assert body["detail"] == "Too many failed logins. Try again in 4 minutes."
    assert login(PASSWORD).status_code == 429, "it is refused in the admin, too"

    assert token(PASSWORD, address="198.51.100.2")[0] == 200, "nobody locks another person out"
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(hours=2))
    assert token(PASSWORD)[0] == 200
    assert not AccessAttempt.objects.filter(ip_address="198.51.100.1").exists()


def test_the_login_page_says_how_long_to_wait(ann):
    pages = [login("wrong") for _ in range(3)]
    assert [page.status_code for page in pages] == [200, 200, 429]
    assert "Try again in 1 minute." in pages[-1].content.decode()
    assert pages[-1]["Retry-After"] == "60"


@pytest.mark.parametrize(
    ("behind_proxy", "statuses"), [(True, [401] * 4), (False, [401, 401, 429, 429])]
)
def test_only_a_proxy_may_say_where_a_request_comes_from(ann, settings, behind_proxy, statuses):
    """What the client itself puts into the header comes before what the proxy adds."""
    settings.BEHIND_PROXY = behind_proxy
    chains = [f"198.51.100.7, 203.0.113.{number}" for number in range(4)]
    assert [token("wrong", **{"X-Forwarded-For": chain})[0] for chain in chains] == statuses


def test_logins_are_logged_without_passwords(ann):
    login("wrong-canary")
    login(PASSWORD)
    assert AccessLog.objects.get().username == "ann"
    assert AccessAttempt.objects.count() == 0  # a login that succeeds ends the count
    login("wrong-canary")
    assert "canary" not in str(AccessAttempt.objects.values())


def test_a_refresh_token_is_good_for_one_use_and_can_be_revoked(ann):
    api = ApiClient()
    _, tokens, _ = token(PASSWORD)
    status, fresh = api("POST", "/token/refresh", {"refresh": tokens["refresh"]})
    assert status == 200
    assert api("POST", "/token/refresh", {"refresh": tokens["refresh"]})[0] == 401
    assert api("POST", "/token/revoke", {"refresh": fresh["refresh"]})[0] == 200
    assert api("POST", "/token/refresh", {"refresh": fresh["refresh"]})[0] == 401


def test_a_new_password_ends_all_tokens(ann):
    _, tokens, _ = token(PASSWORD)
    api = ApiClient(Authorization=f"Bearer {tokens['access']}")
    assert api("GET", "/admin/run-manager/runs")[0] == 200
    ann.set_password("another good password")
    ann.save()
    assert api("GET", "/admin/run-manager/runs")[0] == 401
    _, fresh = ApiClient()("POST", "/token/refresh", {"refresh": tokens["refresh"]})
    api = ApiClient(Authorization=f"Bearer {fresh['access']}")
    assert api("GET", "/admin/run-manager/runs")[0] == 401


@pytest.mark.parametrize("weak", ["1", "12345678901", "password1"])
def test_weak_passwords_are_refused(ann, client, weak):
    client.force_login(ann, "django.contrib.auth.backends.ModelBackend")
    form = {"old_password": PASSWORD, "new_password1": weak, "new_password2": weak}
    assert client.post(reverse("admin:password_change"), form).status_code == 200
    ann.refresh_from_db()
    assert ann.check_password(PASSWORD)


def test_what_is_kept_of_logins_is_forgotten_in_time(ann):
    token("wrong", address="198.51.100.9")
    token(PASSWORD)
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(days=2))
    AccessLog.objects.update(attempt_time=timezone.now() - timedelta(days=100))
    OutstandingToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    login_records.forget_old()
    for model in (AccessAttempt, AccessLog, OutstandingToken):
        assert not model.objects.exists()


@pytest.mark.parametrize("username", ["x" * 300, "ä" * 5000, "", "a\x00b", "\ud800", ["ann"], None])
def test_odd_usernames_get_a_clear_answer(ann, username):
    body = json.dumps({"username": username, "password": "wrong"})
    for agent in ("browser", "x" * 3000):
        answer = Client(raise_request_exception=False).post(
            "/token", body, content_type="application/json", headers={"User-Agent": agent}
        )
        assert answer.status_code in (401, 422), answer.content


@pytest.mark.parametrize("chain", ["unknown", "203.0.113.7:4711", "1.2.3.4, [2001:db8::1]:80", ","])
def test_a_proxy_that_sends_no_address_counts_as_one_client(ann, settings, chain):
    settings.BEHIND_PROXY = True
    assert token("wrong", **{"X-Forwarded-For": chain})[0] == 401
    assert AccessAttempt.objects.get().ip_address == "198.51.100.1"
