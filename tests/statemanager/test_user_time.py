"""Times on pages are in the zone of the user, and the REST API answers in UTC."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from graphs.models import UserTimeZone
from graphs.web import formats
from runs.actions import bulk_runner
from runs.models import AuditEntry, BulkOperation, Run

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
LIST = "/admin/run-manager/"
ACCOUNT = "/admin/access/"
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


@pytest.fixture
def run(run_graph):
    run = run_graph("a")
    Run.objects.filter(pk=run.pk).update(created_at=NOON)
    return run


def shown(client):
    """The time of the only run in the list."""
    page = client.get(LIST).content.decode()
    return page.partition("<tbody")[2].partition("<time ")[2].partition("</time>")[0]


def test_times_are_in_the_zone_of_the_browser(admin_client, run):
    assert shown(admin_client).endswith(">2026-01-15 12:00")
    admin_client.cookies["browser_time_zone"] = "Pacific/Apia"
    time = shown(admin_client)
    assert time.endswith(">2026-01-16 01:00")
    assert 'title="2026-01-16 01:00:00.000 +13 (Pacific/Apia)"' in time
    assert 'datetime="2026-01-15T12:00:00.000+00:00"' in time


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "UTC\x00", "x" * 5000])
def test_a_zone_that_is_none_is_ignored(admin_client, run, name):
    admin_client.cookies["browser_time_zone"] = name
    assert shown(admin_client).endswith(">2026-01-15 12:00")


def test_a_user_chooses_a_zone_for_every_browser(run):
    ann = User.objects.create_superuser("ann", password=PASSWORD)
    client = Client()
    client.force_login(ann)
    answer = client.post(ACCOUNT, {"time_zone": " Asia/Kolkata "}, follow=True)
    assert "Times are shown in Asia/Kolkata." in answer.content.decode()
    assert shown(client).endswith(">2026-01-15 17:30")
    assert AuditEntry.objects.get(action="set_time_zone").detail == "Asia/Kolkata"

    other = Client()
    other.cookies["browser_time_zone"] = "Europe/Berlin"
    other.post("/admin/login/", {"username": "ann", "password": PASSWORD})
    assert shown(other).endswith(">2026-01-15 17:30")
    other.post(ACCOUNT, {"time_zone": ""})
    assert shown(other).endswith(">2026-01-15 13:00")
    assert not UserTimeZone.objects.exists()


def test_an_unknown_zone_is_refused_in_words(admin_client):
    answer = admin_client.post(ACCOUNT, {"time_zone": "CEST"}, follow=True).content.decode()
    assert "&#x27;CEST&#x27; is not a time zone; use a name like Europe/Berlin." in answer
    assert 'class="error"' in answer
    assert not UserTimeZone.objects.exists()


def test_the_api_answers_in_utc_also_below_the_pages(admin_client, run):
    admin_client.cookies["browser_time_zone"] = "Asia/Kolkata"
    for path in (f"/runs/{run.run_id}", f"{LIST}runs", f"{LIST}run/{run.pk}/bundle.json"):
        answer = admin_client.get(path)
        text = b"".join(answer) if answer.streaming else answer.content
        assert b"2026-01-15T12:00:00" in text, path
        assert b"+05:30" not in text, path


def test_a_filter_means_the_zone_of_the_user_also_when_a_worker_reads_it(admin_client, run):
    """The run is of 12:00 UTC, which is 17:30 in Kolkata."""
    admin_client.cookies["browser_time_zone"] = "Asia/Kolkata"
    query = "created_after=2026-01-15T17:00&created_before=2026-01-15T18:00"
    assert run.run_id in admin_client.get(f"{LIST}?{query}").content.decode()
    earlier = query.replace("T17:00", "T11:30").replace("T18:00", "T12:30")
    assert run.run_id not in admin_client.get(f"{LIST}?{earlier}").content.decode()

    form = {"back": f"{LIST}?{query}", "all": "1"}
    question = admin_client.post(f"{LIST}bulk/archive/", form).content.decode()
    [shown_runs] = re.findall(r'name="shown" value="([^"]+)"', question)
    admin_client.post(f"{LIST}bulk/archive/", {**form, "confirmed": "1", "shown": shown_runs})
    operation = BulkOperation.objects.get()
    assert operation.query == {
        "created_after": ["2026-01-15T17:00:00+05:30"],
        "created_before": ["2026-01-15T18:00:00+05:30"],
    }
    bulk_runner.run_waiting()
    assert Run.objects.get(pk=run.pk).archived_at


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(), "now"),
        (timedelta(milliseconds=300), "now"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(minutes=59, seconds=59), "59 min ago"),
        (timedelta(hours=23, minutes=59), "23 h ago"),
        (timedelta(minutes=-5), "in 5 min"),
        (timedelta(seconds=-3), "now"),  # by the clock of another host
    ],
)
def test_times_of_less_than_a_day_are_relative(age, text):
    assert formats.relative(age) == text


def test_a_time_of_a_day_ago_is_a_date():
    now = timezone.now()
    assert ">23 h ago<" in formats.moment(now - timedelta(hours=23, minutes=30))
    assert f">{now - timedelta(hours=25):%Y-%m-%d %H:%M}<" in formats.moment(
        now - timedelta(hours=25)
    )
    assert "data-relative" not in formats.moment(now, "%H:%M:%S")
