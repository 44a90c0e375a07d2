"""Errors of pages: a sentence, and a way back. Errors of the API stay JSON."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from runs.manager import list_page
from tests.support.pages import LIST, text

pytestmark = pytest.mark.django_db


def test_an_unknown_page_has_a_way_back(admin_client):
    page = admin_client.get(f"{LIST}run/999999/")
    assert page.status_code == 404
    assert "There is no such page" in text(page)
    assert f'href="{LIST}"' in text(page)


def test_a_right_that_is_missing_is_named(client):
    user = User.objects.create_user("vera", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    page = client.post(reverse("flow_new"), {})
    assert page.status_code == 403
    assert "You may not start runs" in text(page)
    assert "Back to the start page" in text(page)


def test_a_form_without_its_token_is_not_sent():
    page = Client(enforce_csrf_checks=True).post(f"{LIST}bulk/delete/", {"run": 1})
    assert page.status_code == 403
    assert "The form could not be checked" in text(page)


def test_an_error_of_the_server_has_a_page(admin_user, monkeypatch):
    def broken(*_args):
        raise RuntimeError("a bug")

    monkeypatch.setattr(list_page, "RunPage", broken)
    client = Client(raise_request_exception=False)
    client.force_login(admin_user)
    page = client.get(LIST)
    assert page.status_code == 500
    assert "Something went wrong" in text(page)
    assert "a bug" not in text(page)


def test_the_api_answers_errors_with_json(client):
    for path in ("/runs/none", "/nowhere/of/the/api"):
        assert client.get(path).status_code in (401, 403, 404)
    answer = client.get("/v0/none", headers={"Accept": "text/html"})
    assert answer["Content-Type"].startswith("application/json")
