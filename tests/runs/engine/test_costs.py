"""What the hot path costs, free of noise: statements per slice, transactions per step, and the plans of its statements."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from graphs.nodes.base import registry
from runs.core import sql
from runs.engine import claim, join_inspection, lease_recovery, record, store
from runs.engine.executor import FAST_SECONDS, REPLAN_SECONDS, Executor
from runs.engine.start import start_run
from runs.engine.types import Outcome
from runs.models import State

pytestmark = pytest.mark.django_db


def claimed(count):
    return claim.claim("w", [(["noop"], count)], 30, claim.FactsCache())


def statements(call):
    with CaptureQueriesContext(connection) as queries:
        call()
    return [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]


@pytest.mark.parametrize("drawing", ["a>b", "a>b>d a>c>d"])
def test_a_batch_costs_the_same_for_one_state_and_for_fifty(publish, drawing):
    graph = publish(drawing)
    costs = []
    for count in (1, 50):
        for _ in range(count):
            start_run(graph)
        states = claimed(count)
        assert len(states) == count
        outcomes = [Outcome(state, "done", ['{"value": 1}'], [{"value": 1}]) for state in states]
        costs.append(len(statements(lambda outcomes=outcomes: record.record_batch(outcomes))))
        State.objects.all().delete()
    assert costs[0] == costs[1]
    assert costs[0] <= (8 if connection.vendor == "sqlite" else 6)


def test_claiming_costs_one_statement(publish):
    graph = publish("a")
    for _ in range(20):
        start_run(graph)
    facts = claim.FactsCache()
    kinds = list(registry)
    claim.claim("w", [(kinds, 1)], 30, facts)
    found = statements(lambda: claim.claim("w", [(kinds, 100)], 30, facts))
    assert len(found) <= (
        4 if connection.vendor == "sqlite" else 2
    )  # and one that reads the runs' unchanging facts


def test_draining_a_hundred_chains_sends_few_statements(publish):
    graph = publish("a>b>c>d>e")
    worker = Executor(threads=False)
    worker.speed = {"noop": 1e-4}
    start_run(graph)
    worker.drain()
    for _ in range(100):
        start_run(graph)
    found = statements(lambda: worker.drain(budget=20))
    assert not State.objects.filter(status="CREATED").exists()
    assert len(found) <= 0.2 * 500


def test_statements_are_planned_anew_when_nothing_waits_for_it(publish):
    """After the work, and with a claim that finds nothing, so that the next run doesn't wait until its statements are planned."""
    worker = Executor(threads=False)
    worker._planned -= REPLAN_SECONDS
    start_run(publish("a"))
    found = statements(lambda: worker.drain())
    if connection.vendor == "postgresql":
        planned = found.index("DISCARD PLANS")
        claims = [at for at, statement in enumerate(found) if statement.startswith("WITH g0")]
        assert [at < planned for at in claims] == [
            True,
            True,
            False,
        ]  # one found the state, one nothing, one was planned anew


def test_one_slow_call_does_not_make_a_node_slow_and_several_do():
    worker = Executor(threads=False)
    worker.speed = {"noop": 1e-4}
    worker._learn("noop", 1.0)
    assert worker.speed["noop"] < FAST_SECONDS
    for _ in range(7):
        worker._learn("noop", 1.0)
    assert worker.speed["noop"] > FAST_SECONDS


def plan(statement, params):
    prefix = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    return "\n".join(" ".join(map(str, row)) for row in sql.run(prefix + statement, params))


def grow(publish):
    """Enough rows, and what the database knows of them, for a plan that means something."""
    run = start_run(publish("a>b>d a>c>d"))
    State.objects.bulk_create(
        State(
            run=run,
            identifier="b",
            node="noop" if at % 2 else "log",
            path=f"0:{at}",
            status="CREATED",
            watched=True,
        )
        for at in range(3000)
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "ANALYZE statemanager_runs_state" if connection.vendor == "postgresql" else "ANALYZE"
        )
    return run


def test_claim_uses_the_ready_index(publish):
    grow(publish)
    found = plan(
        claim.claim_statement(((2, 100), (1, 1)), claim.FRESH),
        [*_kinds("noop", "log", "http.request"), "w", 30.0],
    )
    assert found.count("state_ready") >= 3
    assert "Seq Scan on statemanager_runs_state" not in found
    assert "SCAN statemanager_runs_state" not in found.replace(
        "SCAN statemanager_runs_state USING INDEX", ""
    )


@pytest.mark.parametrize("which", [claim.LOST_ONCE, claim.LOST_OFTEN, claim.QUARANTINED])
def test_suspects_are_not_looked_for_among_all_that_is_ready(publish, which):
    grow(publish)
    found = plan(claim.claim_statement(((2, 100),), which), [*_kinds("noop", "log"), "w", 30.0])
    assert found.count("state_quarantined") >= 2
    assert "state_ready" not in found


def _kinds(*kinds):
    """As a claim looks at all that is ready of them."""
    return [
        each
        for kind in kinds
        for each in ((kind, "-infinity") if connection.vendor == "postgresql" else (kind,))
    ]


def test_a_claim_begins_where_the_last_one_found_something(publish):
    """What was taken before stays in the index while an old snapshot (here: this test's transaction) may see it."""
    if connection.vendor != "postgresql":
        return
    grow(publish)
    scan_floors, facts = claim.ScanFloors(), claim.FactsCache()
    for count in (1400, 10):
        assert (
            len(claim.claim("w", [(["noop"], count)], 30, facts, scan_floors=scan_floors)) == count
        )

    def read(floor):
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {claim.claim_statement(((1, 10),), claim.FRESH)}"
        with transaction.atomic():
            [[[found]]] = sql.run(explain, ["noop", floor, "w", 30.0])
            transaction.set_rollback(True)
        return sum(
            node["Shared Hit Blocks"]
            for node in within(found["Plan"])
            if node.get("Index Name") == "sm_state_ready"
        )

    def within(node):
        yield node
        for each in node.get("Plans", ()):
            yield from within(each)

    assert read(scan_floors.of("noop")) < read("-infinity") / 3


def test_recording_goes_by_the_states_ids(publish):
    """Not by the index of leased states, which seems small and may be full of what is over."""
    grow(publish)
    row = ["0" * 32, 1, "SUCCESS", "", "{}", None, "", 0, None, None, False, 0]
    found = plan(store.outcomes_statement(), sql.values([row]))
    assert "state_leased" not in found


def test_sweep_uses_the_lease_index(publish):
    grow(publish)
    found = plan(lease_recovery.expired_statement(), [100])
    assert "state_leased" in found or "MULTI-INDEX" in found


def test_join_asks_the_unfinished_index(publish):
    run = grow(publish)
    statement = join_inspection.unfinished_below_statement()
    found = plan(statement, sql.values([[0, run.pk, "b", "", "~"]]))
    assert "state_unfinished" in found or "state_of_run" in found
    assert "Seq Scan on statemanager_runs_state" not in found
