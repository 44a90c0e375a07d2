"""Faults of nodes, workers and callers.

A fault harms only the state in which it happens, and a report that comes too late changes nothing.
"""

import json
import threading
import tracemalloc
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from graphs.definition import errors
from graphs.models import GraphVersion, plan_of
from graphs.nodes.base import NodeFailed, RunAgain, registry
from runs.actions import delete
from runs.cluster.supervisor import Supervisor
from runs.engine import claim, heartbeat, lease_recovery, node_threads, record, turns
from runs.engine.executor import Executor
from runs.engine.new_run import RunOptions
from runs.engine.node_context import NodeContext
from runs.engine.start import start_run
from runs.engine.types import Outcome, idempotency_key
from runs.models import Cluster, LogLine, Run, State, ToolResult
from tests import nodes
from tests.support.engine import claimed, claimed_again, done, sign
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db


def test_a_late_report_changes_nothing(publish):
    run = start_run(publish("a>b"))
    [first] = claimed(seconds=-1)
    assert lease_recovery.rescue_expired() == 1
    [second] = claimed_again()
    assert (second.attempt, second.lost_leases) == (2, 1)
    assert not record.record_batch([done(first)]).accepted
    assert not heartbeat.renew_leases([sign(first, "late")], 30).held
    assert record.record_batch([done(second)]).accepted
    assert not record.record_batch([done(second)]).accepted
    assert by_node(run) == {"a": ["SUCCESS"], "b": ["CREATED"]}
    assert not run.logs.filter(message="late").exists()
    assert_counters_agree(run)


def test_a_state_before_those_that_were_taken_is_found_by_the_next_lookup(publish, monkeypatch):
    """A state whose transaction was slow is older than what was claimed in the meantime."""
    graph = publish("a")
    remembered = turns.Turns()
    now = [100.0]
    monkeypatch.setattr(turns, "monotonic", lambda: now[0])

    def claim_one():
        states = claim.claim("w", [claim.Group(["noop"], 1)], 30, claim.FactsCache(), remembered)
        return [state.run.run_id for state in states]

    def start_late(name):
        run = start_run(graph, RunOptions(run_id=name))
        State.objects.filter(run=run).update(claim_at=timezone.now() - timedelta(hours=5))

    for name in ("a", "b", "c", "d"):
        start_run(graph, RunOptions(run_id=name))
    assert claim_one() == ["a"]

    start_late("late")
    now[0] += turns.LOOKUP_SECONDS / 2
    has_floor = connection.vendor == "postgresql"
    assert claim_one() == ["b" if has_floor else "late"]
    now[0] += turns.LOOKUP_SECONDS
    assert claim_one() == ["late" if has_floor else "b"]
    assert claim_one() + claim_one() == ["c", "d"]

    start_late("last")
    worker = Executor(threads=False)
    worker.turns = remembered
    assert worker.drain() == 1
    assert not State.objects.exclude(status__in=["SUCCESS", "QUEUED"]).exists()


@pytest.mark.django_db(transaction=True)
def test_a_process_does_not_take_a_new_row_for_the_one_that_had_its_id(publish):
    """After a failover, ids of rows that were lost are given again, on another connection."""
    facts = claim.FactsCache()
    lost_graph, graph = publish("a", name="lost"), publish("b", name="new")
    lost = start_run(lost_graph, RunOptions(run_id="lost", inputs={"x": 1}))
    [state] = claim.claim("w", [claim.Group(["noop"], 1)], 30, facts)
    assert (state.run.run_id, state.node.id) == ("lost", "a")

    late = start_run(graph, RunOptions(run_id="new", inputs={"x": 2}))
    with transaction.atomic():  # foreign keys are checked at its end
        for rows in (State, LogLine):
            rows.objects.filter(run=lost).delete()
            rows.objects.filter(run=late).update(run=lost.pk)
        Run.objects.filter(pk=lost.pk)._raw_delete("default")
        Run.objects.filter(pk=late.pk).update(id=lost.pk)
    created = Run.objects.get(pk=lost.pk).created_at
    if connection.vendor == "postgresql":
        shared = facts.get({lost.pk: created})[lost.pk]
        assert shared.run_id == "new", "threads that share facts check them"
    facts.get({lost.pk: None})
    connection.close()
    [state] = claim.claim("w", [claim.Group(["noop"], 1)], 30, facts)
    assert state.run.pk == lost.pk
    assert (state.run.run_id, state.run.inputs, state.node.id) == ("new", {"x": 2}, "b")

    assert plan_of(graph.current_id, graph.current.checksum).nodes.keys() == {"b"}
    GraphVersion.objects.filter(pk=graph.current_id).update(
        definition=lost_graph.current.definition, checksum=lost_graph.current.checksum
    )
    assert plan_of(graph.current_id, lost_graph.current.checksum).nodes.keys() == {"a"}
    with pytest.raises(errors.NotFound):
        plan_of(graph.current_id, "another")


def test_a_tool_result_is_not_given_to_the_run_that_has_the_id_now(publish):
    start_run(publish("a"))
    [state] = claimed()
    State.objects.filter(pk=state.id).delete()
    with pytest.raises(NodeFailed):
        NodeContext(state).once("tool", {}, lambda: 1)
    assert not ToolResult.objects.exists()


def test_a_batch_with_one_late_outcome_records_the_others(publish):
    graph = publish("a>b")
    runs = [start_run(graph) for _ in range(3)]
    states = claimed()
    record.record_batch([done(states[1])])
    assert set(record.record_batch([done(state) for state in states]).accepted) == {
        states[0].id,
        states[2].id,
    }
    for run in runs:
        assert by_node(run) == {"a": ["SUCCESS"], "b": ["CREATED"]}
        assert_counters_agree(run)


def test_a_result_that_cannot_be_recorded_fails_only_its_own_state(publish, monkeypatch):
    graph = publish("a>b")
    good, bad = start_run(graph), start_run(graph)
    states = claimed()
    outcomes = [done(state) for state in states]
    for outcome in outcomes:
        if outcome.state.run.pk == bad.pk:
            outcome.emitted = -5  # The database refuses negative counts.
    record.record_outcomes(outcomes)
    bad.refresh_from_db()
    assert (bad.status, by_node(bad)) == ("failed", {"a": ["NEXT_CREATED_ERROR"]})
    assert "can't be recorded" in bad.error_message
    assert by_node(good) == {"a": ["SUCCESS"], "b": ["CREATED"]}


def test_the_context_refuses_impossible_values(publish):
    start_run(publish("a"))
    context = NodeContext(claimed()[0])
    for impossible_call in (
        lambda: context.emit(-5),
        lambda: context.progress(float("nan")),
        lambda: context.log("x", "loud"),
    ):
        with pytest.raises((NodeFailed, ValueError)):
            impossible_call()


def test_the_name_of_an_artifact_is_shortened(publish):
    start_run(publish("a"))
    context = NodeContext(claimed()[0])
    with context.artifact("a\x00b\ud800" + "x" * 300) as file:
        file.write(b"x")
    assert len(file.file["name"]) <= 200


def test_reading_log_lines_from_two_threads_loses_none(publish):
    start_run(publish("a"))
    context = NodeContext(claimed()[0])
    taken = []
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
def test_run_again_accepts_any_number_without_losing_the_state(
    publish, drain, seconds, monkeypatch
):
    def again(ctx, seconds=0.0, times=1, delay=seconds):
        if ctx.attempt == 1:
            raise RunAgain(delay)
        return {}

    monkeypatch.setitem(registry, "test.again", replace(registry["test.again"], call=again))
    run = start_run(publish("a", kinds={"a": "test.again"}))
    drain()
    state = run.states.get()
    assert state.status != "CREATED" or state.due_at is not None
    assert_counters_agree(run)


def test_a_released_state_keeps_its_delay(publish, drain):
    run = start_run(publish("d", kinds={"d": "delay"}, inputs={"d": {"seconds": 3600}}))
    record.record_batch([Outcome(claimed(["delay"])[0], "release")])
    drain()
    state = run.states.get()
    assert state.status == "CREATED"
    assert state.due_at > timezone.now() + timedelta(minutes=50)


def test_a_failed_attempt_leaves_no_files_and_no_emitted_rows(publish, drain, monkeypatch):
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
def test_max_failures_may_be_a_number_or_a_percentage(run_graph, limit):
    run = run_graph("a", kinds={"a": "test.fail"}, settings={"max_failures": limit})
    assert run.status == "failed"


def test_side_effects_are_recorded_alone(publish, monkeypatch):
    plain = publish("a", name="plain")
    with_effects = publish("a", name="effect", data={"a": {"side_effects": True}})
    for graph in (plain, with_effects, plain, with_effects):
        start_run(graph)

    batches = []
    record_outcomes = record.record_outcomes

    def note_side_effects(outcomes, *others):
        executed = [outcome for outcome in outcomes if outcome.kind != "release"]
        batches.append([outcome.state.node.side_effects for outcome in executed])
        return record_outcomes(outcomes, *others)

    monkeypatch.setattr(record, "record_outcomes", note_side_effects)
    worker = Executor(threads=False)
    worker.lanes.speed = {"noop": 1e-4}
    worker.drain()
    assert all(side_effects == [True] for side_effects in batches if True in side_effects)
    assert not Run.objects.exclude(status="completed").exists()


def test_a_worker_runs_one_node_with_side_effects_at_a_time(publish):
    """If the worker dies, one side effect at most is repeated, not one for each node thread."""
    sending = publish("a", name="sent", kinds={"a": "test.send"})
    waiting = publish(
        "a", name="waited", kinds={"a": "test.sleep"}, inputs={"a": {"seconds": 0.05}}
    )
    for graph in [sending, waiting] * 6:
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


def test_reports_on_a_deleted_run_are_dropped(publish):
    run = start_run(publish("a"))
    [state] = claimed()
    delete.delete_graph(run.graph)
    assert not record.record_batch([done(state)]).accepted
    assert not State.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_node_that_raises_an_exit_exception_just_fails(publish, monkeypatch, error):
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
    """A worker writes in every possible way with the attempt that it lost.

    It tries 10,000 times with --chaos-rounds, and 1,000 times otherwise.
    """
    number = 10_000 if request.config.getoption("--chaos-rounds") else 1_000
    run = start_run(
        publish(
            "out>work",
            kinds={"out": "test.each", "work": "test.work"},
            inputs={"out": {"items": list(range(number))}},
        )
    )
    [first] = claimed(["test.each"])
    items = [{"value": at} for at in range(number)]
    serialized = [json.dumps(item) for item in items]
    record.record_batch([Outcome(first, "done", serialized, items, fanned=True)])

    lost = [state for _ in range(number // 100) for state in claimed(["test.work"], -1)]
    assert len(lost) == number
    assert lease_recovery.rescue_expired() == number
    reclaimed = []
    for _ in range(number // 100):
        reclaimed += claimed_again("test.work", 600, 100, "w2")
    assert {state.attempt for state in reclaimed} == {2}

    kinds = ["done", "error", "prune", "again", "wait", "release", "lost"]
    accepted = 0
    for start in range(0, number, 100):
        states = lost[start : start + 100]
        outcomes = [
            replace(done(state), kind=kinds[at % len(kinds)], error="late")
            for at, state in enumerate(states)
        ]
        accepted += len(record.record_outcomes(outcomes).accepted)
        signs = [sign(state, "late") for state in states]
        accepted += len(heartbeat.renew_leases(signs, 600).held)
    assert accepted == 0
    assert State.objects.filter(run=run, status="QUEUED", attempt=2, worker="w2").count() == number
    assert not run.logs.filter(message="late").exists()
    assert_counters_agree(run)


def test_inputs_that_would_be_too_large_are_never_made(publish, drain, conf):
    """There are 400 placeholders for a text of a quarter of the limit."""
    conf.MAX_PAYLOAD_BYTES = 2**20
    texts = {f"t{at}": "${{ a.outputs.value }}" for at in range(400)}
    graph = publish(
        "a>b>c a>d",
        kinds={"a": "test.work", "b": "test.work", "d": "test.work"},
        inputs={"a": {"value": "${{ run.inputs.text }}"}, "b": {"value": texts}},
    )
    run = start_run(graph, RunOptions(inputs={"text": "x" * 2**18}))
    tracemalloc.start()
    try:
        drain()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20
    assert by_node(run) == {"a": ["NEXT_CREATED_ERROR"]}
    assert "1,048,576 bytes" in run.states.get().error


@pytest.mark.parametrize("kind", ["fan_out", "test.each"], ids=["list", "generator"])
def test_a_list_and_a_generator_have_the_same_limits(publish, drain, monkeypatch, kind):
    monkeypatch.setattr(node_threads, "MAX_FAN_OUT", 50)
    monkeypatch.setattr(node_threads, "MAX_FAN_OUT_BYTES", 10_000)
    graph = publish("a", kinds={"a": kind}, inputs={"a": {"items": []}})

    def errors_of(items):
        run = start_run(graph, RunOptions(inputs={"items": items}))
        drain()
        return {state.error for state in run.states.all()}

    assert errors_of([1] * 50) == {""}
    assert errors_of([1] * 51) == {"it has more than 50 outputs"}
    assert errors_of(["x" * 1000] * 9) == {""}
    too_much = {"its outputs have more than 10,000 bytes together"}
    assert errors_of(["x" * 1000] * 10) == too_much
    assert errors_of(["é" * 500] * 9) == {""}
    assert errors_of(["é" * 500] * 10) == too_much  # of two bytes each


@pytest.mark.parametrize("what", ["number", "zero", "empty", "zeros", "lists"])
def test_an_output_that_is_no_object_is_refused(publish, drain, what):
    run = start_run(publish("a", kinds={"a": "test.return"}, inputs={"a": {"what": what}}))
    drain()
    assert "an output is an object" in run.states.get().error


def test_idempotency_keys_of_different_steps_differ():
    """They are sent in headers, so they are ASCII, and receivers don't know our namespaces."""
    steps = [
        ("a", "order-1", "charge"),
        ("b", "order-1", "charge"),
        ("a:order-1", "x", "charge"),
        ("a", "order-1:x", "charge"),
        ("a", "bestellung-ä", "charge"),
        ("a", "bestellung-ö", "charge"),
        ("a", "order-1", "charge@2:0"),
        ("a", "order-1", "größe"),
    ]
    keys = [idempotency_key(*step) for step in steps]
    assert len(set(keys)) == len(steps)
    assert all(key.isascii() for key in keys)
    assert keys[0] == "a:order-1:charge"


def test_a_schema_that_was_stored_before_it_had_a_budget_is_named(publish):
    """Starting a run answers with the reason, not with an error of the server."""
    graph = publish("a")
    twice = {f"a{at}": {"allOf": [{"$ref": f"#/$defs/a{at + 1}"}] * 2} for at in range(20)}
    schema = {"$defs": {**twice, "a20": {}}, "$ref": "#/$defs/a0"}
    GraphVersion.objects.update(definition={**graph.current.definition, "inputs": schema})
    with pytest.raises(errors.Malformed, match="10,000 evaluations"):
        start_run(graph)
