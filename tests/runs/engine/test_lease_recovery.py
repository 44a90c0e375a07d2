"""Leases that are lost, renewed or impossible, and what happens to their states."""

from datetime import timedelta

import pytest
from django.utils import timezone

from runs.engine import claim, heartbeat, lease_recovery, record
from runs.engine.start import start_run
from runs.models import State
from tests.support.engine import claimed, claimed_again, sign
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db


def test_a_third_lost_lease_times_out(publish):
    run = start_run(publish("a"))
    for lost in range(3):
        states = claimed_again(seconds=-1) if lost else claimed(seconds=-1)
        assert len(states) == 1
        lease_recovery.rescue_expired()
    run.refresh_from_db()
    assert (run.status, by_node(run)) == ("failed", {"a": ["TIMEDOUT"]})
    assert "worker lost" in run.error_message
    assert_counters_agree(run)


def test_impossible_leases_are_recovered(publish):
    graph = publish("a")
    runs = [start_run(graph) for _ in range(2)]
    claimed()
    State.objects.filter(run=runs[0]).update(lease_expires_at=None)
    State.objects.filter(run=runs[1]).update(lease_expires_at=timezone.now() + timedelta(days=30))
    assert lease_recovery.rescue_expired() == 2


def test_a_cluster_takes_back_only_the_states_of_its_own_dead_processes(publish):
    graph = publish("a")
    for worker in ("host:1:10", "host:1:11", "host:1:110", "host:11:10", "host_1:10"):
        start_run(graph)
        assert len(claim.claim(worker, [claim.Group(["noop"], 1)], 300, claim.FactsCache())) == 1

    lease_recovery.end_leases_of_dead("host:1", lambda: None)
    assert lease_recovery.rescue_expired() == 0, (
        "if the living processes can't be listed, states wait for the end of their leases"
    )

    lease_recovery.end_leases_of_dead("host:1", lambda: [11, 110])
    assert lease_recovery.rescue_expired() == 1
    recovered = State.objects.filter(status="CREATED")
    assert {(state.worker, state.lost_leases) for state in recovered} == {("", 1)}
    leased = State.objects.filter(status="QUEUED")
    assert sorted(leased.values_list("worker", flat=True)) == [
        "host:11:10",
        "host:1:11",
        "host:1:110",
        "host_1:10",
    ]
    assert lease_recovery.release_workers("host:1") == 2


def test_quarantined_states_run_apart_from_others_and_alone_after_a_second_loss(
    publish, executor, monkeypatch
):
    graph = publish("a", kinds={"a": "test.sleep"}, inputs={"a": {"seconds": 0}})
    states = [start_run(graph).states.get().pk for _ in range(6)]
    State.objects.filter(pk__in=states[:3]).update(lost_leases=1)
    State.objects.filter(pk__in=states[3:5]).update(lost_leases=2)

    lost_leases_by_claim = []

    def noting(claims):
        def note_lost_leases(*args):
            states = claims(*args)
            if states:
                lost_leases_by_claim.append(sorted(state.lost_leases for state in states))
            return states

        return note_lost_leases

    for name in ("claim", "claim_quarantined"):
        monkeypatch.setattr(claim, name, noting(getattr(claim, name)))
    while executor.drain():
        pass
    assert sorted(lost_leases_by_claim) == [[0], [1, 1, 1], [2], [2]]
    assert set(State.objects.values_list("status", flat=True)) == {"SUCCESS"}


def test_the_sweeper_leaves_a_lease_that_was_renewed_meanwhile(publish, monkeypatch):
    run = start_run(publish("a"))
    [state] = claimed(seconds=-1)
    record_outcomes = record.record_outcomes

    def renew_before_recording(outcomes, **options):
        assert heartbeat.renew_leases([sign(state)], 30).held == {state.id}
        return record_outcomes(outcomes, **options)

    monkeypatch.setattr(record, "record_outcomes", renew_before_recording)
    assert lease_recovery.rescue_expired() == 0
    assert list(run.states.values_list("status", "lost_leases")) == [("QUEUED", 0)]
