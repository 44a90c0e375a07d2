"""`doctor` reports what is wrong and what to do. Each test provokes one of its findings."""

import re
from datetime import timedelta
from io import StringIO

import django
import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from graphs.models import RegisteredNode
from graphs.services import secrets
from runs.core import sql
from runs.engine import claim, wakeup
from runs.engine.start import start_run
from runs.health import doctor, probes, recount, verify
from runs.models import Artifact, BulkOperation, Cluster, LogLine, Run, State

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_storage")]


@pytest.fixture(autouse=True)
def cluster():
    return Cluster.objects.create(name="one", host="here", pid=1, workers=2)


def reported():
    """The findings as `doctor` prints them."""
    return [f"{finding.level}: {finding.message} {finding.fix}" for finding in doctor.examine()]


def test_nothing_is_wrong(admin_client, client, make_key):
    assert reported() == []
    call_command("doctor", stdout=(out := StringIO()))
    assert "All is well" in out.getvalue()
    assert (
        "No problems were found" in admin_client.get("/admin/run-manager/health/").content.decode()
    )
    answer = client.get("/admin/run-manager/doctor", headers={"X-API-Key": make_key("admin", ())})
    assert answer.json() == {"findings": []}


def test_only_administrators_see_the_findings(client, make_key, django_user_model):
    answer = client.get("/admin/run-manager/doctor", headers={"X-API-Key": make_key("run")})
    assert answer.status_code == 403
    user = django_user_model.objects.create_user("viewer", is_staff=True)
    client.force_login(user)
    assert client.get("/admin/run-manager/health/").status_code in (302, 403)


def test_no_cluster_is_running(cluster, admin_client, client, make_key):
    Cluster.objects.update(seen_at=timezone.now() - timedelta(hours=3))
    assert reported() == [
        "error: No cluster is running, so nothing is executed. The last one, one, was seen 3 h ago."
        " Start manage.py supervise (or manage.py up) and keep it running."
    ]
    answer = client.get("/admin/run-manager/doctor", headers={"X-API-Key": make_key("admin", ())})
    [finding] = answer.json()["findings"]
    assert sorted(finding) == ["fix", "level", "said"]
    assert finding["said"].startswith("No cluster is running")
    with pytest.raises(CommandError, match="has errors"):
        call_command("doctor", stdout=StringIO())
    page = admin_client.get("/admin/run-manager/health/").content.decode()
    assert "No cluster is running" in page


def test_a_cluster_that_is_replaced_again_and_again(cluster):
    Cluster.objects.update(restarts=9)
    assert "replaced 9 times" in reported()[0]


def test_expired_leases_that_are_not_recovered(publish):
    start_run(publish("a"))
    claim.claim("gone", [claim.Group(["noop"], 1)], -600, claim.FactsCache())
    assert any("Expired leases that were not recovered: 1." in finding for finding in reported())


def test_ready_states_that_are_not_claimed(publish, namespace):
    run = start_run(publish("a"))
    State.objects.filter(run=run).update(
        due_at=timezone.now() - timedelta(minutes=10),
        claim_at=timezone.now() - timedelta(minutes=10),
    )
    assert "A state of 'noop' has been ready for 10 min." in reported()[0]
    State.objects.filter(run=run).update(node="gone.node")
    assert "no installed app has this node" in reported()[0]
    State.objects.filter(run=run).update(worker_namespace=namespace, node="theirs")
    assert "No worker has registered the node" in reported()[0]
    RegisteredNode.objects.create(namespace=namespace, name="theirs", executor="worker")
    assert "Start a worker that claims it" in reported()[0]


def test_runs_and_bulk_operations_that_hang(publish):
    run = start_run(publish("a"))
    Run.objects.filter(pk=run.pk).update(pending_count=0)
    BulkOperation.objects.create(
        action="delete",
        query={},
        status="running",
        lease_expires_at=timezone.now() - timedelta(hours=1),
    )
    report = " ".join(reported())
    assert "Runs that are active although they have no pending states: 1." in report
    assert "Run manage.py verify --fix." in report
    assert "Bulk operations that have lost their runner: 1." in report


def test_counters_that_disagree_with_the_states(run_graph, monkeypatch):
    runs = [run_graph("a>b", name=name) for name in ("first", "second")]
    Run.objects.filter(pk=runs[0].pk).update(started_count=7)
    expected = (
        "The counters don't match the states in 1 of the newest 100 runs:"
        f" {runs[0].run_id}. Run manage.py verify --fix, which counts all runs."
    )
    assert reported() == [f"error: {expected}"]
    monkeypatch.setattr(recount, "RECENT_RUNS", 1)
    assert reported() == [], "only the newest runs are counted"
    Run.objects.update(node_counts={})
    assert runs[1].run_id in reported()[0]
    monkeypatch.setattr(recount, "MAX_ROWS", 1)
    assert reported() == [], "large runs are not counted"
    call_command("verify", "--fix", stdout=StringIO())
    monkeypatch.undo()
    assert reported() == []


def test_rows_without_a_run(publish, monkeypatch):
    """Only the oldest and the newest rows of each table are checked."""
    if connection.vendor != "sqlite":
        return  # PostgreSQL refuses these rows.
    monkeypatch.setattr(verify, "SAMPLE_SIZE", 2)
    connection.disable_constraint_checking()
    try:
        run = start_run(publish("a"))
        LogLine.objects.bulk_create(
            LogLine(run_id=pk, message="x") for pk in (run.pk, 10**9, run.pk, run.pk)
        )
        Run.objects.update(log_count=4)
        assert reported() == [], "the row in the middle is not checked"
        LogLine.objects.create(run_id=10**9, message="x")
        LogLine.objects.create(id=-1, run_id=10**9, message="x")
        expected = (
            "Among the oldest and the newest 2 rows of their table are log lines without a run: 2."
            " Run manage.py verify --fix, which checks all rows."
        )
        assert reported() == [f"warning: {expected}"]
        call_command("verify", "--fix", stdout=StringIO())
        assert reported() == []
    finally:
        LogLine.objects.filter(run_id=10**9)._raw_delete("default")
        connection.enable_constraint_checking()


def test_a_wake_up_that_is_not_taken(publish):
    start_run(publish("a"))
    wakeup.OrmQ.objects.update(lock=timezone.now() - timedelta(minutes=3))
    expected = "A wake-up has been in the queue for 3 min"
    assert any(expected in finding for finding in reported())


def test_a_wrong_clock_a_full_disk_and_debug(monkeypatch, settings):
    settings.DEBUG = True
    monkeypatch.setattr(probes, "MIN_FREE_BYTES", 2**63)
    monkeypatch.setattr(
        probes.timezone,
        "now",
        lambda: timezone.datetime.now(tz=timezone.get_default_timezone()) - timedelta(seconds=20),
    )
    report = " ".join(reported())
    for message in ("20 s behind", "DEBUG is on", "MB are free"):
        assert message in report


def test_migrations_that_are_not_applied(monkeypatch):
    monkeypatch.setattr(
        probes.MigrationExecutor, "migration_plan", lambda *_: [("runs.0001_initial", False)]
    )
    assert reported() == [
        "error: Migrations that are not applied: 1; the first is runs.0001_initial."
        " Run manage.py migrate."
    ]


def test_versions_that_are_too_old(monkeypatch):
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    monkeypatch.setattr(probes, "MIN_VERSIONS", dict.fromkeys(probes.MIN_VERSIONS, (99, 1)))
    findings = reported()
    assert [finding.split()[1] for finding in findings] == [
        "Python",
        "Django",
        "django-q2",
        names[connection.vendor],
    ]
    assert (
        f"error: Django {django.get_version()} is too old; 99.1 or newer is required."
        " Install the versions of requirements.txt." in findings
    )
    assert all(finding.startswith("error") for finding in findings)


def test_versions_that_are_not_tested(monkeypatch):
    monkeypatch.setattr(probes, "TESTED_VERSIONS", dict.fromkeys(probes.TESTED_VERSIONS, (1, 1)))
    findings = reported()
    assert len(findings) == 2
    for finding in findings:
        assert (
            "the project is tested with 1.1. Install the versions of requirements.txt." in finding
        )


def test_the_requirements_are_new_enough():
    """`doctor` must not report the versions of requirements.txt as too old or untested."""
    requirements = (settings.BASE_DIR / "requirements.txt").read_text()
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+)", requirements, re.MULTILINE))
    for name in ("Django", "django-q2"):
        version = tuple(map(int, locked[name.lower()].split(".")))
        assert probes.MIN_VERSIONS[name] <= version
        assert version[:2] == probes.TESTED_VERSIONS[name]


def test_clusters_that_share_a_sqlite_file():
    if connection.vendor == "sqlite":
        Cluster.objects.create(name="two", host="here", pid=2, workers=1)
        assert "2 clusters share one SQLite file" in reported()[0]


@pytest.mark.only_on("postgresql")
def test_connections_that_are_nearly_used_up(monkeypatch):
    """Each running cluster needs a connection for each worker and four more, even if it is idle."""
    Cluster.objects.create(name="two", host="there", pid=2, workers=10)
    Cluster.objects.create(
        name="gone", host="there", pid=3, workers=5000, seen_at=timezone.now() - timedelta(hours=1)
    )
    [(max_connections,)] = sql.run("SELECT current_setting('max_connections')::int")
    monkeypatch.setattr(probes, "FULL", 0.0)
    [finding] = reported()
    assert (
        f"of {max_connections} connections are in use."
        " The running clusters need 20 (one for each worker, and 4 each)" in finding
    )
    assert (
        "Raise max_connections in postgresql.conf and restart PostgreSQL, or lower WORKERS."
        in finding
    )

    monkeypatch.undo()
    most = int(0.8 * max_connections)
    Cluster.objects.filter(name="two").update(workers=most - 6)
    assert reported()[0].startswith(
        f"warning: The clusters may use {most + 4} of {max_connections} connections."
    )

    Cluster.objects.filter(name="two").update(workers=max_connections - 10)
    [finding] = reported()
    assert finding.startswith(
        f"error: PostgreSQL has {max_connections - 3} connections for clients"
        f" (max_connections is {max_connections}); that is too few for the clusters."
    )
    assert f"need {max_connections}" in finding


@pytest.mark.only_on("sqlite")
@pytest.mark.django_db(transaction=True)
def test_wrong_pragmas_of_sqlite():
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 5000")
        cursor.execute("PRAGMA foreign_keys = OFF")
    try:
        first, second, *_ = reported()
        assert "foreign_keys is 0" in first
        assert "waits only 5 s" in second
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("setting", "value", "finding"),
    [
        (
            "default_transaction_isolation",
            "serializable",
            "error: Transactions of the database role",
        ),
        ("statement_timeout", "500ms", "warning: The role's statement_timeout is 0.5 s"),
        ("idle_in_transaction_session_timeout", "1s", "warning: The role's idle_in_transaction"),
    ],
)
def test_a_role_with_which_batches_fail(database, setting, value, finding):
    if database == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL {setting} = '{value}'")
        assert [text for text in reported() if text.startswith(finding)]


def test_a_storage_that_is_not_the_one_of_the_files(publish, drain, settings, tmp_path):
    run = start_run(publish("a"))
    drain()
    name = default_storage.save("runs/1/a.txt", ContentFile(b"x"))
    Artifact.objects.create(
        run=run, state=run.states.get().pk, identifier="a", name="a.txt", file=name, size=1
    )
    assert reported() == []
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path)},
        },
    }
    [finding] = reported()
    assert f"1 of the newest 1 files are not in the storage, such as {name}." in finding


def test_secrets_that_no_key_opens(publish, conf):
    graph = publish("a")
    secrets.replace(graph, {"token": "a value"})
    assert reported() == []
    conf.SECRETS_KEYS = [Fernet.generate_key().decode()]
    [finding] = reported()
    assert "No key of SECRETS_KEYS opens 1 secrets, such as alpha/graph: token" in finding
