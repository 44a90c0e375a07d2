"""The page of a session."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from graphs.models import Namespace, NamespaceMembership
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside
from runs.models import Run
from tests.support.api_client import ApiClient
from tests.support.pages import LIST, page_of, text

pytestmark = pytest.mark.django_db
SESSION = "a & b/ü"


@pytest.fixture
def session(namespace):
    """Three runs of a session, one of them in another namespace, and one of no session."""
    other = Namespace.objects.create(name="beta")
    for name, where, of in (
        ("first", namespace, SESSION),
        ("hidden", other, SESSION),
        ("second", namespace, SESSION),
        ("alone", namespace, ""),
    ):
        start_outside(where, RunOptions(run_id=name, session_id=of))
    return Run.objects.get(run_id="first")


def test_a_run_leads_to_the_runs_of_its_session_in_order(admin_client, session):
    link = f"{LIST}session/?id=a%20%26%20b/%C3%BC"
    assert f'href="{link}"' in text(admin_client.get(page_of(session)))
    page = text(admin_client.get(link))
    places = [page.index(f"<bdi>{name}</bdi>") for name in ("first", "hidden", "second")]
    assert places == sorted(places)
    assert "<bdi>alone</bdi>" not in page


def test_runs_without_a_session_are_no_session(admin_client, session):
    for query in ("", "?id=", "?id=nobody"):
        assert "No run that you may see" in text(admin_client.get(f"{LIST}session/{query}"))


def test_a_session_shows_only_what_one_may_see(session, namespace):
    user = User.objects.create_user("ann", is_staff=True)
    NamespaceMembership.objects.create(namespace=namespace, user=user, role="viewer")
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    page = text(client.get(f"{LIST}session/", {"id": SESSION}))
    assert "<bdi>second</bdi>" in page
    assert "<bdi>hidden</bdi>" not in page


def test_the_runs_of_a_session_are_a_filter_of_every_list(make_key, session):
    api = ApiClient(make_key("read"))
    _, answer = api("GET", "/runs?session=a%20%26%20b/%C3%BC&ordering=time")
    assert [run["id"] for run in answer["runs"]] == ["first", "second"]


def test_the_runs_of_a_session_are_read_from_an_index(session, namespace):
    Run.objects.bulk_create(Run(namespace=namespace, run_id=f"r{at}") for at in range(2000))
    runs = Run.objects.exclude(session_id="").filter(session_id=SESSION)
    assert "run_of_session" in runs.order_by("created_at", "id").explain()
