"""Leases that are lost, absurd or renewed, and what ran under them."""

from datetime import timedelta

import pytest
from django.utils import timezone

from runs.engine import claim as claim_module
from runs.engine import heartbeat, lease_recovery
from runs.engine import record as record_module
from runs.engine.start import start_run
from runs.models import State
from tests.support.engine import claimed, sign
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db


def test_third_lost_lease_times_out(publish):
    run = start_run(publish("a"))
    for lost in range(3):
        assert (
            len(
                claim_module.claim(
                    "w",
                    [(["noop"], 1)],
                    -1,
                    claim_module.FactsCache(),
                    quarantine=f"lost_leases = {lost}",
                )
            )
            == 1
        )
        lease_recovery.rescue_expired()
    run.refresh_from_db()
    assert (run.status, by_node(run)) == ("failed", {"a": ["TIMEDOUT"]})
    assert "worker lost" in run.error_message
    assert_counters_agree(run)


def test_absurd_leases_are_taken_back(publish):
    graph = publish("a")
    runs = [start_run(graph) for _ in range(2)]
    claimed()
    State.objects.filter(run=runs[0]).update(lease_expires_at=None)
    State.objects.filter(run=runs[1]).update(lease_expires_at=timezone.now() + timedelta(days=30))
    assert lease_recovery.rescue_expired() == 2


def test_only_what_the_dead_of_a_cluster_held_is_taken_back_before_its_lease(publish):
    graph = publish("a")
    for worker in ("host:1:10", "host:1:11", "host:1:110", "host:11:10", "host_1:10"):
        start_run(graph)
        assert len(claim_module.claim(worker, [(["noop"], 1)], 300, claim_module.FactsCache())) == 1
    lease_recovery.end_leases_of_dead("host:1", lambda: None)
    assert lease_recovery.rescue_expired() == 0, (
        "where processes can't be seen, leases are all that there is"
    )
    lease_recovery.end_leases_of_dead("host:1", lambda: [11, 110])
    assert lease_recovery.rescue_expired() == 1
    assert {
        (each.worker, each.status, each.lost_leases)
        for each in State.objects.filter(status="CREATED")
    } == {("", "CREATED", 1)}
    assert sorted(State.objects.filter(status="QUEUED").values_list("worker", flat=True)) == [
        "host:11:10",
        "host:1:11",
        "host:1:110",
        "host_1:10",
    ]
    assert lease_recovery.release_workers("host:1") == 2


def test_states_in_quarantine_run_among_themselves_and_after_a_second_loss_alone(
    publish, executor, monkeypatch
):
    graph, taken, claim = (
        publish("a", kinds={"a": "test.sleep"}, inputs={"a": {"seconds": 0}}),
        [],
        claim_module.claim,
    )
    states = [start_run(graph).states.get().pk for _ in range(6)]
    State.objects.filter(pk__in=states[:3]).update(lost_leases=1)
    State.objects.filter(pk__in=states[3:5]).update(lost_leases=2)

    def noted(*args, **options):
        found = claim(*args, **options)
        taken.extend([sorted(state.lost_leases for state in found)] if found else [])
        return found

    monkeypatch.setattr(claim_module, "claim", noted)
    while executor.drain():
        pass
    assert sorted(taken) == [[0], [1, 1, 1], [2], [2]]
    assert set(State.objects.values_list("status", flat=True)) == {"SUCCESS"}


def test_sweeper_leaves_a_lease_that_was_renewed_meanwhile(publish, monkeypatch):
    run = start_run(publish("a"))
    [state] = claimed(seconds=-1)
    record = record_module.record_outcomes

    def slow(outcomes, lease=None):
        assert heartbeat.renew_leases([sign(state)], 30) == {state.id}
        return record(outcomes, lease)

    monkeypatch.setattr(record_module, "record_outcomes", slow)
    assert lease_recovery.rescue_expired() == 0
    assert [(each.status, each.lost_leases) for each in run.states.all()] == [("QUEUED", 0)]
