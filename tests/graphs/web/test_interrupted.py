"""A form that was sent after its session had ended is sent again after the login."""

import re
from html import unescape
from urllib.parse import urlencode

import pytest
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from graphs.web import interrupted
from runs.engine.start import start_run
from runs.models import BulkOperation, Run
from tests.support.pages import LIST, page_of, text

pytestmark = pytest.mark.django_db
RERUN = "/admin/run-manager/bulk/rerun/"
AGAIN = "/admin/send-again/"


def send(client, address, data, **headers):
    """Send a form as browsers do."""
    body = urlencode({"csrfmiddlewaretoken": "x", **data}, doseq=True)
    return client.post(
        address, body, content_type="application/x-www-form-urlencoded", headers=headers
    )


def login_page(response):
    """Where the login page, to which the response redirects, leads."""
    assert response.status_code == 302
    path, _, query = response["Location"].partition("?next=")
    assert path == reverse("admin:login")
    return query


def fields_of(page):
    """(address, [(name, value)]) of the form on the page."""
    html = page.content.decode()
    form = html[html.index('<form method="post" action="/admin/run-manager/') :]
    address = unescape(re.search(r'action="([^"]*)"', form)[1])
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', form)
    return address, [(name, unescape(value)) for name, value in fields if "csrf" not in name]


def test_a_selection_is_not_lost_when_the_session_ends(client, admin_user, publish):
    runs = [start_run(publish("a")) for _ in range(3)]
    chosen = [str(run.pk) for run in runs[:2]]
    back = f"{LIST}?status=queued"
    sent = send(client, RERUN, {"run": chosen, "back": back})
    assert login_page(sent) == AGAIN
    assert not BulkOperation.objects.exists()

    client.force_login(admin_user)
    page = client.get(AGAIN)
    assert "nothing has been changed" in text(page)
    assert f'href="{back}"' in text(page)
    address, fields = fields_of(page)
    assert address == RERUN
    assert sorted(fields) == sorted([("run", pk) for pk in chosen] + [("back", back)])
    data = {"run": [value for name, value in fields if name == "run"], "back": back}
    assert "Rerun 2 runs?" in text(client.post(address, data))
    again = client.get(AGAIN)
    assert again.status_code == 302, "the cookie is gone"


def test_pages_that_only_take_posts_are_never_asked_for_by_the_login(client, publish):
    run = start_run(publish("a"))
    cancelled = send(client, f"/admin/run-manager/run/{run.pk}/cancel/", {})
    assert login_page(cancelled) == AGAIN
    assert login_page(client.get(page_of(run))) == page_of(run)


@pytest.mark.parametrize(
    "data",
    [
        {"run": [str(n * 791_919_191) for n in range(900)]},
        {"new_password": "secret"},
        {"file": SimpleUploadedFile("t.csv", b"a\n1\n")},
    ],
    ids=["large", "secret", "file"],
)
def test_what_cannot_be_kept_leads_back_to_its_page(client, data):
    address = f"{LIST}?status=failed"
    headers = {"Referer": f"http://testserver{address}"}
    if "file" in data:
        sent = client.post(RERUN, data, headers=headers)
    else:
        sent = send(client, RERUN, {**data, "back": address}, **headers)
    assert login_page(sent) == "/admin/run-manager/%3Fstatus%3Dfailed"
    assert interrupted.COOKIE not in sent.cookies
    [message] = get_messages(sent.wsgi_request)
    assert "nothing was changed" in str(message)


@pytest.mark.parametrize(
    ("referer", "origin"),
    [
        ("http://testserver/admin/run-manager/?status=failed", "/admin/run-manager/?status=failed"),
        ("http://elsewhere.example/admin/run-manager/", "/admin/"),
        ("http://testserver/schema", "/admin/"),
        ("", "/admin/"),
    ],
)
def test_the_way_back_leads_to_an_own_page(client, admin_user, publish, referer, origin):
    run = start_run(publish("a"))
    address = f"/admin/run-manager/run/{run.pk}/cancel/"
    send(client, address, {}, **({"Referer": referer} if referer else {}))
    client.force_login(admin_user)
    assert f'href="{unescape(origin)}" class="rm-cancel"' in text(client.get(AGAIN))


def test_a_forged_cookie_is_not_sent(client, admin_user):
    client.force_login(admin_user)
    client.cookies[interrupted.COOKIE] = "W10:forged:forged"
    assert client.get(AGAIN).status_code == 302


def test_it_is_sent_with_the_rights_of_who_logs_in(client, django_user_model, publish):
    run = start_run(publish("a"))
    send(client, f"/admin/run-manager/run/{run.pk}/cancel/", {})
    client.force_login(django_user_model.objects.create_user("nobody", is_staff=True))
    assert client.get(AGAIN).status_code == 302, "who sees no runs is led home"
    assert Run.objects.get(pk=run.pk).status == "queued"
