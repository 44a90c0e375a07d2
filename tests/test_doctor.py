"""`doctor` says what is wrong and what to do: each finding is provoked."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from graphs.models import RegisteredNode
from runs import claiming, doctoring, queueing
from runs.models import BulkOperation, Cluster, Run, State
from runs.starting import start_run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def cluster():
    return Cluster.objects.create(name="one", host="here", pid=1, workers=2)


def said():
    return [f"{finding.level}: {finding.said} {finding.fix}" for finding in doctoring.examine()]


def test_a_sound_installation(admin_client, client, make_key):
    assert said() == []
    call_command("doctor", stdout=(out := StringIO()))
    assert "All is well" in out.getvalue()
    assert "All is well" in admin_client.get("/admin/run-manager/health/").content.decode()
    assert client.get("/admin/run-manager/doctor", headers={"X-API-Key": make_key("admin", ())}).json() == {"findings": []}


def test_it_is_for_administrators(client, make_key, django_user_model):
    assert client.get("/admin/run-manager/doctor", headers={"X-API-Key": make_key("run")}).status_code == 403
    user = django_user_model.objects.create_user("viewer", is_staff=True)
    client.force_login(user)
    assert client.get("/admin/run-manager/health/").status_code in (302, 403)


def test_no_cluster(cluster, admin_client):
    Cluster.objects.update(seen_at=timezone.now() - timedelta(hours=3))
    assert said() == [
        "error: No cluster lives; one was the last, 3 h ago. Nothing is executed. Start manage.py supervise (or manage.py up) and keep it running."
    ]
    with pytest.raises(CommandError, match="needs care"):
        call_command("doctor", stdout=StringIO())
    assert "No cluster lives" in admin_client.get("/admin/run-manager/health/").content.decode()


def test_a_restless_cluster(cluster):
    Cluster.objects.update(restarts=9)
    assert "replaced 9 times" in said()[0]


def test_leases_that_nobody_takes_back(publish):
    start_run(publish("a"))
    claiming.claim("gone", [(["noop"], 1)], -600, claiming.FactsCache())
    assert any("1 states are held by workers whose lease is over" in each for each in said())


def test_states_that_nobody_comes_for(publish, namespace):
    run = start_run(publish("a"))
    State.objects.filter(run=run).update(due_at=timezone.now() - timedelta(minutes=10))
    assert "A state of 'noop' has been ready for 10 min." in said()[0]
    State.objects.filter(run=run).update(node="gone.node")
    assert "which no installed app has" in said()[0]
    State.objects.filter(run=run).update(worker_namespace=namespace, node="theirs")
    assert "No worker has registered it" in said()[0]
    RegisteredNode.objects.create(namespace=namespace, name="theirs", executor="worker")
    assert "Start a worker that claims it" in said()[0]


def test_runs_and_operations_that_hang(publish):
    run = start_run(publish("a"))
    Run.objects.filter(pk=run.pk).update(pending_count=0)
    BulkOperation.objects.create(action="delete", query={}, status="running", lease_expires_at=timezone.now() - timedelta(hours=1))
    assert ["verify --fix" in each or "bulk operations" in each for each in said()] == [True, True]


def test_the_queue(settings):
    settings.Q_CLUSTER = {**settings.Q_CLUSTER, "max_attempts": 3, "timeout": 10}
    assert [each.partition(";")[0] for each in said()] == [
        "error: Q_CLUSTER's max_attempts is 3",
        "error: Q_CLUSTER's retry isn't above its timeout, or that not above NODE_TIMEOUT_SECONDS. Take Q_CLUSTER as the project sets it.",
    ]


def test_a_wake_up_that_nobody_takes(publish):
    start_run(publish("a"))
    queueing.OrmQ.objects.update(lock=timezone.now() - timedelta(minutes=3))
    assert any("A wake-up has waited for 3 min" in each for each in said())


def test_clock_disk_and_settings(monkeypatch, settings):
    settings.DEBUG = True
    monkeypatch.setattr(doctoring, "FREE_BYTES", 2**63)
    monkeypatch.setattr(doctoring.timezone, "now", lambda: timezone.datetime.now(tz=timezone.get_default_timezone()) - timedelta(seconds=20))
    words = " ".join(said())
    assert all(part in words for part in ("20 s behind", "DEBUG is on", "MB are free"))


def test_versions_and_migrations(monkeypatch):
    monkeypatch.setattr(doctoring.django, "VERSION", (6, 1, 0, "final", 0))
    monkeypatch.setattr(doctoring.MigrationExecutor, "migration_plan", lambda *_: [("runs.0001_initial", False)])
    words = " ".join(said())
    assert all(part in words for part in ("tested with 5.2", "1 migrations are not applied", "manage.py migrate"))


def test_the_database(monkeypatch):
    if connection.vendor == "postgresql":
        monkeypatch.setattr(doctoring, "FULL", 0.0)
        assert "connections are in use" in said()[0]
    else:
        Cluster.objects.create(name="two", host="here", pid=2, workers=1)
        assert "2 clusters share one SQLite file" in said()[0]


@pytest.mark.django_db(transaction=True)
def test_sqlite_modes():
    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 5000")
        cursor.execute("PRAGMA foreign_keys = OFF")
    try:
        assert ["foreign_keys is 0" in said()[0], "gives up after 5 s" in said()[1]] == [True, True]
    finally:
        connection.close()
