"""Races: threads with connections of their own that change the same rows at the same moment."""

import pytest
from django.db import connection, transaction

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.models import Graph, GraphVersion, Namespace
from runs.engine import claim, control, heartbeat, lease_recovery, record
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.engine.types import Lease, Outcome
from runs.models import Run, State
from tests.support.concurrency import at_once
from tests.support.engine import done, sign
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.races]


def claim_states(limit=1, worker="w"):
    return claim.claim(worker, [claim.Group(["noop"], limit)], 30, claim.FactsCache())


@pytest.mark.parametrize("round_", range(5))
def test_the_last_two_branches_fire_their_join_once(publish, round_):
    run = start_run(publish("a>b>d a>c>d"))
    record.record_batch([done(claim_states()[0])])
    first, second = claim_states(2)
    at_once(lambda: record.record_batch([done(first)]), lambda: record.record_batch([done(second)]))
    assert by_node(run) == {"a": ["SUCCESS"], "b": ["SUCCESS"], "c": ["SUCCESS"], "d": ["CREATED"]}
    [last] = claim_states()
    record.record_batch([done(last)])
    run.refresh_from_db()
    assert run.status == "completed"
    assert_counters_agree(run)


@pytest.mark.parametrize("round_", range(5))
def test_the_last_states_end_the_run_once(publish, round_):
    run = start_run(publish("a b c d"))
    states = claim_states(4)
    at_once(*(lambda state=state: record.record_batch([done(state)]) for state in states))
    run.refresh_from_db()
    assert (run.status, run.pending_count) == ("completed", 0)
    assert_counters_agree(run)


@pytest.mark.parametrize("round_", range(10))
def test_cancel_against_a_batch_has_one_winner(publish, round_):
    run = start_run(publish("a>b"))
    [state] = claim_states()
    recorded, cancelled = at_once(
        lambda: record.record_batch([done(state)], Lease("w", 30, lambda _: True)),
        lambda: control.cancel_run(run, SYSTEM),
    )
    run.refresh_from_db()
    assert not isinstance(cancelled, Exception)
    assert run.status == "cancelled"
    assert set(by_node(run)["a"]) == ({"SUCCESS"} if recorded.accepted else {"CANCELLED"})
    assert by_node(run).get("b", ["CANCELLED"]) == ["CANCELLED"]
    assert_counters_agree(run)


def test_a_thousand_ready_states_are_claimed_once_each(publish):
    graph = publish("f>a", kinds={"f": "noop"})
    runs = [start_run(graph) for _ in range(200)]
    claimed = []

    def claim_sixty_times(worker):
        for _ in range(60):
            claimed.extend(state.id for state in claim_states(5, worker))

    at_once(*(lambda at=at: claim_sixty_times(f"w{at}") for at in range(8)))
    assert len(claimed) == len(set(claimed)) == 200
    assert State.objects.filter(run__in=runs, status="QUEUED", attempt=1).count() == 200


@pytest.mark.parametrize("round_", range(5))
def test_a_report_races_with_the_recovery_of_its_lease(publish, round_):
    run = start_run(publish("a>b"))
    [state] = claim.claim("w", [claim.Group(["noop"], 1)], -1, claim.FactsCache())
    at_once(
        lambda: record.record_batch([done(state)]),
        lease_recovery.rescue_expired,
        lease_recovery.rescue_expired,
    )
    states = by_node(run)
    recorded = {"a": ["SUCCESS"], "b": ["CREATED"]}
    taken_back = {"a": ["CREATED"]}
    assert states in (recorded, taken_back)
    lost_leases = State.objects.get(run=run, identifier="a").lost_leases
    assert lost_leases == (1 if states == taken_back else 0)
    assert_counters_agree(run)


def test_the_same_report_many_times_counts_once(publish):
    run = start_run(publish("a>b"))
    [state] = claim_states()
    results = at_once(*(lambda: record.record_batch([done(state)]) for _ in range(10)))
    assert sum(bool(result.accepted) for result in results) == 1
    assert by_node(run) == {"a": ["SUCCESS"], "b": ["CREATED"]}
    assert_counters_agree(run)


@pytest.mark.parametrize("round_", range(3))
def test_pause_resume_heartbeats_and_batches_of_one_wide_run(publish, round_):
    run = start_run(
        publish("f>a>b", kinds={"f": "fan_out"}, inputs={"f": {"items": list(range(12))}})
    )
    [root] = claim.claim("w", [claim.Group(["fan_out"], 1)], 30, claim.FactsCache())
    outputs = [{"item": at} for at in range(12)]
    record.record_batch([Outcome(root, "done", ['{"item": 1}'] * 12, outputs, True)])
    states = claim_states(12)

    def pause_and_resume():
        for _ in range(3):
            control.pause_run(run, SYSTEM)
            control.resume_run(run, SYSTEM)

    calls = [lambda state=state: record.record_batch([done(state)]) for state in states]
    results = at_once(
        *calls,
        pause_and_resume,
        *(lambda state=state: heartbeat.renew_leases([sign(state)], 30) for state in states[:4]),
    )
    assert not [result for result in results if isinstance(result, Exception)]
    assert by_node(run)["b"] == ["CREATED"] * 12
    assert_counters_agree(run)


def test_starting_the_same_run_id_at_once_makes_one_run(publish):
    graph = publish("a")
    results = at_once(*(lambda: start_run(graph, RunOptions(run_id="same")) for _ in range(8)))
    assert len({run.pk for run in results}) == 1
    assert Run.objects.count() == 1


def test_starting_different_runs_with_one_id_at_once_makes_one_run(publish):
    graph = publish("a")
    results = at_once(
        *(
            lambda at=at: start_run(graph, RunOptions(run_id="same", inputs={"value": at}))
            for at in range(4)
        )
    )
    assert sum(isinstance(result, errors.Conflict) for result in results) == 3
    assert Run.objects.count() == 1


def test_publishing_at_once_gives_each_version_a_number_of_its_own(publish):
    at_once(*(lambda at=at: publish("a", inputs={"a": {"value": at}}) for at in range(6)))
    numbers = sorted(GraphVersion.objects.values_list("number", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == 6


def test_whoever_locks_a_graph_keeps_neither_its_tenant_nor_its_starts_waiting(publish):
    """The graphs' order by the names of their namespaces once locked the namespaces, too.

    On SQLite there is one writer at a time.
    """
    graph = publish("a")
    if connection.vendor == "sqlite":
        assert "JOIN" not in str(Graph.objects.lock(graph.pk).query)
        return

    def lock_namespace():
        with transaction.atomic():
            return Namespace.objects.select_for_update(nowait=True).get(pk=graph.namespace_id)

    with transaction.atomic():
        assert Graph.objects.lock(graph.pk).get() == graph
        [locked] = at_once(lock_namespace)
        [started] = at_once(lambda: start_run(graph))
    assert locked == graph.namespace
    assert started.status == "queued"
