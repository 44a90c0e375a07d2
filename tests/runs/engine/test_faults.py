"""What a node, a worker or a caller does wrong hurts that state only, and what comes late changes nothing."""

import json
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from graphs.nodes.base import NodeFailed, RunAgain, registry
from runs.actions import delete
from runs.cluster.supervisor import Supervisor
from runs.engine import claim as claim_module
from runs.engine import heartbeat, lease_recovery
from runs.engine import record as record_module
from runs.engine import scan_floors as scan_floors_module
from runs.engine.executor import Executor
from runs.engine.node_context import NodeContext
from runs.engine.start import RunOptions, start_run
from runs.engine.types import Outcome
from runs.models import Cluster, Run, State
from tests import nodes
from tests.support.engine import claimed, done, sign
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db


def test_late_report_changes_nothing(publish):
    run = start_run(publish("a>b"))
    [first] = claimed(seconds=-1)
    assert lease_recovery.rescue_expired() == 1
    [second] = claim_module.claim(
        "w", [(["noop"], 1)], 30, claim_module.FactsCache(), quarantine=claim_module.QUARANTINED
    )
    assert (second.attempt, second.lost_leases) == (2, 1)
    assert not record_module.record_batch([done(first)]).accepted
    assert not heartbeat.renew_leases([sign(first, "late")], 30)
    assert record_module.record_batch([done(second)]).accepted
    assert not record_module.record_batch([done(second)]).accepted
    assert by_node(run) == {"a": ["SUCCESS"], "b": ["CREATED"]}
    assert not run.logs.filter(message="late").exists()
    assert_counters_agree(run)


def test_a_state_that_comes_late_is_found_within_a_second_and_when_a_worker_is_woken(
    publish, monkeypatch
):
    """One whose transaction was slow is older than what was claimed meanwhile: it is taken when all are looked at."""
    graph, scan_floors, now = publish("a"), claim_module.ScanFloors(), [0.0]
    monkeypatch.setattr(scan_floors_module, "monotonic", lambda: now[0])

    def claim():
        return [
            state.run.run_id
            for state in claim_module.claim(
                "w", [(["noop"], 1)], 30, claim_module.FactsCache(), scan_floors=scan_floors
            )
        ]

    def late(name):
        run = start_run(graph, RunOptions(run_id=name))
        State.objects.filter(run=run).update(due_at=timezone.now() - timedelta(minutes=5))

    for name in ("a", "b", "c", "d"):
        start_run(graph, RunOptions(run_id=name))
    assert claim() == ["a"]
    late("late")
    now[0] += scan_floors_module.FULL_SCAN_SECONDS / 2
    assert claim() == ["late" if connection.vendor == "sqlite" else "b"]
    now[0] += scan_floors_module.FULL_SCAN_SECONDS
    assert claim() == ["b" if connection.vendor == "sqlite" else "late"]
    assert claim() + claim() == ["c", "d"]
    late("last")
    worker = Executor(threads=False)
    worker.scan_floors = scan_floors
    assert worker.drain() == 1
    assert not State.objects.exclude(status__in=["SUCCESS", "QUEUED"]).exists()


def test_a_batch_with_one_late_outcome_records_the_others(publish):
    graph = publish("a>b")
    runs = [start_run(graph) for _ in range(3)]
    states = claimed()
    record_module.record_batch([done(states[1])])
    assert set(record_module.record_batch([done(state) for state in states]).accepted) == {
        states[0].id,
        states[2].id,
    }
    for run in runs:
        assert by_node(run) == {"a": ["SUCCESS"], "b": ["CREATED"]}
        assert_counters_agree(run)


def test_result_that_can_not_be_recorded_fails_its_own_state_only(publish, monkeypatch):
    graph = publish("a>b")
    good, bad = start_run(graph), start_run(graph)
    states = claimed()
    outcomes = [done(state) for state in states]
    next(
        each for each in outcomes if each.state.run.pk == bad.pk
    ).emitted = -5  # refused by the database
    record_module.record_outcomes(outcomes)
    bad.refresh_from_db()
    assert (bad.status, by_node(bad)) == ("failed", {"a": ["ERRORED"]})
    assert "can't be recorded" in bad.error_message
    assert by_node(good) == {"a": ["SUCCESS"], "b": ["CREATED"]}


def test_context_refuses_nonsense(publish):
    start_run(publish("a"))
    context = NodeContext(claimed()[0])
    for wrong in (
        lambda: context.emit(-5),
        lambda: context.progress(float("nan")),
        lambda: context.log("x", "loud"),
    ):
        with pytest.raises((NodeFailed, ValueError)):
            wrong()
    with context.artifact("a\x00b\ud800" + "x" * 300) as file:
        file.write(b"x")
    assert len(file.file["name"]) <= 200


def test_reading_lines_from_two_threads_loses_none(publish):
    start_run(publish("a"))
    context, taken = NodeContext(claimed()[0]), []
    reader = threading.Thread(
        target=lambda: [taken.extend(context.take_lines()) for _ in range(3000)]
    )
    reader.start()
    for number in range(3000):
        context.log(str(number))
        taken.extend(context.take_lines())
    reader.join()
    taken.extend(context.take_lines())
    assert len({line[2] for line in taken if "logged too fast" not in line[2]}) == 3000


@pytest.mark.parametrize("seconds", [1e12, float("inf"), float("nan"), -5])
def test_run_again_takes_any_number_without_losing_the_state(publish, drain, seconds, monkeypatch):
    def again(ctx, seconds=0.0, times=1, asked=seconds):
        if ctx.attempt == 1:
            raise RunAgain(asked)
        return {}

    monkeypatch.setitem(registry, "test.again", replace(registry["test.again"], call=again))
    run = start_run(publish("a", kinds={"a": "test.again"}))
    drain()
    state = run.states.get()
    assert state.status != "CREATED" or state.due_at is not None
    assert_counters_agree(run)


def test_delay_survives_a_release(publish, drain):
    run = start_run(publish("d", kinds={"d": "delay"}, inputs={"d": {"seconds": 3600}}))
    record_module.record_batch([Outcome(claimed(["delay"])[0], "release")])
    drain()
    state = run.states.get()
    assert (state.status, state.due_at > timezone.now() + timedelta(minutes=50)) == (
        "CREATED",
        True,
    )


def test_failed_attempts_leave_no_files_and_no_rows(publish, drain, monkeypatch):
    calls = []

    def emit_then_fail(ctx, rows=3):
        ctx.emit(rows)
        with ctx.artifact("note.txt") as file:
            file.write(b"hello")
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("once")
        return {}

    monkeypatch.setitem(registry, "test.emit", replace(registry["test.emit"], call=emit_then_fail))
    run = start_run(
        publish(
            "a",
            kinds={"a": "test.emit"},
            data={"a": {"retry": {"max_retries": 1, "backoff_factor": 0.001}}},
        )
    )
    drain()
    run.refresh_from_db()
    assert (run.status, run.emitted, run.artifacts.count()) == ("completed", 3, 1)


@pytest.mark.parametrize("limit", [1.0, "50%", 0])
def test_failure_limits_of_every_form(run_graph, limit):
    assert (
        run_graph("a", kinds={"a": "test.fail"}, settings={"max_failures": limit}).status
        == "failed"
    )


def test_side_effects_are_recorded_alone(publish, monkeypatch):
    plain, effect = (
        publish("a", name="plain"),
        publish("a", name="effect", data={"a": {"side_effects": True}}),
    )
    for graph in (plain, effect, plain, effect):
        start_run(graph)
    slices = []
    record = record_module.record_outcomes

    def noted(outcomes, *others):
        slices.append([each.state.node.side_effects for each in outcomes if each.kind != "release"])
        return record(outcomes, *others)

    monkeypatch.setattr(record_module, "record_outcomes", noted)
    worker = Executor(threads=False)
    worker.speed = {"noop": 1e-4}
    worker.drain()
    assert all(kinds == [True] for kinds in slices if True in kinds)
    assert not Run.objects.exclude(status="completed").exists()


def test_a_worker_sends_one_thing_at_a_time(publish):
    """One that dies leaves one with side effects to be done again, not all that it waited for."""
    sent, waited = (
        publish("a", name="sent", kinds={"a": "test.send"}),
        publish("a", name="waited", kinds={"a": "test.sleep"}, inputs={"a": {"seconds": 0.05}}),
    )
    for graph in [sent, waited] * 6:
        start_run(graph)
    nodes.sending.clear()
    Executor().drain(budget=10)
    assert nodes.sending == [1] * 6
    assert not Run.objects.exclude(status="completed").exists()


def test_the_hosts_clock_does_not_make_a_cluster_look_dead(db, monkeypatch):
    supervisor = Supervisor(1)
    heartbeat.register(supervisor.name, "here", 1)
    supervisor._started -= 100
    assert supervisor._stuck() == ""
    Cluster.objects.update(seen_at=timezone.now() - timedelta(minutes=1))
    assert "no sign of life" in supervisor._stuck()


def test_deleted_run_drops_what_its_worker_still_reports(publish):
    run = start_run(publish("a"))
    [state] = claimed()
    delete.delete_graph(run.graph)
    assert not record_module.record_batch([done(state)]).accepted
    assert not State.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_node_that_raises_to_leave_just_fails(publish, monkeypatch, error):
    def leave(ctx):
        raise error("bye")

    monkeypatch.setitem(registry, "test.exit", replace(registry["test.exit"], call=leave))
    run = start_run(publish("a", kinds={"a": "test.exit"}))
    Executor().drain()
    run.refresh_from_db()
    assert (run.status, run.error_message) == (
        "failed",
        f"a: the node tried to leave with {error.__name__}: bye",
    )


def test_ten_thousand_late_writes_change_nothing(publish, drain, request):
    """Every way in which a worker writes, with the attempt that it lost; 10,000 in the long form, 1,000 otherwise."""
    number = 10_000 if request.config.getoption("--chaos-rounds") else 1_000
    run = start_run(
        publish(
            "out>work",
            kinds={"out": "test.each", "work": "test.work"},
            inputs={"out": {"items": list(range(number))}},
        )
    )
    [first] = claimed(["test.each"])
    record_module.record_batch(
        [
            Outcome(
                first,
                "done",
                [json.dumps({"value": at}) for at in range(number)],
                [{"value": at} for at in range(number)],
                fanned=True,
            )
        ]
    )
    lost = [state for _ in range(number // 100) for state in claimed(["test.work"], -1)]
    assert len(lost) == number
    assert lease_recovery.rescue_expired() == number
    again = [
        state
        for _ in range(number // 100)
        for state in claim_module.claim(
            "w2",
            [(["test.work"], 100)],
            600,
            claim_module.FactsCache(),
            quarantine=claim_module.QUARANTINED,
        )
    ]
    assert {state.attempt for state in again} == {2}
    kinds = ["done", "error", "prune", "again", "wait", "release", "lost"]
    accepted = 0
    for at in range(0, number, 100):
        late = [
            replace(done(state), kind=kinds[place % len(kinds)], error="late")
            for place, state in enumerate(lost[at : at + 100])
        ]
        accepted += len(record_module.record_outcomes(late).accepted)
        accepted += len(
            heartbeat.renew_leases(
                [sign(state, "late") for state in lost[at : at + 100]],
                600,
            )
        )
    assert accepted == 0
    assert State.objects.filter(run=run, status="QUEUED", attempt=2, worker="w2").count() == number
    assert not run.logs.filter(message="late").exists()
    assert_counters_agree(run)
