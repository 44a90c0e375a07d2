"""Logins: guessing is slowed down, weak passwords are refused, and tokens end."""

import json
from datetime import timedelta

import pytest
from axes.models import AccessAttempt, AccessLog
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from graphs.auth import acts, api_keys, login_records
from graphs.auth.callers import SYSTEM
from graphs.models import ApiKey
from runs.models import AuditEntry
from statemanager import logins
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


def test_an_address_from_which_many_logins_fail_is_refused_whatever_the_accounts(ann, monkeypatch):
    monkeypatch.setattr(logins, "ADDRESS_FAILURES", 4)

    def guess(username):
        body = {"username": username, "password": "Winter-2026"}
        json = "application/json"
        return Client().post("/token", body, content_type=json, REMOTE_ADDR="198.51.100.1")

    assert [guess(f"name{at}").status_code for at in range(6)] == [401] * 4 + [429] * 2
    status, body, wait = token(PASSWORD)
    assert (status, wait) == (429, "600")
    assert body["detail"] == "Too many failed logins. Try again in 10 minutes."
    assert token(PASSWORD, address="198.51.100.2")[0] == 200
    for minutes, status in ((2, 429), (9, 429), (11, 200)):
        AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=minutes))
        assert token(PASSWORD)[0] == status, "what is refused is no new failure"


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
    assert api("POST", "/token/revoke", {"refresh": fresh["refresh"]})[0] == 200
    assert api("POST", "/token/refresh", {"refresh": fresh["refresh"]})[0] == 401


def test_a_refresh_token_that_is_used_twice_ends_those_that_followed_from_it(ann):
    api = ApiClient()
    _, stolen, _ = token(PASSWORD)
    _, other, _ = token(PASSWORD)
    _, second = api("POST", "/token/refresh", {"refresh": stolen["refresh"]})
    _, third = api("POST", "/token/refresh", {"refresh": second["refresh"]})
    status, answer = api("POST", "/token/refresh", {"refresh": stolen["refresh"]})
    assert (status, answer["detail"]) == (401, "Token is blacklisted")
    assert api("POST", "/token/refresh", {"refresh": third["refresh"]})[0] == 401
    assert api("POST", "/token/refresh", {"refresh": other["refresh"]})[0] == 200
    assert AuditEntry.objects.filter(action="revoke_token", actor="ann").count() == 1


def test_a_forged_refresh_token_ends_nothing(ann):
    api = ApiClient()
    _, tokens, _ = token(PASSWORD)
    api("POST", "/token/refresh", {"refresh": tokens["refresh"]})
    header, claims, _ = tokens["refresh"].split(".")
    assert api("POST", "/token/refresh", {"refresh": f"{header}.{claims}.AAAA"})[0] == 401
    assert not AuditEntry.objects.filter(action="revoke_token").exists()


@pytest.mark.parametrize("path", ["password", "change"])
def test_only_superusers_change_superusers(client, django_user_model, path):
    root = django_user_model.objects.create_superuser("root", password=PASSWORD)
    manager = django_user_model.objects.create_user("manager", password=PASSWORD, is_staff=True)
    rights = Permission.objects.filter(content_type__app_label="auth")
    manager.user_permissions.set(rights)
    client.force_login(manager, "django.contrib.auth.backends.ModelBackend")
    page = f"/admin/auth/user/{root.pk}/{path}/"
    assert client.post(page, {"username": "x", "password1": PASSWORD}).status_code == 403
    form = client.get(f"/admin/auth/user/{manager.pk}/change/").context["adminform"].form
    assert not {"is_superuser", "groups", "user_permissions"} & set(form.fields)
    root.refresh_from_db()
    assert root.username == "root"


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


def audit_of(*actions):
    entries = AuditEntry.objects.filter(action__in=actions).order_by("pk")
    return [(entry.action, entry.actor, entry.via, entry.detail) for entry in entries]


LOGIN_ACTIONS = ("login", "login_failed", "logout", "password")


def test_logins_failures_logouts_and_new_passwords_leave_entries(ann):
    where = "from 198.51.100.1"
    token("wrong-canary")
    token(PASSWORD)
    login("wrong-canary")
    client = Client(REMOTE_ADDR="198.51.100.1")
    client.post(reverse("admin:login"), {"username": "ann", "password": PASSWORD})
    new = "another good password"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert client.post(reverse("admin:password_change"), form).status_code == 302
    client.post(reverse("admin:logout"))
    assert audit_of(*LOGIN_ACTIONS) == [
        ("login_failed", "ann", "api", where),
        ("login", "ann", "api", where),
        ("login_failed", "ann", "page", where),
        ("login", "ann", "page", where),
        ("password", "ann", "page", "changed"),
        ("logout", "ann", "page", where),
    ]
    assert "canary" not in str(AuditEntry.objects.values())


def test_a_refused_login_during_the_pause_fills_no_table(ann):
    for _ in range(10):
        token("wrong")
    assert len(audit_of("login_failed")) == 3


def test_a_password_that_was_not_changed_leaves_no_entry(ann, client):
    client.force_login(ann, "django.contrib.auth.backends.ModelBackend")
    form = {"old_password": PASSWORD, "new_password1": "1", "new_password2": "1"}
    client.post(reverse("admin:password_change"), form)
    assert not audit_of("password")


def end_by_save(user):
    user.is_active = False
    user.save()


def end_in_bulk(user):
    User.objects.filter(pk=user.pk).update(is_active=False)


ENDS = {
    "saved": end_by_save,
    "updated": end_in_bulk,
    "deleted": lambda user: user.delete(),
    "deleted in bulk": lambda user: User.objects.filter(pk=user.pk).delete(),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_keys_and_tokens_of_an_account_end_with_it(ann, end):
    key, text = api_keys.create_key((), "admin")
    ApiKey.objects.filter(pk=key.pk).update(created_by=ann)
    _, tokens, _ = token(PASSWORD)
    clients = [ApiClient(text), ApiClient(Authorization=f"Bearer {tokens['access']}")]
    path = "/admin/run-manager/runs"
    assert [client("GET", path)[0] for client in clients] == [200, 200]
    ENDS[end](ann)
    api_keys.forget()  # a process may remember a key for a second
    assert [client("GET", path)[0] for client in clients] == [401, 401]
    assert ApiClient()("POST", "/token/refresh", {"refresh": tokens["refresh"]})[0] == 401


def test_an_account_that_is_activated_again_does_not_get_its_keys_back(ann):
    key, text = api_keys.create_key((), "admin", name="robot")
    ApiKey.objects.filter(pk=key.pk).update(created_by=ann)
    _, tokens, _ = token(PASSWORD)
    end_by_save(ann)
    ann.is_active = True
    ann.save()
    assert ApiClient(text)("GET", "/admin/run-manager/runs")[0] == 401
    assert ApiClient()("POST", "/token/refresh", {"refresh": tokens["refresh"]})[0] == 401
    assert audit_of("revoke_key") == [("revoke_key", "system", "system", f"{key}")]


def test_the_keys_of_other_accounts_go_on(ann):
    text = api_keys.create_key((), "admin")[1]
    ann.delete()
    assert ApiClient(text)("GET", "/admin/run-manager/runs")[0] == 200


def test_history_outlives_the_account(ann, client, admin_client):
    """The admin's own log is deleted with the account; the audit entries stay."""
    client.force_login(ann, "django.contrib.auth.backends.ModelBackend")
    client.post(reverse("admin:auth_group_add"), {"name": "crew"})
    assert LogEntry.objects.filter(user=ann).exists()
    ann.delete()
    assert not LogEntry.objects.exists()
    assert audit_of("admin_add") == [("admin_add", "ann", "page", "group crew")]
    url = reverse("admin:statemanager_runs_auditentry_changelist")
    page = admin_client.get(f"{url}?action__exact=admin_add&q=ann").content.decode()
    assert "group crew" in page


def test_the_audit_page_is_filtered_by_what_and_where_and_needs_the_permission(
    ann, client, namespace, django_assert_max_num_queries
):
    acts.record(SYSTEM, "publish", namespace.pk, "alpha/shown version 1")
    acts.record(SYSTEM, "roll_back", None, "another thing")
    reader = User.objects.create_user("reader", is_staff=True)
    client.force_login(reader, "django.contrib.auth.backends.ModelBackend")
    url = reverse("admin:statemanager_runs_auditentry_changelist")
    assert client.get(url).status_code == 403
    reader.user_permissions.add(Permission.objects.get(codename="view_auditentry"))
    with django_assert_max_num_queries(9):
        query = {"action__exact": "publish", "via__exact": "system", "namespace": namespace.pk}
        page = client.get(url, query).content.decode()
    assert "alpha/shown version 1" in page
    assert "another thing" not in page
    assert "alpha/shown" in client.get(url, {"q": "shown"}).content.decode()


def test_failed_logins_are_forgotten_in_time_and_other_entries_are_kept(ann):
    token("wrong")
    token(PASSWORD)
    AuditEntry.objects.update(at=timezone.now() - timedelta(days=89))
    AuditEntry.objects.forget_failed_logins()
    assert len(audit_of("login", "login_failed")) == 2
    AuditEntry.objects.update(at=timezone.now() - timedelta(days=91))
    AuditEntry.objects.forget_failed_logins()
    assert [action for action, *_ in audit_of(*LOGIN_ACTIONS)] == ["login"]
