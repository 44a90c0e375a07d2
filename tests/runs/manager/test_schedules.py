"""The schedules of graphs: their page, their form and their API."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.models import CronTrigger, NamespaceMembership
from runs.actions import graph_schedules, schedules
from runs.core import sql
from runs.models import Run, RunTemplate
from tests.support.api_client import ApiClient
from tests.support.concurrency import at_once
from tests.support.pages import LIST, text

pytestmark = pytest.mark.django_db
PAGE = f"{LIST}schedules/"


@pytest.fixture
def api(make_key):
    return ApiClient(make_key("run"))


@pytest.fixture
def graph(publish):
    return publish("a", name="orders")


def test_an_hourly_schedule_is_added_with_few_clicks(admin_client, graph):
    assert f'href="{PAGE}?graph={graph.pk}"' in text(admin_client.get("/admin/flow/"))
    page = text(admin_client.get(f"{PAGE}?graph={graph.pk}"))
    assert "This graph is not started on a schedule." in page
    link = f"{PAGE}new/?graph={graph.pk}"
    assert f'href="{link}"' in page
    form = text(admin_client.get(link))
    assert '<option value="hour" selected>Every hour</option>' in form
    assert f'<option value="{graph.pk}" selected>' in form

    sent = {"graph": graph.pk, "every": "hour", "minute": "0", "time_zone": "Europe/Berlin"}
    page = text(admin_client.post(f"{PAGE}new/", sent, follow=True))
    assert "every hour at :00" in page
    [schedule] = CronTrigger.objects.all()
    assert (schedule.expression, schedule.time_zone) == ("0 * * * *", "Europe/Berlin")
    assert sql.clock() < schedule.next_at <= sql.clock() + timedelta(hours=1)


@pytest.mark.parametrize(
    ("sent", "expression"),
    [
        ({"every": "minutes", "minutes": "1"}, "* * * * *"),
        ({"every": "minutes", "minutes": "15"}, "*/15 * * * *"),
        ({"every": "minutes"}, "*/5 * * * *"),
        ({"every": "hour", "minute": "30", "at": "07:45"}, "30 * * * *"),
        ({"every": "day", "at": "07:45", "minute": "3"}, "45 7 * * *"),
        ({"every": "weekdays", "at": "00:00"}, "0 0 * * 1-5"),
        ({"every": "week", "at": "23:59", "weekday": "0"}, "59 23 * * 0"),
        ({"every": "month", "at": "06:00", "day": "28"}, "0 6 28 * *"),
        ({"every": "cron", "expression": "1,2 3 4 5 6"}, "1,2 3 4 5 6"),
    ],
)
def test_the_form_makes_an_expression_and_shows_it_again(admin_client, graph, sent, expression):
    form = {"graph": graph.pk, "time_zone": "UTC", **sent}
    assert admin_client.post(f"{PAGE}new/", form).status_code == 302
    schedule = CronTrigger.objects.get()
    assert schedule.expression == expression
    page = text(admin_client.get(f"{PAGE}{schedule.pk}/"))
    assert f'<option value="{sent["every"]}" selected>' in page


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ({"every": "cron", "expression": "never"}, "needs five fields"),
        ({"every": "cron", "expression": ""}, "needs five fields"),
        ({"every": "cron", "expression": "0 0 30 2 *"}, "is not a valid cron expression"),
        ({"every": "day", "at": "6 o'clock"}, "Enter a valid time."),
        ({"every": "hour", "minute": "60"}, "less than or equal to 59"),
        ({"every": "month", "day": "29", "at": "06:00"}, "less than or equal to 28"),
        ({"every": "hour", "time_zone": "Mars/Base"}, "is not a time zone"),
        ({"every": "yearly"}, "Select a valid choice."),
        ({"every": "hour", "graph": "999999"}, "Select a valid choice."),
    ],
)
def test_a_wrong_schedule_is_refused_in_words(admin_client, graph, sent, problem):
    form = {"graph": graph.pk, "time_zone": "UTC", **sent}
    response = admin_client.post(f"{PAGE}new/", form)
    assert response.status_code == 422
    assert problem in text(response)
    assert not CronTrigger.objects.exists()


def test_the_next_times_are_shown_before_it_is_saved(admin_client, graph):
    query = {"every": "day", "at": "06:00", "time_zone": "Asia/Tokyo"}
    part = text(admin_client.get(f"{PAGE}times/", query))
    assert part.count("<li>") == 5
    assert part.count("06:00 JST") == 5
    sent = {"graph": graph.pk, "preview": "1", **query}
    page = text(admin_client.post(f"{PAGE}new/", sent))
    assert page.count("06:00 JST") == 5
    assert not CronTrigger.objects.exists()
    wrong = text(admin_client.get(f"{PAGE}times/", {**query, "time_zone": "Mars"}))
    assert "is not a time zone" in wrong


def test_a_schedule_is_paused_resumed_changed_run_and_deleted(admin_client, graph):
    schedule = graph_schedules.add(graph, SYSTEM, "0 5 * * *")
    CronTrigger.objects.update(next_at=sql.clock() - timedelta(hours=1), error="it broke")
    url = f"{PAGE}{schedule.pk}/"
    page = text(admin_client.post(f"{url}pause/", follow=True))
    assert ">paused<" in page
    assert schedules.fire_due() == 0

    admin_client.post(f"{url}resume/")
    schedule.refresh_from_db()
    assert (schedule.enabled, schedule.error) == (True, "")
    assert schedules.fire_due() == 0, "what was due meanwhile is not made up for"

    sent = {"every": "week", "weekday": "1", "at": "09:30", "time_zone": "UTC"}
    page = text(admin_client.post(url, sent, follow=True))
    assert "every Monday at 09:30" in page

    page = text(admin_client.post(f"{url}run/", follow=True))
    run = Run.objects.get()
    assert f"{run} was started." in page
    assert (run.graph, run.trigger, run.username) == (graph, "schedule", "admin")
    assert run.metadata["trigger"] == "30 9 * * 1 (UTC)"

    admin_client.post(f"{url}delete/")
    assert not CronTrigger.objects.exists()
    assert admin_client.post(f"{url}delete/").status_code == 404


def test_a_change_keeps_what_fired_meanwhile(graph):
    schedule = graph_schedules.add(graph, SYSTEM, "0 5 * * *")
    CronTrigger.objects.update(last_fired_at=sql.clock(), missed=3)
    graph_schedules.change(schedule, SYSTEM, expression="0 6 * * *")
    schedule.refresh_from_db()
    assert schedule.missed == 3
    assert schedule.last_fired_at


def test_who_may_not_start_runs_sees_the_schedules_only(graph, namespace):
    schedule = graph_schedules.add(graph, SYSTEM, "0 5 * * *")
    CronTrigger.objects.update(error="input x is 5")
    user = User.objects.create_user("viewer", is_staff=True)
    NamespaceMembership.objects.create(namespace=namespace, user=user, role="viewer")
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    page = text(client.get(PAGE))
    assert "every day at 05:00" in page
    assert "input x" not in page
    assert "New schedule" not in page
    assert f"{PAGE}{schedule.pk}/" not in page
    for url in (f"{PAGE}new/", f"{PAGE}{schedule.pk}/"):
        assert client.get(url).status_code == 403


def test_templates_and_reruns_have_tabs(admin_client, graph, namespace):
    template = RunTemplate.objects.create(
        namespace=namespace,
        name="nightly",
        graph=graph,
        expression="0 1 * * *",
        next_at=sql.clock(),
    )
    RunTemplate.objects.create(namespace=namespace, name="by hand", graph=graph)
    page = text(admin_client.get(f"{PAGE}templates/"))
    assert f"/templates/{template.pk}/" in page
    assert "every day at 01:00" in page
    assert "by hand" not in page
    for path in ("", "templates/", "reruns/"):
        assert f'href="{PAGE}reruns/"' in text(admin_client.get(f"{PAGE}{path}"))


# --- the API -------------------------------------------------------------------------------------


def test_the_api_adds_changes_runs_and_deletes(api, graph):
    body = {"graph_id": graph.pk, "schedule": "0 6 * * *", "time_zone": "Europe/Berlin"}
    status, made = api("POST", "/schedules", body)
    assert status == 201
    assert made["graph"] == "orders"
    assert made["error"] is None
    assert datetime.fromisoformat(made["next_at"]) > datetime.now(UTC)
    assert api("POST", "/schedules", body)[0] == 409
    assert api("GET", f"/schedules/{made['id']}") == (200, made)

    path = f"/schedules/{made['id']}"
    status, paused = api("PATCH", path, {"enabled": False})
    assert (status, paused["enabled"], paused["next_at"]) == (200, False, None)
    status, changed = api("PATCH", path, {"enabled": True, "schedule": "*/5 * * * *"})
    assert (status, changed["schedule"], changed["time_zone"]) == (
        200, "*/5 * * * *", "Europe/Berlin",
    )  # fmt: skip
    status, run = api("POST", f"{path}/run")
    assert status == 200
    assert Run.objects.get().run_id == run["id"]
    assert api("DELETE", path)[0] == 204
    assert api("GET", path)[0] == 404


def test_the_api_lists_by_graph_and_namespace(api, graph, publish, namespace):
    other = publish("a", name="other")
    for each in (graph, other):
        graph_schedules.add(each, SYSTEM, "0 5 * * *")
    for query, number in (
        ("", 2), (f"?graph_id={graph.pk}", 1), (f"?namespace={namespace.name}", 2),
        ("?namespace=no", 0),
    ):  # fmt: skip
        assert len(api("GET", f"/schedules{query}")[1]["schedules"]) == number, query
    assert api("GET", "/schedules?graph_id=999999")[0] == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"schedule": "never"}, 422),
        ({"schedule": "0 5 * * *", "time_zone": "Mars"}, 422),
        ({"schedule": "0 5 * * *", "enabled": "yes"}, 422),
        ({"schedule": "0 5 * * *", "graph_id": 999999}, 404),
        ({"schedule": "0 5 * * *", "every": "day"}, 422),
    ],
)
def test_the_api_refuses_what_is_no_schedule(api, graph, body, status):
    assert api("POST", "/schedules", {"graph_id": graph.pk, **body})[0] == status
    assert not CronTrigger.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_graph_has_a_limit_of_schedules(graph, monkeypatch):
    monkeypatch.setattr(graph_schedules, "MAX_SCHEDULES", 3)

    def add(minute):
        try:
            graph_schedules.add(graph, SYSTEM, f"{minute} * * * *")
        except errors.Conflict as error:
            assert "at most 3" in str(error)
            return 0
        return 1

    assert sum(at_once(*(lambda at=at: add(at) for at in range(6)))) == 3
    assert CronTrigger.objects.count() == 3
