"""Recurring reruns: runs that are rerun on a schedule until somebody stops it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client

from graphs.auth.callers import SYSTEM
from graphs.definition import errors, redaction
from graphs.models import CronTrigger, NamespaceMembership
from runs.actions import bulk_runner, delete, recurring, retention, schedules
from runs.actions.recurring import Recurrence, repeat
from runs.core import sql
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import AuditEntry, LogLine, RecurringRerun, Run
from tests.support.api_client import ApiClient
from tests.support.concurrency import at_once
from tests.support.runs import outside

pytestmark = pytest.mark.django_db
DUE = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LIST = "/admin/run-manager/schedules/reruns/"


@pytest.fixture
def run(publish):
    return start_run(publish("a", name="g"), RunOptions(run_id="t", inputs={"x": 1}))


def every_five_minutes(run, due=DUE, **options):
    row = repeat(run, SYSTEM, Recurrence("*/5 * * * *", **options))
    RecurringRerun.objects.filter(pk=row.pk).update(next_at=due)
    return row


def reruns():
    return Run.objects.exclude(parent=None).order_by("pk")


# --- firing --------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_each_due_time_reruns_once_and_missed_ones_are_skipped(run):
    row = every_five_minutes(run)
    now = DUE + timedelta(minutes=62)
    assert sum(at_once(*(lambda: schedules.fire_due(now) for _ in range(8)))) == 1
    row.refresh_from_db()
    [rerun] = reruns()
    assert (row.next_at, row.missed, row.last_fired_at) == (DUE + timedelta(minutes=65), 12, now)
    assert (rerun.run_id, rerun.parent, rerun.initial_data) == ("t_rerun_1", run, {"x": 1})
    assert rerun.origin == {
        "how": "from the start, on the schedule */5 * * * * (UTC)",
        "trigger": "*/5 * * * * (UTC)",
        "due_at": DUE.isoformat(),
        "missed": 12,
    }
    assert "12 earlier due times" in rerun.logs.last().message
    assert schedules.fire_due(now) == 0
    assert schedules.fire_due(now + timedelta(minutes=5)) == 1
    assert [each.run_id for each in reruns()] == ["t_rerun_1", "t_rerun_2"]
    assert AuditEntry.objects.filter(action="rerun", actor="system").count() == 2


def test_the_clock_of_the_time_zone_counts(run):
    row = repeat(run, SYSTEM, Recurrence("30 9 * * *", "Asia/Kolkata"))
    assert row.next_at.astimezone(UTC).time().isoformat() == "04:00:00"


def test_the_reruns_have_the_inputs_and_the_version_that_were_asked_for(run, publish):
    publish("a>b", name="g")
    every_five_minutes(run, inputs={"x": 2}, newest=True)
    assert schedules.fire_due(DUE) == 1
    [rerun] = reruns()
    assert (rerun.initial_data, rerun.version.number) == ({"x": 2}, 2)


@pytest.mark.parametrize(
    ("author", "username"),
    [("ann", "ann"), ("key nightly", "nightly"), ("system", ""), ("command of root", "")],
)
def test_the_reruns_are_runs_of_whoever_asked_for_them(run, author, username):
    row = every_five_minutes(run)
    RecurringRerun.objects.filter(pk=row.pk).update(author=author)
    assert schedules.fire_due(DUE) == 1
    assert reruns().get().username == username


def test_the_reruns_of_an_external_run_wait_for_its_program():
    every_five_minutes(outside(run_id="t"))
    assert schedules.fire_due(DUE) == 1
    assert reruns().get().queue_entry.available_at <= sql.clock()


def test_a_rerun_that_cannot_start_keeps_its_error_and_its_schedule(run):
    row = every_five_minutes(run)
    Run.objects.update(version=None)
    assert schedules.fire_due(DUE) == 0
    row.refresh_from_db()
    assert "no version" in row.error
    assert row.next_at == DUE + timedelta(minutes=5)
    assert not reruns()


def test_a_schedule_that_breaks_is_postponed_and_the_others_fire(run, publish, monkeypatch):
    row = every_five_minutes(run)
    graph = publish("a", name="other")
    CronTrigger.objects.create(graph=graph, expression="* * * * *", next_at=DUE)
    monkeypatch.setattr(schedules, "rerun", lambda *_: 1 / 0)
    monkeypatch.setattr(schedules.log, "exception", lambda *_: None)
    assert schedules.fire_due(DUE) == 1
    row.refresh_from_db()
    assert (row.error, row.next_at) == (
        "ZeroDivisionError: division by zero",
        DUE + schedules.PAUSE_AFTER_ERROR,
    )


@pytest.mark.django_db(transaction=True)
def test_a_locked_run_waits_for_the_next_round(run):
    if connection.vendor == "sqlite":
        return  # one writer: nothing is locked while another writes
    every_five_minutes(run)
    with transaction.atomic():
        list(Run.objects.select_for_update().filter(pk=run.pk))
        assert at_once(lambda: schedules.fire_due(DUE)) == [0]
    assert schedules.fire_due(DUE) == 1


# --- pausing, changing, deleting -----------------------------------------------------------------


def test_a_paused_rerun_does_not_fire_and_makes_up_for_nothing(run):
    row = every_five_minutes(run)
    recurring.change(row, SYSTEM, enabled=False)
    RecurringRerun.objects.update(next_at=DUE)
    assert schedules.fire_due() == 0
    recurring.change(row, SYSTEM, enabled=True)
    assert row.next_at > sql.clock()
    assert schedules.fire_due() == 0
    assert not reruns()


def test_a_schedule_goes_with_its_run_and_reruns_stay(run, drain):
    drain()
    row = every_five_minutes(run)
    schedules.fire_due(DUE)
    recurring.remove(row, SYSTEM)
    assert schedules.fire_due(DUE + timedelta(days=1)) == 0
    assert reruns().count() == 1
    every_five_minutes(run)
    delete.delete_run(run)
    assert not RecurringRerun.objects.exists()
    with pytest.raises(errors.NotFound):
        repeat(run, SYSTEM, Recurrence("* * * * *"))


def test_retention_keeps_runs_that_have_a_schedule(run, drain, publish, conf):
    conf.RETENTION_DAYS = 1
    other = start_run(publish("a", name="g"), RunOptions(run_id="other"))
    drain()
    Run.objects.update(created_at=sql.clock() - timedelta(days=3))
    every_five_minutes(run)
    assert bulk_runner.run_inline(retention.delete_old()).total == 1
    assert not Run.objects.filter(pk=other.pk).exists()
    assert Run.objects.filter(pk=run.pk).exists()
    assert retention.delete_old(sql.clock() + timedelta(days=1)) is None


def test_a_namespace_has_a_limit(run, monkeypatch, make_key):
    monkeypatch.setattr(recurring, "MAX_RECURRING", 2)
    for minute in range(2):
        repeat(run, SYSTEM, Recurrence(f"{minute} * * * *"))
    with pytest.raises(errors.Conflict, match="at most 2"):
        repeat(run, SYSTEM, Recurrence("5 * * * *"))


@pytest.mark.django_db(transaction=True)
def test_the_limit_is_exact(run, monkeypatch):
    monkeypatch.setattr(recurring, "MAX_RECURRING", 3)
    made = at_once(
        *(lambda at=at: repeat(run, SYSTEM, Recurrence(f"{at} * * * *")) for at in range(8))
    )
    assert sum(isinstance(row, RecurringRerun) for row in made) == 3
    assert RecurringRerun.objects.count() == 3


def test_due_schedules_are_read_from_their_index(run):
    RecurringRerun.objects.bulk_create(
        RecurringRerun(
            run=run,
            namespace=run.namespace,
            expression=f"{at} * * * *",
            next_at=DUE,
            enabled=at == 7,
        )
        for at in range(2000)
    )
    if connection.vendor == "postgresql":
        sql.send("ANALYZE statemanager_runs_recurringrerun")
    due = RecurringRerun.objects.filter(enabled=True, next_at__lte=DUE).order_by("next_at")
    assert "sm_recurring_due" in due[:100].explain()


# --- over REST -----------------------------------------------------------------------------------


def test_a_recurring_rerun_over_rest(run, make_key):
    api = ApiClient(make_key("run", name="robot"))
    body = {"schedule": "0 6 * * 1-5", "time_zone": "Europe/Berlin", "inputs": {"password": "p"}}
    status, made = api("POST", "/rerun/t", body)
    assert status == 201, made
    assert not reruns()
    assert made == {
        **made,
        "thread_id": "t",
        "namespace": "alpha",
        "schedule": "0 6 * * 1-5",
        "time_zone": "Europe/Berlin",
        "enabled": True,
        "version": "original",
        "author": "key robot",
        "missed": 0,
        "error": None,
        "last_fired_at": None,
    }
    assert made["inputs"] == {"password": redaction.DOTS}
    path = f"/recurring-reruns/{made['id']}"
    assert api("POST", "/rerun/t", body)[0] == 409, "the same schedule again"
    assert api("GET", path) == (200, made)
    assert api("GET", "/recurring-reruns")[1] == {"recurring_reruns": [made], "next": None}
    assert api("GET", "/recurring-reruns?thread_id=u")[1]["recurring_reruns"] == []
    status, paused = api("PATCH", path, {"enabled": False})
    assert (status, paused["enabled"], paused["next_at"]) == (200, False, None)
    status, changed = api("PATCH", path, {"enabled": True, "schedule": "0 7 * * *"})
    assert (changed["schedule"], changed["enabled"]) == ("0 7 * * *", True)
    assert api("DELETE", path)[0] == 204
    assert api("GET", path)[0] == api("PATCH", path, {})[0] == api("DELETE", path)[0] == 404
    actions = AuditEntry.objects.filter(run=run.pk).order_by("pk").values_list("action", "detail")
    assert list(actions)[-4:] == [
        ("repeat_rerun", "0 6 * * 1-5 (Europe/Berlin)"),
        ("change_recurring", "0 6 * * 1-5 (Europe/Berlin), paused"),
        ("change_recurring", "0 7 * * * (Europe/Berlin)"),
        ("delete_recurring", "0 7 * * * (Europe/Berlin)"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"schedule": "every day"},
        {"schedule": ""},
        {"schedule": "0 0 30 2 *"},
        {"schedule": "0 6 * * *", "time_zone": "Berlin"},
        {"schedule": "0 6 * * *", "start_delay_ms": 5},
        {"schedule": "0 6 * * *", "from": "failed"},
        {"schedule": "0 6 * * *", "from": "node", "node": "a"},
        {"time_zone": "UTC"},
    ],
    ids=str,
)
def test_what_is_no_schedule_is_refused(run, make_key, body):
    status, answer = ApiClient(make_key("run"))("POST", "/rerun/t", body)
    assert status == 422, answer
    assert not reruns()
    assert not RecurringRerun.objects.exists()


def test_only_those_who_may_rerun_change_schedules(run, make_key):
    row = every_five_minutes(run)
    path = f"/recurring-reruns/{row.pk}"
    for scope in ("read", "worker"):
        client = ApiClient(make_key(scope))
        assert client("GET", path)[0] == 200
        assert client("POST", "/rerun/t", {"schedule": "0 6 * * *"})[0] == 403
        assert client("PATCH", path, {"enabled": False})[0] == 403
        assert client("DELETE", path)[0] == 403
    stranger = ApiClient(make_key("run", ("beta",)))
    assert stranger("GET", path)[0] == 404
    assert stranger("PATCH", path, {"enabled": False})[0] == 404
    assert stranger("DELETE", path)[0] == 404
    assert stranger("GET", "/recurring-reruns")[1]["recurring_reruns"] == []
    assert RecurringRerun.objects.get().enabled


def test_a_repeated_request_makes_one_schedule(run, make_key):
    api = ApiClient(make_key("run"))
    key = {"Idempotency-Key": "k"}
    first = api("POST", "/rerun/t", {"schedule": "0 6 * * *"}, **key)
    assert api("POST", "/rerun/t", {"schedule": "0 6 * * *"}, **key) == first
    assert RecurringRerun.objects.count() == 1


# --- on the pages --------------------------------------------------------------------------------


def test_a_recurring_rerun_from_the_page(admin_client, run):
    page = f"/admin/run-manager/rerun/{run.pk}/"
    assert 'name="expression"' in admin_client.get(page).content.decode()
    form = {"from": "start", "expression": "0 6 * * *", "time_zone": "Europe/Berlin", "asked": "k"}
    answer = admin_client.post(page, {**form, "expression": "nonsense"})
    assert answer.status_code == 422
    assert "not a valid cron expression" in answer.content.decode()
    answer = admin_client.post(page, {**form, "at": "2030-01-01T00:00"})
    assert answer.status_code == 422
    answer = admin_client.post(page, form)
    assert (answer.status_code, answer.url) == (302, LIST)
    assert not reruns()

    row = RecurringRerun.objects.get()
    text = admin_client.get(LIST).content.decode()
    assert "0 6 * * * (Europe/Berlin)" in text
    lineage = admin_client.get(f"/admin/run-manager/run/{run.pk}/lineage/").content.decode()
    assert f"{LIST}?run={run.pk}" in lineage
    assert "0 6 * * *" not in admin_client.get(f"{LIST}?run=0").content.decode()
    assert admin_client.post(f"{LIST}{row.pk}/pause/").status_code == 302
    assert "paused" in admin_client.get(LIST).content.decode()
    admin_client.post(f"{LIST}{row.pk}/resume/")
    assert RecurringRerun.objects.get().enabled
    admin_client.post(f"{LIST}{row.pk}/delete/")
    assert not RecurringRerun.objects.exists()
    assert "No run is rerun on a schedule" in admin_client.get(LIST).content.decode()


def test_a_viewer_sees_schedules_without_their_buttons(run, namespace):
    row = every_five_minutes(run, inputs={"x": "secret input"})
    RecurringRerun.objects.update(error="a secret error")
    user = User.objects.create_user("ann", is_staff=True)
    NamespaceMembership.objects.create(namespace=namespace, user=user, role="viewer")
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    text = client.get(LIST).content.decode()
    assert "*/5 * * * *" in text
    assert "secret" not in text
    assert "Pause" not in text
    assert client.post(f"{LIST}{row.pk}/delete/").status_code == 403
    assert RecurringRerun.objects.exists()


def test_the_log_of_the_rerun_says_why_it_started(run):
    every_five_minutes(run)
    schedules.fire_due(DUE)
    message = LogLine.objects.filter(run=reruns().get()).last().message
    assert message == (
        "Rerun #1 of t, from the start, on the schedule */5 * * * * (UTC), requested by system"
    )
