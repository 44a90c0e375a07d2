"""Hosts' clocks are wrong: what another host wrote is compared with the database's clock."""

import ast
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from graphs.auth import api_keys
from graphs.auth.callers import SYSTEM
from graphs.models import ApiKey, CronTrigger, IdempotencyKey, clock, idempotency
from runs.actions import bulk_runner, delete, retention, run_templates
from runs.core import sql
from runs.engine import claim, wakeup
from runs.engine.start import RunOptions, start_run
from runs.health import doctor
from runs.models import BulkOperation, Cluster, Run, RunTemplate, State, Tombstone
from runs.queries.dashboard import overview
from runs.queries.wait_reasons import why_waiting

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).parents[1]
SKEWS = pytest.mark.parametrize("hours", [3, -1, -24, 24 * 400], ids="{:+} h".format)


@pytest.fixture
def skew(monkeypatch):
    """Sets the clock of this process wrong by some hours."""
    real_now, real_time = timezone.now, time.time

    def set_wrong(hours):
        monkeypatch.setattr(timezone, "now", lambda: real_now() + timedelta(hours=hours))
        monkeypatch.setattr(time, "time", lambda: real_time() + 3600 * hours)

    return set_wrong


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
    claim.claim("w", [(["noop"], 1)], 30, claim.FactsCache())
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
def test_nothing_is_kept_for_too_short_or_too_long(
    publish, namespace, settings, skew, hours, run_graph
):
    settings.RETENTION_DAYS = 30
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
    "runs/external/rows.py",
    "runs/health/exosphere_row.py",
    "runs/health/import_exosphere.py",
    "runs/health/probes.py",  # compares the clock of the host with the database's
    "runs/health/stored_files.py",  # the age of files, which the host's storage dates
    "runs/queries/search.py",  # "since": as exact as the user's own clock
}


def test_no_other_module_asks_the_clock_of_its_host():
    found = set()
    for app in ("graphs", "runs"):
        for path in (ROOT / app).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "timezone.now":
                    found.add(str(path.relative_to(ROOT)))
    assert found <= RECORDERS, found - RECORDERS
