"""Races of programs for the runs of the queue."""

from datetime import timedelta

import pytest
from django.db import connection, transaction

from graphs.auth.callers import SYSTEM, caller_named
from graphs.definition import errors
from runs.core import sql
from runs.external import queue, updates
from runs.models import QueueEntry, Run
from tests.support.concurrency import at_once
from tests.support.runs import outside

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.races]


def claim(name, limit=1):
    return queue.claim(queue.waiting(SYSTEM), queue.Claimer(name, 60), limit)


def test_each_waiting_run_is_claimed_once(namespace):
    for at in range(60):
        outside(run_id=f"r{at}", enqueue=True)
    claimed = []

    def claim_until_none_is_left(name):
        while runs := claim(name, 3):
            claimed.extend(entry.pk for entry in runs)

    results = at_once(*(lambda at=at: claim_until_none_is_left(f"w{at}") for at in range(8)))
    assert results == [None] * 8
    assert len(claimed) == len(set(claimed)) == 60
    assert set(QueueEntry.objects.values_list("claim", flat=True)) == {1}


@pytest.mark.parametrize("round_", range(5))
def test_a_lease_that_is_over_has_one_heir(namespace, round_):
    run = outside(run_id="t", enqueue=True)
    claim("first")
    QueueEntry.objects.update(available_at=sql.clock() - timedelta(seconds=1))
    holder = caller_named("first", "api")
    beat, *takers = at_once(
        lambda: queue.heartbeat(run, holder, 1),
        *(lambda at=at: claim(f"w{at}") for at in range(3)),
    )
    takers = [runs for runs in takers if runs]
    entry = QueueEntry.objects.get()
    if takers:
        assert len(takers) == 1
        assert entry.claim == 2
        assert isinstance(beat, errors.Conflict) or entry.holder != "first"
    else:
        assert (entry.claim, entry.holder) == (1, "first")


@pytest.mark.parametrize("round_", range(5))
def test_a_claim_against_a_report_without_one_has_one_winner(namespace, round_):
    run = outside(run_id="t", enqueue=True)
    report, taken = at_once(
        lambda: updates.mark(run, "a", "started", SYSTEM),
        lambda: claim("w"),
    )
    if taken:
        assert isinstance(report, errors.Conflict), "the claim came first"
    else:
        assert not isinstance(report, Exception)
        assert QueueEntry.objects.get().available_at is None


def test_a_run_that_somebody_has_locked_keeps_no_other_from_being_claimed(namespace):
    if connection.vendor == "sqlite":
        return  # one writer: nothing is locked while another writes
    locked, free = (outside(run_id=name, enqueue=True) for name in ("locked", "free"))
    with transaction.atomic():
        list(Run.objects.select_for_update().filter(pk=locked.pk))
        [claimed] = at_once(lambda: claim("w"))
        assert [entry.run for entry in claimed] == [free]
    assert [entry.run for entry in claim("w")] == [locked]
