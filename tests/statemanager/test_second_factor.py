"""The second factor: its set-up, the logins that ask for it, and a site that requires it."""

import re
from base64 import b32decode
from time import time

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from runs.models import AuditEntry

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
PAGE = "/admin/access/second-factor/"
LIST = "/admin/run-manager/"
LOGIN = {"username": "ann", "password": PASSWORD}


@pytest.fixture
def ann():
    return User.objects.create_superuser("ann", password=PASSWORD)


def login(**fields):
    client = Client()
    answer = client.post(reverse("admin:login"), {**LOGIN, **fields})
    return client, answer


def token_answer(**fields):
    return Client().post("/token", {**LOGIN, **fields}, "application/json")


def code_of_device(device):
    totp = TOTP(device.bin_key)
    totp.time = time()
    return f"{totp.token():06}"


def code_of(key, steps=0):
    """What an authenticator app shows for a key, so many steps of 30 s from now."""
    totp = TOTP(b32decode(key))
    totp.time = time() + 30 * steps
    return f"{totp.token():06}"


def set_up(client):
    """Set the factor up on its page; return the key and the recovery codes."""
    page = client.post(PAGE, {"action": "begin"}, follow=True).content.decode()
    key = re.search(r"<code>([A-Z2-7]+)</code>", page)[1]
    assert "<svg" in page
    page = client.post(PAGE, {"action": "confirm", "code": code_of(key)}).content.decode()
    codes = re.findall(r"<code>([a-z2-7]+)</code>", page)
    assert len(codes) == 8
    return key, codes


def test_a_login_asks_for_the_second_factor_that_was_set_up(ann):
    client, _ = login()
    other, _ = login()
    key, _ = set_up(client)
    assert client.get(LIST).status_code == 200, "this session has given a code"
    assert other.get(LIST).status_code == 302, "other sessions end"

    _, answer = login()
    assert "This account has a second factor" in answer.content.decode()
    _, answer = login(code="000000")
    assert "This code is wrong" in answer.content.decode()
    ann.totpdevice_set.get().throttle_reset()
    _, answer = login(code=code_of(key))
    assert "This code is wrong or was used before" in answer.content.decode(), "the set-up used it"
    ann.totpdevice_set.get().throttle_reset()
    client, answer = login(code=code_of(key, 1))
    assert answer.status_code == 302
    assert client.get(LIST).status_code == 200
    entries = AuditEntry.objects.filter(action="second_factor")
    assert list(entries.values_list("actor", "detail")) == [("ann", "set up")]


def test_wrong_codes_are_refused_for_a_growing_time(ann):
    key, _ = set_up(login()[0])
    login(code="000000")
    _, answer = login(code=code_of(key, 1))
    assert answer.status_code == 200, "even a right code, for a second"


def test_a_recovery_code_is_good_for_one_login(ann):
    _, codes = set_up(login()[0])
    assert login(code=codes[0].upper())[1].status_code == 302
    assert login(code=codes[0])[1].status_code == 200
    assert StaticToken.objects.count() == 7


def test_tokens_need_the_code(ann):
    key, _ = set_up(login()[0])
    assert token_answer().status_code == 401
    assert not OutstandingToken.objects.exists(), "a refusal makes no token"
    assert token_answer(code=code_of(key, 1)).status_code == 200


def test_removing_it_needs_a_code(ann):
    client, _ = login()
    _, codes = set_up(client)
    client.post(PAGE, {"action": "remove", "code": "000000"})
    assert TOTPDevice.objects.exists()
    client.post(PAGE, {"action": "remove", "code": codes[0]})
    assert not TOTPDevice.objects.exists()
    assert not StaticToken.objects.exists()
    assert login()[1].status_code == 302
    assert AuditEntry.objects.filter(action="second_factor", detail="removed").exists()


def test_a_session_without_a_code_cannot_replace_it(ann):
    client, _ = login()
    key, _ = set_up(client)
    page = client.post(PAGE, {"action": "begin"}, follow=True).content.decode()
    assert "Remove your second factor before you set up another one" in page
    other = TOTPDevice.objects.create(user=ann, name="other", confirmed=False)
    client.post(PAGE, {"action": "confirm", "code": code_of_device(other)})
    assert TOTPDevice.objects.get(confirmed=True).bin_key == b32decode(key)


def test_a_wrong_code_does_not_end_the_set_up(ann):
    client, _ = login()
    client.post(PAGE, {"action": "begin"})
    page = client.post(PAGE, {"action": "confirm", "code": "000000"}, follow=True)
    assert "This code is wrong" in page.content.decode()
    assert login()[1].status_code == 302, "the factor doesn't count yet"


def test_a_site_may_require_it(ann, settings):
    settings.SECOND_FACTOR_REQUIRED = True
    client, _ = login()
    assert client.get(LIST)["Location"] == PAGE
    assert client.get("/runs", headers={"Accept": "application/json"}).status_code == 403
    assert token_answer().status_code == 401
    assert client.get(PAGE).status_code == 200
    set_up(client)
    assert client.get(LIST).status_code == 200


def test_a_superuser_takes_a_lost_factor_from_an_account(ann, admin_client):
    set_up(login()[0])
    chosen = {"action": "remove_second_factor", "_selected_action": ann.pk}
    page = admin_client.post(reverse("admin:auth_user_changelist"), chosen, follow=True)
    assert "Accounts without a second factor now: 1." in page.content.decode()
    assert login()[1].status_code == 302
    assert AuditEntry.objects.filter(action="admin_action", actor="admin").exists()


def test_nobody_else_does(ann):
    staff = User.objects.create_user("staff", password=PASSWORD, is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(content_type__app_label="auth"))
    set_up(login()[0])
    client = Client()
    client.force_login(staff)
    chosen = {"action": "remove_second_factor", "_selected_action": ann.pk}
    client.post(reverse("admin:auth_user_changelist"), chosen)
    assert TOTPDevice.objects.exists()


def test_no_page_shows_keys():
    assert not any("otp" in model._meta.app_label for model in admin.site._registry)
