"""Runs whose time is over are stopped: those that start too late, and those that take too long."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from runs.actions.rerun import RerunOptions, rerun
from runs.core import sql
from runs.engine import counters, create_states, deadlines, record
from runs.engine.control import pause_run, resume_run
from runs.engine.new_run import RunOptions
from runs.engine.retry import retry_failed
from runs.engine.start import start_run
from runs.engine.start_many import start_many
from runs.engine.types import Outcome
from runs.models import Run, RunDeadline, State
from tests.support.concurrency import at_once
from tests.support.engine import claimed
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db


def later(seconds):
    """Let time pass for all time limits: their moments, and those of the runs, move back."""
    by = timedelta(seconds=seconds)
    RunDeadline.objects.update(
        at=F("at") - by, start_by=F("start_by") - by, retried_at=F("retried_at") - by
    )
    State.objects.update(started_at=F("started_at") - by)


def swept(run):
    ended = deadlines.sweep()
    run.refresh_from_db()
    return ended


def recorded(states):
    return record.record_batch([Outcome(state, "done", ["{}"], [{}]) for state in states])


def test_a_run_that_takes_too_long_is_stopped(publish):
    run = start_run(publish("a>b a>c"), RunOptions(timeout=60))
    claimed()
    later(59)
    assert swept(run) == 0
    later(2)
    assert swept(run) == 1
    assert run.status == "failed"
    assert run.error_message == "Execution stopped: the run took longer than 60 s (timeout)"
    assert by_node(run) == {"a": ["CANCELLED"]}
    assert run.logs.last().message == run.error_message
    assert_counters_agree(run)
    later(1000)
    assert swept(run) == 0


def test_the_time_counts_from_the_start_of_the_run(publish):
    run = start_run(publish("a"), RunOptions(timeout=60))
    later(1000)
    assert swept(run) == 0  # it waits, which is no fault of its own
    claimed()
    later(59)
    assert swept(run) == 0
    later(2)
    assert swept(run) == 1


def test_a_run_that_starts_too_late_is_stopped(publish):
    graph = publish("a")
    run, delayed = start_many(graph, [RunOptions(start_by=60), RunOptions(start_by=60, delay=100)])
    later(61)
    assert swept(run) == 1
    assert run.status == "failed"
    assert "had not started by" in run.error_message
    later(98)
    assert swept(delayed) == 0
    later(2)
    assert swept(delayed) == 1


def test_a_run_whose_first_claim_found_it_locked_has_started(publish):
    run = start_run(publish("a"), RunOptions(start_by=60))
    claimed()
    Run.objects.update(status="queued", started_at=None)
    later(61)
    assert swept(run) == 0
    assert RunDeadline.objects.get().at is None


def test_a_pause_before_the_start_is_no_start(publish):
    graph = publish("a")
    slow, late = start_many(graph, [RunOptions(timeout=60), RunOptions(start_by=60)])
    for run in (slow, late):
        pause_run(run, SYSTEM)
        resume_run(run, SYSTEM)
    later(61)
    assert swept(late) == 1
    assert "had not started by" in late.error_message
    slow.refresh_from_db()
    assert slow.status == "running"
    claimed()
    later(61)
    assert swept(slow) == 1


def test_a_retry_while_the_sweep_looks_at_the_run_counts(publish, monkeypatch):
    run = start_run(publish("a"), RunOptions(timeout=60))
    claimed()
    later(61)
    assert swept(run) == 1
    RunDeadline.objects.update(at="2020-01-01T00:00:00Z")
    lock = counters.lock

    def retry_first(*args, **kwargs):
        monkeypatch.setattr(counters, "lock", lock)
        retry_failed(run, SYSTEM)
        return lock(*args, **kwargs)

    monkeypatch.setattr(deadlines, "_pass_over_the_others", lambda now: None)
    monkeypatch.setattr(counters, "lock", retry_first)
    assert swept(run) == 0
    assert run.status == "running"


def test_many_runs_that_wait_are_passed_over_at_once(publish):
    start_many(publish("a"), [RunOptions(timeout=0.001) for _ in range(300)])
    later(10)
    with CaptureQueriesContext(connection) as queries:
        assert deadlines.sweep() == 0
    assert len(queries) <= 8
    assert not RunDeadline.objects.filter(at__lte=sql.clock()).exists()


def test_a_limit_that_breaks_keeps_no_other_back(publish, monkeypatch):
    runs = start_many(publish("a"), [RunOptions(start_by=at) for at in range(1, 152)])
    later(200)
    broken = {run.pk for run in runs[:150]}
    cancel = deadlines.cancel_unfinished

    def cancel_unfinished(run_counters):
        if run_counters.pk in broken:
            raise ZeroDivisionError
        cancel(run_counters)

    monkeypatch.setattr(deadlines, "cancel_unfinished", cancel_unfinished)
    monkeypatch.setattr(deadlines.log, "exception", lambda *_: None)
    monkeypatch.setattr(deadlines, "ROUND_SECONDS", 60)
    assert swept(runs[150]) == 1
    assert deadlines.sweep() == 0
    assert RunDeadline.objects.filter(at__gt=sql.clock()).count() == 150


def test_runs_that_are_made_state_by_state_have_limits_after_their_delay(publish):
    graph = publish("a", settings={"start_by": 10})
    run, _ = create_states.create_states(graph, "", [("a", {})], SYSTEM, delay=3600)
    later(3600)
    assert swept(run) == 0
    later(11)
    assert swept(run) == 1


def test_a_rerun_on_the_newest_version_has_its_limits(publish, drain):
    run = start_run(publish("a", settings={"timeout": 5, "start_by": 7}), RunOptions(start_by=9))
    drain()
    publish("a", settings={"timeout": 500})
    again = rerun(run, SYSTEM, RerunOptions(newest=True))
    assert (again.deadline.timeout, again.deadline.start_within) == (500, 9)


def test_limits_of_many_runs_ask_for_the_time_once(publish):
    graph = publish("a")
    start_run(graph)
    with CaptureQueriesContext(connection) as queries:
        start_many(graph, [RunOptions(timeout=5) for _ in range(100)])
    assert len(queries) <= 15


def test_both_limits_hold_one_after_the_other(publish):
    run = start_run(publish("a"), RunOptions(start_by=1000, timeout=10))
    later(100)
    assert swept(run) == 0
    claimed()
    later(11)
    assert swept(run) == 1
    assert "took longer than 10 s" in run.error_message


def test_what_succeeded_before_counts(publish):
    run = start_run(publish("a>b"), RunOptions(timeout=5))
    assert recorded(claimed()).accepted
    later(6)
    assert swept(run) == 1
    assert run.status == "partial"
    assert by_node(run) == {"a": ["SUCCESS"], "b": ["CANCELLED"]}
    assert_counters_agree(run)


def test_the_settings_of_a_graph_are_the_default(publish):
    graph = publish("a", settings={"timeout": 30, "start_by": 90})
    assert start_run(graph).deadline.timeout == 30
    own = start_run(graph, RunOptions(timeout=5)).deadline
    assert own.timeout == 5
    assert own.start_by is not None
    made, _ = create_states.create_states(graph, "", [("a", {})], SYSTEM)
    assert made.deadline.timeout == 30


def test_a_run_without_limits_has_no_row(publish):
    start_run(publish("a"))
    assert not RunDeadline.objects.exists()


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), 1e12])
def test_limits_that_make_no_sense_are_refused(publish, seconds):
    graph = publish("a")
    for options in (RunOptions(timeout=seconds), RunOptions(start_by=seconds)):
        with pytest.raises(errors.Malformed):
            start_run(graph, options)
    assert not Run.objects.exists()


def test_a_run_that_ended_in_time_is_left_alone(publish, drain):
    run = start_run(publish("a"), RunOptions(timeout=5))
    drain()
    later(10)
    assert swept(run) == 0
    assert run.status == "completed"
    assert RunDeadline.objects.get().at is None


def test_a_retry_has_its_whole_time_again(publish, drain):
    run = start_run(publish("a"), RunOptions(timeout=60))
    claimed()
    later(61)
    assert swept(run) == 1
    retry_failed(run, SYSTEM)
    later(59)
    assert swept(run) == 0
    drain()
    later(10)
    assert swept(run) == 0
    assert run.status == "completed"


def test_a_retry_may_wait_for_its_start_again(publish):
    run = start_run(publish("a"), RunOptions(start_by=30, timeout=60))
    later(31)
    assert swept(run) == 1
    retry_failed(run, SYSTEM)
    later(29)
    assert swept(run) == 0
    later(2)
    assert swept(run) == 1


def test_a_run_whose_first_state_is_claimed_again_and_again_ends_in_time(publish):
    run = start_run(publish("a"), RunOptions(timeout=60))
    for _ in range(3):
        states = claimed()
        Run.objects.filter(started_at=None).update(started_at=sql.clock())
        later(25)
        Run.objects.update(started_at=F("started_at") - timedelta(seconds=25))
        ended = swept(run)
        record.record_batch([Outcome(state, "release") for state in states])
    assert ended == 1
    assert run.status == "failed"


def test_a_rerun_has_the_same_limits(publish, drain):
    run = start_run(publish("a"), RunOptions(timeout=60, start_by=30))
    drain()
    again = rerun(run, SYSTEM, RerunOptions())
    assert again.deadline.timeout == 60
    assert again.deadline.start_within == 30


def test_a_repeated_start_with_another_limit_is_refused(publish):
    graph = publish("a")
    start_run(graph, RunOptions(run_id="r", timeout=60))
    assert start_run(graph, RunOptions(run_id="r", timeout=60)).run_id == "r"
    with pytest.raises(errors.Conflict):
        start_run(graph, RunOptions(run_id="r", timeout=61))
    assert RunDeadline.objects.count() == 1


def test_a_worker_that_reports_too_late_changes_nothing(publish):
    run = start_run(publish("a>b"), RunOptions(timeout=5))
    states = claimed()
    later(6)
    assert swept(run) == 1
    assert not recorded(states).accepted
    assert by_node(run) == {"a": ["CANCELLED"]}


def test_the_limits_over_rest_and_on_the_page(publish, admin_client):
    graph = publish("a")
    body = {"run_id": "r", "timeout_ms": 1500, "start_by_ms": 60_000}
    url = f"/graphs/{graph.pk}/run"
    assert admin_client.post(url, body, content_type="application/json").status_code == 200
    run = Run.objects.get()
    assert run.deadline.timeout == 1.5
    page = admin_client.get(f"/admin/run-manager/run/{run.pk}/").content.decode()
    assert "end after 1.5 s" in page
    refused = admin_client.post(url, {"timeout_ms": 0}, content_type="application/json")
    assert refused.status_code == 422


@pytest.mark.races
@pytest.mark.django_db(transaction=True)
def test_several_supervisors_stop_each_run_once(publish):
    graph = publish("a")
    start_many(graph, [RunOptions(start_by=1) for _ in range(250)])
    later(2)
    at_once(*(deadlines.sweep for _ in range(4)))
    while RunDeadline.objects.filter(at__lte=sql.clock()).exists():
        deadlines.sweep()
    assert set(Run.objects.values_list("status", "log_count")) == {("failed", 2)}


@pytest.mark.only_on("postgresql")
@pytest.mark.django_db(transaction=True)
def test_a_locked_run_waits_for_the_next_round(publish):
    runs = start_many(publish("a"), [RunOptions(start_by=1) for _ in range(2)])
    later(2)
    with transaction.atomic():
        list(Run.objects.select_for_update().filter(pk=runs[0].pk))
        assert at_once(deadlines.sweep) == [1]
    assert deadlines.sweep() == 1


@pytest.mark.only_on("postgresql")
def test_a_round_reads_only_what_may_be_over():
    RunDeadline.objects.bulk_create(
        RunDeadline(run_id=-at, at="2099-01-01T00:00:00Z", timeout=1) for at in range(1, 2000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE statemanager_runs_rundeadline")
        cursor.execute(
            "EXPLAIN SELECT * FROM statemanager_runs_rundeadline"
            " WHERE at <= now() ORDER BY at LIMIT 100"
        )
        assert "sm_run_deadline_at" in str(cursor.fetchall())
