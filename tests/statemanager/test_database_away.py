"""While the database is away, requests get 503 with Retry-After, and the engine's loops go on."""

from time import monotonic

import pytest
from django.db import OperationalError
from django.test import Client

from runs.cluster.supervisor import Supervisor
from runs.engine import claim, heartbeat, lease_recovery, record, wakeup
from runs.engine.executor import Executor
from runs.engine.start import start_run
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db


def away(*args, **options):
    raise OperationalError("server closed the connection unexpectedly")


def test_the_api_answers_503(publish, make_key, monkeypatch):
    graph = publish("a")
    client = Client(headers={"X-API-Key": make_key("run")}, raise_request_exception=False)
    monkeypatch.setattr("runs.api.graphs.start_run", away)
    answer = client.post(f"/graphs/{graph.pk}/run", content_type="application/json")
    assert answer.status_code == 503, answer.content
    assert answer["Retry-After"] == "5"
    assert answer.json()["status"] == 503


def test_pages_answer_503(monkeypatch, admin_client):
    monkeypatch.setattr("django.contrib.admin.views.main.ChangeList.get_results", away)
    assert admin_client.get("/admin/statemanager_runs/run/").status_code == 503


@pytest.mark.django_db(transaction=True)
def test_outcomes_wait_until_the_database_is_back(publish, monkeypatch):
    run = start_run(publish("a>b"))
    record_outcomes = record.record_outcomes
    failures = 0

    def fail_twice(*args):
        nonlocal failures
        if failures < 2:
            failures += 1
            away()
        return record_outcomes(*args)

    monkeypatch.setattr(record, "record_outcomes", fail_twice)
    Executor(threads=False).drain()
    assert failures == 2
    assert by_node(run) == {"a": ["SUCCESS"], "b": ["SUCCESS"]}


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_fails_ends_the_drain_quietly(publish, monkeypatch):
    start_run(publish("a"))
    monkeypatch.setattr(claim, "claim", away)
    assert Executor(threads=False).drain() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("broken", [away, lambda: 1 / 0], ids=["database away", "bug"])
@pytest.mark.parametrize("step", ["start", "sweep"])
def test_an_error_in_a_round_does_not_stop_the_supervisor(monkeypatch, step, broken):
    supervisor = Supervisor(1)
    monkeypatch.setattr(supervisor, "start", broken if step == "start" else lambda: None)
    monkeypatch.setattr(lease_recovery, "rescue_expired", broken)
    monkeypatch.setattr(wakeup, "probe", lambda *_: None)
    supervisor.tick()


@pytest.mark.django_db(transaction=True)
def test_a_node_stops_before_its_lease_is_over_when_the_database_is_silent(
    publish, monkeypatch, conf
):
    """The outcome of the node does not count, but the lines that it logged are stored."""
    conf.LEASE_SECONDS, conf.HEARTBEAT_SECONDS = 2.0, 0.5
    run = start_run(publish("a", kinds={"a": "test.work"}, inputs={"a": {"seconds": 60}}))
    monkeypatch.setattr(heartbeat, "renew_leases", lambda *_: away())
    executor = Executor()
    began = monotonic()
    try:
        executor.drain(0.1)
    finally:
        executor.pool.shutdown()
    assert 1.0 < monotonic() - began < 10, "the node did not stop in time"
    [state] = run.states.all()
    assert (state.status, state.attempt) == ("CREATED", 1)
    assert (state.outputs, state.lost_leases) == (None, 0)
    assert run.logs.filter(message="begun").count() == 1
    run.refresh_from_db()
    assert_counters_agree(run)
