"""Concurrency limits: how many runs of a graph, or of one key, are active at once."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from runs.actions import delete
from runs.actions.rerun import RerunOptions, rerun
from runs.core import sql
from runs.engine import (
    concurrency,
    control,
    counters,
    create_states,
    deadlines,
    record,
    slots,
)
from runs.engine.claimed_states import FactsCache, states_by_id
from runs.engine.new_run import RunOptions
from runs.engine.retry import retry_failed
from runs.engine.start import start_run
from runs.engine.start_many import start_many
from runs.engine.types import Outcome
from runs.models import Run, RunSlot, State
from runs.queries.wait_reasons import why_waiting
from tests.support.clusters import until
from tests.support.concurrency import at_once
from tests.support.engine import claimed
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def limited(publish):
    """Publish a graph of one node whose runs have a concurrency limit."""

    def make(limit=1, drawing="a", **options):
        return publish(drawing, settings={"concurrency": {"limit": limit, **options}})

    return make


def claimed_runs():
    """Claim everything that is ready; return the ids of the runs that were claimed."""
    return [state.run.pk for state in claimed()]


def end(*runs, kind="done"):
    """Record the outcomes of the states that a worker has claimed in these runs."""
    states = State.objects.filter(run__in=runs, status="QUEUED")
    held = states_by_id([state.pk.hex for state in states], FactsCache())
    outcomes = [
        Outcome(state, "done", ["{}"], [{}])
        if kind == "done"
        else Outcome(state, "error", error="boom")
        for state in held
    ]
    record.record_batch(outcomes)


def due_now():
    """Let the delays of all runs that wait for a slot be over."""
    now = sql.clock() - timedelta(seconds=1)
    RunSlot.objects.filter(taken_at=None).update(available_at=now)
    State.objects.filter(due_at=None).update(claim_at=now)


def statuses(*runs):
    by_pk = dict(Run.objects.filter(pk__in=[run.pk for run in runs]).values_list("pk", "status"))
    return [by_pk.get(run.pk) for run in runs]


def test_a_run_waits_until_another_one_has_ended(limited):
    graph = limited()
    first, second, third = (start_run(graph) for _ in range(3))
    assert claimed_runs() == [first.pk]
    assert statuses(second, third) == ["queued", "queued"]
    end(first)
    assert claimed_runs() == [second.pk]
    end(second)
    assert claimed_runs() == [third.pk]
    end(third)
    assert statuses(first, second, third) == ["completed"] * 3
    assert not RunSlot.objects.exists()
    for run in (first, second, third):
        run.refresh_from_db()
        assert_counters_agree(run)


def test_as_many_runs_are_active_as_the_limit_says(limited):
    graph = limited(3)
    runs = start_many(graph, [RunOptions() for _ in range(10)])
    assert sorted(claimed_runs()) == sorted(run.pk for run in runs[:3])
    end(*runs[:2])
    assert sorted(claimed_runs()) == sorted(run.pk for run in runs[3:5])


def test_the_slot_is_kept_for_the_whole_run(limited):
    graph = limited(1, "a>b")
    first, second = start_run(graph), start_run(graph)
    assert claimed_runs() == [first.pk]
    end(first)
    assert claimed_runs() == [first.pk], "its next node, not the other run"
    end(first)
    assert claimed_runs() == [second.pk]


def test_the_limit_holds_for_each_value_of_the_key(limited):
    graph = limited(1, key="inputs.customer")
    runs = [
        start_run(graph, RunOptions(inputs={"customer": name})) for name in ("ada", "bob", "ada")
    ]
    assert sorted(claimed_runs()) == sorted([runs[0].pk, runs[1].pk])
    end(runs[1])
    assert claimed_runs() == [], "ada still has her run"
    end(runs[0])
    assert claimed_runs() == [runs[2].pk]


@pytest.mark.parametrize(
    ("key", "value"), [("labels.team", "red"), ("inputs.n * 2", 4), ("inputs.n > 1", True)]
)
def test_a_key_is_a_text_a_number_or_true_or_false(limited, key, value):
    graph = limited(1, key=key)
    run = start_run(graph, RunOptions(inputs={"n": 2}, labels={"team": "red"}))
    assert RunSlot.objects.get(run=run).key == str(value).lower()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "there is no field"),
        ({"customer": None}, "must be a text, a number, true or false"),
        ({"customer": ["ada"]}, "must be a text, a number, true or false"),
        ({"customer": "x" * 201}, "has 201 characters. It may have 200"),
    ],
)
def test_a_start_whose_key_has_no_value_is_refused(limited, inputs, said):
    graph = limited(1, key="inputs.customer")
    with pytest.raises(errors.Malformed, match=said):
        start_run(graph, RunOptions(inputs=inputs))
    with pytest.raises(errors.Malformed) as refused:
        start_many(graph, [RunOptions(inputs={"customer": "ada"}), RunOptions(inputs=inputs)])
    assert said in refused.value.extra["errors"][0]
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"limit": 0}, "minimum"),
        ({"limit": 10_001}, "maximum"),
        ({}, "required"),
        ({"limit": 1, "at_limit": "wait"}, "one of"),
        ({"limit": 1, "key": "inputs."}, "not a valid expression"),
        ({"limit": 1, "key": "x" * 2001}, "2000 characters"),
        ({"limit": 1, "keys": "a"}, "dditional"),
    ],
)
def test_a_wrong_limit_is_refused_when_the_graph_is_stored(publish, settings, said):
    with pytest.raises(errors.InvalidGraph) as refused:
        publish("a", settings={"concurrency": settings})
    assert said in str(refused.value.extra) + str(refused.value)


# --- what becomes of a run at the limit ----------------------------------------------------------


def test_skip_cancels_the_run_that_starts(limited):
    graph = limited(1, at_limit="skip")
    first, second = start_run(graph), start_run(graph)
    assert statuses(first, second) == ["queued", "cancelled"]
    assert second.status == "cancelled", "the caller is told"
    second.refresh_from_db()
    assert second.error_message.startswith("Skipped: a run of this graph")
    assert by_node(second) == {"a": ["CANCELLED"]}
    assert_counters_agree(second)
    assert claimed_runs() == [first.pk]
    end(first)
    assert statuses(start_run(graph)) == ["queued"]


def test_cancel_queued_keeps_the_newest_of_the_runs_that_wait(limited):
    graph = limited(1, at_limit="cancel_queued")
    runs = [start_run(graph) for _ in range(4)]
    assert statuses(*runs) == ["queued", "cancelled", "cancelled", "queued"]
    assert claimed_runs() == [runs[0].pk]
    end(runs[0])
    assert claimed_runs() == [runs[3].pk]


def test_cancel_running_lets_the_newest_run_take_the_slot_of_the_oldest(limited):
    graph = limited(2, at_limit="cancel_running")
    first, second = start_run(graph), start_run(graph)
    assert len(claimed_runs()) == 2
    third = start_run(graph)
    assert statuses(first, second, third) == ["cancelled", "running", "queued"]
    assert claimed_runs() == [third.pk]
    end(first, second, third)  # that of the cancelled run comes too late
    assert statuses(first, second, third) == ["cancelled", "completed", "completed"]


@pytest.mark.parametrize("at_limit", ["cancel_queued", "cancel_running"])
def test_runs_that_start_together_replace_each_other(limited, at_limit):
    runs = start_many(limited(1, at_limit=at_limit), [RunOptions(run_id=f"r{n}") for n in range(3)])
    kept = {"cancel_queued": [0, 2], "cancel_running": [2]}[at_limit]
    expected = ["queued" if at in kept else "cancelled" for at in range(3)]
    assert statuses(*runs) == expected


@pytest.mark.parametrize("at_limit", ["queue", "skip", "cancel_queued", "cancel_running"])
def test_many_starts_take_as_many_statements_as_some(limited, at_limit):
    graph = limited(1, at_limit=at_limit)
    for _ in range(2):
        start_run(graph)
    costs = []
    for number in (5, 50):
        with CaptureQueriesContext(connection) as queries:
            start_many(graph, [RunOptions() for _ in range(number)])
        costs.append(len(queries))
    assert costs[0] == costs[1]


# --- every way in which a run ends or goes on ----------------------------------------------------


def test_a_slot_comes_back_however_the_run_ends(limited):
    graph = limited()

    def fail(run):
        claimed()
        end(run, kind="error")

    def stop_late(run):
        claimed()
        deadlines.RunDeadline.objects.update(at=sql.clock() - timedelta(hours=1))
        State.objects.update(started_at=F("started_at") - timedelta(hours=1))
        RunSlot.objects.filter(run=run).update(taken_at=F("taken_at") - timedelta(hours=1))
        assert deadlines.sweep() == 1

    ways = {
        "completed": lambda run: (claimed(), end(run)),
        "failed": fail,
        "cancelled": lambda run: control.cancel_run(run, SYSTEM),
        "deleted": lambda run: (delete.delete_run(run, even_active=True), slots.Sweeper().sweep()),
        "late": stop_late,
    }
    for name, way in ways.items():
        first, second = start_run(graph, RunOptions(timeout=60)), start_run(graph)
        way(first)
        assert RunSlot.objects.get(run=second).taken_at, name
        control.cancel_run(second, SYSTEM)
        assert not RunSlot.objects.exists(), name


def test_a_run_that_is_retried_after_its_end_waits_for_a_slot_again(limited):
    graph = limited()
    first, second = start_run(graph), start_run(graph)
    claimed()
    end(first, kind="error")
    assert claimed_runs() == [second.pk]
    retry_failed(first, SYSTEM)
    assert claimed_runs() == []
    assert "It waits for a slot" in why_waiting(first)[0]
    end(second)
    assert claimed_runs() == [first.pk]


def test_a_rerun_and_a_partial_rerun_wait_for_a_slot(limited):
    graph = limited(1, "a>b")
    first = start_run(graph)
    claimed()
    end(first)
    claimed()
    end(first, kind="error")
    holder = start_run(graph)
    whole = rerun(first, SYSTEM, RerunOptions())
    part = rerun(first, SYSTEM, RerunOptions(node="b"))
    assert claimed_runs() == [holder.pk]
    assert RunSlot.objects.filter(run__in=[whole, part], taken_at=None).count() == 2
    control.cancel_run(holder, SYSTEM)
    assert claimed_runs() == [whole.pk]
    control.cancel_run(whole, SYSTEM)
    assert claimed_runs() == [part.pk]


def test_a_delayed_run_asks_for_a_slot_when_it_is_due(limited):
    graph = limited()
    delayed = start_run(graph, RunOptions(delay=60))
    now = start_run(graph)
    assert claimed_runs() == [now.pk], "a delayed run holds no slot"
    end(now)
    assert claimed_runs() == []
    due_now()
    assert slots.Sweeper().sweep() == 1
    assert claimed_runs() == [delayed.pk]


def test_states_that_are_made_in_a_run_that_waits_wait_too(limited):
    graph = limited(1, "a b")
    holder = start_run(graph)
    create_states.create_states(graph, "made", [("a", {})], SYSTEM)
    create_states.create_states(graph, "made", [("b", {})], SYSTEM)
    assert set(claimed_runs()) == {holder.pk}
    control.cancel_run(holder, SYSTEM)
    assert len(claimed_runs()) == 2


def test_the_sweep_gives_slots_that_nobody_gave(limited, monkeypatch):
    """As if the process died between the end of a run and what follows its commit."""
    graph = limited()
    first, second = start_run(graph), start_run(graph)
    claimed()
    monkeypatch.setattr(slots, "_fill_after_commit", lambda queues: None)
    end(first)
    assert claimed_runs() == []
    assert slots.Sweeper().sweep() == 1
    assert claimed_runs() == [second.pk]


def test_the_sweep_looks_at_some_queues_in_each_round(limited, monkeypatch):
    graph = limited(1, key="inputs.n")
    for n in range(5):
        start_run(graph, RunOptions(inputs={"n": n}))
        start_run(graph, RunOptions(inputs={"n": n}))
    RunSlot.objects.filter(taken_at__isnull=False).delete()
    monkeypatch.setattr(slots, "QUEUES", 2)
    slots._queues_statement.cache_clear()
    try:
        sweeper = slots.Sweeper()
        assert [sweeper.sweep() for _ in range(4)] == [2, 2, 1, 0]
    finally:
        slots._queues_statement.cache_clear()


def test_slots_of_runs_that_an_old_version_ended_come_back(limited):
    graph = limited()
    first, second = start_run(graph), start_run(graph)
    Run.objects.filter(pk=first.pk).update(status="completed", finished_at=sql.clock())
    slots.forget_ended()
    assert RunSlot.objects.get().run_id == second.pk
    assert RunSlot.objects.get().taken_at


def test_why_a_run_waits_names_the_limit_and_who_is_active(limited):
    graph = limited(2, key="labels.team")
    runs = [start_run(graph, RunOptions(run_id=f"r{n}", labels={"team": "red"})) for n in range(3)]
    assert why_waiting(runs[2])[0] == (
        "It waits for a slot: 2 runs of the graph with the key 'red' may be active at once; "
        "active now: r0, r1."
    )
    assert "red" not in why_waiting(runs[2], payloads=False)[0]


def test_a_new_version_with_another_limit_holds_for_the_runs_that_it_starts(limited):
    old = [start_run(limited(2)) for _ in range(2)]
    new = [start_run(limited(1)) for _ in range(2)]
    assert sorted(claimed_runs()) == sorted(run.pk for run in old)
    end(old[0])
    assert claimed_runs() == [], "there is still as many as the new version allows"
    end(old[1])
    assert claimed_runs() == [new[0].pk]


# --- at the same moment --------------------------------------------------------------------------


@pytest.mark.races
def test_runs_that_start_and_end_at_once_are_never_too_many(limited):
    graph = limited(3)
    started = at_once(*[lambda: start_run(graph)] * 12)
    assert [run for run in started if isinstance(run, Exception)] == []
    ended = 0
    while ended < 12:
        taken = set(RunSlot.objects.filter(taken_at__isnull=False).values_list("run_id", flat=True))
        assert len(taken) == min(3, 12 - ended)
        assert set(claimed_runs()) <= taken
        at_once(*[lambda pk=pk: end(pk) for pk in taken])
        slots.Sweeper().sweep()
        ended += len(taken)
    assert set(Run.objects.values_list("status", flat=True)) == {"completed"}
    assert not RunSlot.objects.exists()


@pytest.mark.races
def test_runs_that_replace_each_other_at_once_leave_one(limited):
    graph = limited(1, at_limit="cancel_running")
    started = at_once(*[lambda: start_run(graph)] * 8)
    assert [run for run in started if isinstance(run, Exception)] == []
    assert sorted(statuses(*started)) == ["cancelled"] * 7 + ["queued"]
    assert RunSlot.objects.filter(taken_at__isnull=False).count() == 1


# --- what an independent look found ---------------------------------------------------------------


@pytest.mark.parametrize("at_limit", ["queue", "skip", "cancel_queued", "cancel_running"])
def test_a_delayed_run_that_is_due_comes_before_a_new_one_while_there_are_slots(limited, at_limit):
    graph = limited(2, at_limit=at_limit)
    delayed = start_run(graph, RunOptions(delay=60))
    due_now()
    new = start_run(graph)
    assert statuses(delayed, new) == ["queued", "queued"]
    assert RunSlot.objects.filter(taken_at__isnull=False).count() == 2


def test_cancel_running_gives_the_slot_to_the_run_that_starts(limited):
    graph = limited(1, at_limit="cancel_running")
    first, second = start_run(graph), start_run(graph)
    retry_failed(first, SYSTEM)  # waits
    third = start_run(graph)
    assert statuses(second, third) == ["cancelled", "queued"]
    assert RunSlot.objects.get(taken_at__isnull=False).run_id == third.pk


def test_runs_that_are_cancelled_by_others_of_their_request_are_returned_as_such(limited):
    runs = start_many(limited(1, at_limit="cancel_running"), [RunOptions() for _ in range(3)])
    assert [run.status for run in runs] == ["cancelled", "cancelled", "queued"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (0, -0.0, True),
        (10**16, 1e16, True),
        (2**63, float(2**63), True),
        (1, "1", False),
        (True, "true", False),
        (1, True, False),
        ("", 0, False),
        (0.1, 0.10000000000000001, True),
    ],
)
def test_equal_values_share_the_limit_and_others_do_not(limited, one, other, same):
    graph = limited(1, key="inputs.k")
    for value in (one, other):
        start_run(graph, RunOptions(inputs={"k": value}))
    queues = set(RunSlot.objects.values_list("queue", flat=True))
    assert len(queues) == (1 if same else 2)
    for run in Run.objects.all():  # as they come back from the database
        assert {concurrency.wanted(run, graph.current.plan).queue} <= queues


def test_a_retried_run_that_waits_has_not_started(limited):
    graph = limited()
    first = start_run(graph, RunOptions(timeout=60, start_by=600))
    claimed()
    end(first, kind="error")
    second = start_run(graph)
    retry_failed(first, SYSTEM)
    deadlines.RunDeadline.objects.update(
        at=sql.clock() - timedelta(hours=1), retried_at=sql.clock() - timedelta(hours=1)
    )
    State.objects.update(started_at=F("started_at") - timedelta(hours=2))
    assert deadlines.sweep() == 0, "its timeout counts from its slot on"
    late = sql.clock() - timedelta(seconds=1)
    deadlines.RunDeadline.objects.filter(run=first).update(at=late, start_by=late)
    assert deadlines.sweep() == 1
    first.refresh_from_db()
    assert "had not started by" in first.error_message
    assert statuses(second) == ["queued"]


def test_the_delay_of_states_that_are_added_to_a_run_that_waits_is_kept(limited):
    graph = limited(1, "a b")
    holder = start_run(graph)
    create_states.create_states(graph, "made", [("a", {})], SYSTEM)
    create_states.create_states(graph, "made", [("b", {})], SYSTEM, delay=600)
    control.cancel_run(holder, SYSTEM)
    assert [state.identifier for state in claimed()] == ["a"]
    delayed = State.objects.get(identifier="b", run__run_id="made")
    assert delayed.due_at > sql.clock() + timedelta(seconds=500)


def test_a_rerun_of_states_that_were_made_asks_with_its_own_labels_and_once(limited):
    graph = limited(1, "a", key="has(labels.team) ? labels.team : 'none'", at_limit="skip")
    for _ in range(2):
        made, _ = create_states.create_states(graph, "made", [("a", {})], SYSTEM)
    Run.objects.filter(pk=made.pk).update(labels={"team": "red"})
    made.refresh_from_db()
    control.cancel_run(made, SYSTEM)
    again = rerun(made, SYSTEM)
    assert RunSlot.objects.get().key == "red"
    other = rerun(made, SYSTEM)
    assert statuses(again, other) == ["queued", "cancelled"]


def test_a_delayed_run_says_when_it_is_due(limited):
    run = start_run(limited(), RunOptions(delay=600))
    [sentence] = why_waiting(run)
    assert sentence.startswith("It is due at ")


def test_a_key_that_no_run_knows_is_refused_when_the_graph_is_stored(limited):
    for key in ("outputs.x", "now", "inputs.items.map(i, other)"):
        with pytest.raises(errors.InvalidGraph):
            limited(1, key=key)
    limited(1, key="inputs.items.map(i, i.n)[0]")


def waits_for_a_lock():
    return bool(sql.run("SELECT 1 FROM pg_locks WHERE NOT granted LIMIT 1"))


@pytest.mark.races
def test_a_rerun_and_a_start_that_replaces_its_original_do_not_wait_for_each_other(
    limited, database
):
    """A rerun locks its original and then asks for a slot; the start locks them the other way."""
    if database == "sqlite":
        return  # it has one writer at a time
    graph = limited(1, at_limit="cancel_running")
    original = start_run(graph)
    asks, may_ask = threading.Event(), threading.Event()

    def rerun_original():
        with transaction.atomic():
            counters.lock([original.pk])
            asks.set()
            assert may_ask.wait(20)
            return start_run(graph)

    def start_another():
        assert asks.wait(20)
        with transaction.atomic():
            run = start_run(graph)
            may_ask.set()
            until(waits_for_a_lock, 20)
            return run

    results = at_once(rerun_original, start_another)
    assert [result for result in results if isinstance(result, Exception)] == []
    assert statuses(original) == ["cancelled"]
