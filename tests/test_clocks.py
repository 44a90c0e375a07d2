"""Hosts' clocks are wrong: what another host wrote is compared with the database's clock."""

import ast
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from graphs.auth import api_keys, login_records
from graphs.auth.callers import SYSTEM
from graphs.models import ApiKey, CronTrigger, IdempotencyKey, clock, idempotency
from runs.actions import bulk_runner, delete, retention, run_templates
from runs.core import sql
from runs.engine import claim, wakeup
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.health import doctor, stored_files
from runs.models import BulkOperation, Cluster, Run, RunTemplate, State, Tombstone
from runs.queries.dashboard import overview
from runs.queries.wait_reasons import why_waiting

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_storage")]
ROOT = Path(__file__).parents[1]
SKEWS = pytest.mark.parametrize("hours", [3, -1, -24, 24 * 400], ids="{:+} h".format)


# Names by which libraries have imported `now`.
OTHER_NAMES = (
    "rest_framework_simplejwt.tokens.aware_utcnow",
    "axes.handlers.proxy.now",
    "axes.attempts.now",
)


@pytest.fixture
def skew(monkeypatch):
    """Sets the clock of this process wrong by some hours."""
    real_now, real_time = timezone.now, time.time

    def set_wrong(hours):
        def wrong(tz=None):
            return real_now() + timedelta(hours=hours)

        monkeypatch.setattr(timezone, "now", wrong)
        monkeypatch.setattr(time, "time", lambda: real_time() + 3600 * hours)
        for name in OTHER_NAMES:
            monkeypatch.setattr(name, wrong)
        monkeypatch.setattr("jwt.api_jwt.datetime", type("Wrong", (datetime,), {"now": wrong}))

    return set_wrong


@pytest.fixture
def later(monkeypatch):
    """Lets time go by: the database's clock, and that of each host."""
    estimate = clock.estimate

    def pass_by(**time):
        monkeypatch.setattr(clock, "estimate", lambda: estimate() + timedelta(**time))

    return pass_by


def ago(**age):
    return sql.clock() - timedelta(**age)


def errors():
    """What doctor finds, apart from the wrong clock itself."""
    return [each.message for each in doctor.examine() if "clock of this host" not in each.message]


@SKEWS
def test_a_cluster_lives_by_the_databases_clock(client, admin_client, skew, hours):
    cluster = Cluster.objects.create(
        name="one", host="here", pid=1, workers=2, started_at=ago(days=1)
    )
    Cluster.objects.update(seen_at=ago(seconds=1))
    skew(hours)
    assert errors() == []
    assert client.get("/readyz").status_code == 200
    assert [each.name for each in overview(SYSTEM).clusters] == ["one"]

    Cluster.objects.update(seen_at=ago(minutes=30))
    assert errors() == [
        "No cluster is running, so nothing is executed."
        f" The last one, {cluster.name}, was seen 30 min ago."
    ]
    assert client.get("/readyz").status_code == 503


def test_the_pages_of_health_use_the_databases_clock(admin_client, skew):
    Cluster.objects.create(name="one", host="here", pid=1, workers=2, seen_at=ago(seconds=1))
    skew(3)
    page = admin_client.get("/admin/run-manager/health/").content.decode()
    assert "No cluster is running" not in page
    said = [
        finding["said"]
        for finding in admin_client.get("/admin/run-manager/doctor").json()["findings"]
    ]
    assert len(said) == 1
    assert "s ahead of the database's" in said[0]


@SKEWS
def test_leases_and_waiting_states_are_judged_by_the_databases_clock(publish, skew, hours):
    Cluster.objects.create(name="one", host="here", pid=1, workers=2, seen_at=ago(seconds=1))
    run = start_run(publish("a"))
    BulkOperation.objects.create(
        action="delete", query={}, status="running", lease_expires_at=ago(minutes=-2)
    )
    skew(hours)
    assert errors() == []
    assert not [reason for reason in why_waiting(run) if "ready" in reason]
    claim.claim("w", [claim.Group(["noop"], 1)], 30, claim.FactsCache())
    assert errors() == []
    assert overview(SYSTEM).stuck == 0
    assert "Its lease is over" not in " ".join(why_waiting(run))

    State.objects.update(lease_expires_at=ago(minutes=10))
    BulkOperation.objects.update(lease_expires_at=ago(minutes=10))
    assert {message.partition(":")[0] for message in errors()} == {
        "Expired leases that were not recovered",
        "Bulk operations that have lost their runner",
    }
    assert "Its lease is over" in " ".join(why_waiting(run))


@SKEWS
def test_a_file_is_not_older_because_a_clock_is_wrong(skew, hours):
    """Without its row: the transaction of the upload may not have ended."""
    file = default_storage.save("datasets/1/new.csv", ContentFile(b"a\n1\n"))
    skew(hours)
    assert not stored_files.is_old(file)

    long_ago = (datetime.now(UTC) - timedelta(days=30)).timestamp()
    os.utime(default_storage.path(file), (long_ago, long_ago))
    assert stored_files.is_old(file)


@SKEWS
def test_nothing_is_kept_for_too_short_or_too_long(
    publish, namespace, conf, skew, hours, run_graph
):
    conf.RETENTION_DAYS = 30
    young, old = run_graph("a"), run_graph("a", name="other")
    Run.objects.filter(pk=young.pk).update(created_at=ago(days=29))
    export = BulkOperation.objects.create(
        action="export", query={}, status="done", file="f", finished_at=ago(hours=23)
    )
    key = IdempotencyKey.objects.create(caller="c", key="k", created_at=ago(hours=23))
    Tombstone.objects.create(
        run=1, run_id="gone", namespace=namespace, actor="a", at=ago(hours=1), files=False
    )
    skew(hours)
    assert retention.delete_old() is None
    assert bulk_runner.forget_files() == 0
    idempotency.forget_old()
    delete.sweep()
    assert IdempotencyKey.objects.exists()
    assert Tombstone.objects.exists()

    Run.objects.filter(pk=old.pk).update(created_at=ago(days=32))
    BulkOperation.objects.filter(pk=export.pk).update(finished_at=ago(hours=25))
    IdempotencyKey.objects.filter(pk=key.pk).update(created_at=ago(hours=25))
    Tombstone.objects.update(at=sql.clock() - delete.TOMBSTONE_AGE - timedelta(hours=1))
    assert retention.delete_old() is not None
    assert bulk_runner.forget_files() == 1
    idempotency.forget_old()
    delete.sweep()
    assert not IdempotencyKey.objects.exists()
    assert not Tombstone.objects.exists()


@SKEWS
def test_hints_are_as_old_as_the_database_says(publish, skew, hours):
    wakeup.hint()
    skew(hours)
    age = wakeup.oldest_hint()
    assert age is not None
    assert timedelta() <= age < timedelta(minutes=1)
    wakeup.prune()
    assert wakeup.waiting_hints() == 1


@SKEWS
def test_keys_expire_by_the_databases_clock(make_key, skew, hours):
    text = make_key("run")
    ApiKey.objects.update(expires_at=ago(minutes=-10))
    skew(hours)
    assert api_keys.find_key(text) is not None
    api_keys.forget()
    ApiKey.objects.update(expires_at=ago(minutes=10))
    assert api_keys.find_key(text) is None


def test_hosts_with_different_clocks_share_a_keys_limit(make_key, skew):
    text = make_key("run")
    ApiKey.objects.update(per_minute=2)
    key = api_keys.find_key(text)
    waits: list[bool] = []
    before = None
    while before != clock.now().minute:  # all four requests are within one minute
        before = clock.now().minute
        ApiKey.objects.update(minute_count=0)
        waits = []
        for hours in (0, 3, -1, 0):
            skew(hours)
            waits.append(api_keys.admit(key) > 0)
    assert waits == [False, False, True, True]


@SKEWS
def test_schedules_have_their_next_time_by_the_databases_clock(publish, namespace, skew, hours):
    graph = publish("a")
    skew(hours)
    template = RunTemplate(namespace=namespace, name="t", graph=graph, expression="*/5 * * * *")
    run_templates.save(template, SYSTEM)
    assert timedelta() < template.next_at - sql.clock() <= timedelta(minutes=5)
    assert not CronTrigger.objects.exists()


@SKEWS
def test_a_delay_lasts_as_long_when_another_host_ends_it(publish, drain, skew, hours):
    graph = publish("wait", kinds={"wait": "delay"}, inputs={"wait": {"seconds": 600}})
    run = start_run(graph, RunOptions())
    drain()
    State.objects.filter(run=run).update(due_at=ago(seconds=1), claim_at=ago(seconds=1))
    skew(hours)  # the host that looks at it again
    drain()
    state = State.objects.get(run=run)
    assert state.status == "CREATED"
    assert timedelta(minutes=9) < state.due_at - sql.clock() <= timedelta(minutes=10)


PASSWORD = "correct horse battery"
LIST = "/admin/run-manager/"


@pytest.fixture
def ann(settings):
    settings.AXES_ENABLED = True
    settings.AXES_FAILURE_LIMIT = 3
    return User.objects.create_superuser("ann", password=PASSWORD)


def post(path, **body):
    return Client().post(path, body, content_type="application/json")


def accepted(access):
    headers = {"Authorization": f"Bearer {access}"}
    status = Client().get("/admin/run-manager/runs", headers=headers).status_code
    assert status in (200, 401)
    return status == 200


@SKEWS
def test_tokens_last_as_long_on_every_host(ann, skew, later, hours):
    tokens = post("/token", username="ann", password=PASSWORD).json()
    skew(hours)
    assert accepted(tokens["access"])
    fresh = post("/token/refresh", refresh=tokens["refresh"]).json()
    assert accepted(fresh["access"])
    later(minutes=14)
    assert accepted(tokens["access"])
    later(minutes=16)
    assert not accepted(tokens["access"])
    assert not accepted(fresh["access"])
    later(hours=23)
    assert accepted(post("/token/refresh", refresh=fresh["refresh"]).json()["access"])
    later(hours=25)
    assert post("/token/refresh", refresh=fresh["refresh"]).status_code == 401


@SKEWS
def test_a_revoked_token_is_refused_after_its_row_is_gone(ann, skew, later, monkeypatch, hours):
    refresh = post("/token", username="ann", password=PASSWORD).json()["refresh"]
    assert post("/token/revoke", refresh=refresh).status_code == 200
    later(hours=25)
    monkeypatch.setattr(clock, "now", clock.estimate)
    login_records.forget_old()
    assert not OutstandingToken.objects.exists()
    skew(hours)
    assert post("/token/refresh", refresh=refresh).status_code == 401


@SKEWS
def test_pauses_after_failed_logins_last_as_long_on_every_host(ann, skew, later, hours):
    def statuses(*passwords):
        answers = [post("/token", username="ann", password=password) for password in passwords]
        return [answer.status_code for answer in answers]

    assert statuses("wrong", "wrong", "wrong") == [401, 401, 429]
    skew(hours)
    assert statuses(PASSWORD) == [429]
    later(minutes=10)
    assert statuses(PASSWORD) == [200]


@SKEWS
def test_a_session_is_idle_by_the_databases_clock(ann, skew, later, settings, hours):
    """Its cookie lasts two weeks by the host's clock."""
    settings.SESSION_IDLE_MINUTES = 30
    client = Client()
    login = {"username": "ann", "password": PASSWORD}
    assert client.post("/admin/login/", login).status_code == 302
    skew(min(hours, 3))
    later(minutes=29)
    assert client.get(LIST).status_code == 200
    later(minutes=58)
    assert client.get(LIST).status_code == 200
    later(minutes=90)
    assert client.get(LIST).status_code == 302


def test_the_estimate_asks_the_database_once_a_minute(django_assert_num_queries, monkeypatch):
    monkeypatch.setattr(clock, "_asked", None)
    with django_assert_num_queries(1):
        estimates = [clock.estimate() for _ in range(100)]
    assert estimates == sorted(estimates)
    assert abs(clock.now() - estimates[-1]) < timedelta(seconds=5)
    monkeypatch.setattr(clock, "ASK_EVERY", 0.0)
    with django_assert_num_queries(2):
        clock.estimate()
        clock.estimate()


CLOCKS_OF_A_HOST = ("timezone.now", "time", "time.time", "datetime.now")

# Modules that write down when something happened, and compare nothing with it.
RECORDERS = {
    "graphs/admin/graphs.py",
    "graphs/auth/api_keys.py",
    "graphs/services/publish.py",
    "graphs/services/secrets.py",
    "graphs/services/worker_registration.py",
    "graphs/web/formats.py",  # shows how long something has taken so far
    "runs/actions/annotate.py",
    "runs/actions/partial_rerun.py",
    "runs/actions/run_templates.py",  # in the name of a run
    "runs/api/v0/reports.py",
    "runs/engine/answer.py",
    "runs/engine/count_outcomes.py",
    "runs/engine/node_context.py",
    "runs/engine/wakeup.py",  # when a task was sent, which django-q2 notes of one that fails
    "runs/external/rows.py",
    "runs/external/run_state.py",
    "runs/health/exosphere_row.py",
    "runs/health/import_exosphere.py",
    "runs/health/probes.py",  # compares the clock of the host with the database's
    "runs/health/stored_files.py",  # the age of files, which the host's storage dates
    "runs/queries/search.py",  # "since": as exact as the user's own clock
}


def test_no_other_module_asks_the_clock_of_its_host():
    found = set()
    for app in ("graphs", "runs", "statemanager"):
        for path in (ROOT / app).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in CLOCKS_OF_A_HOST:
                    found.add(str(path.relative_to(ROOT)))
    assert found <= RECORDERS, found - RECORDERS
