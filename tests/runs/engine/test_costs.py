"""What the hot path costs, counted rather than timed.

The tests count the statements of claims and batches, and check that the database plans the hot
statements with the intended indexes.
"""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from graphs.auth.callers import caller_of_command
from graphs.models import Namespace
from graphs.nodes.base import registry
from runs.core import sql
from runs.engine import claim, join_inspection, lease_recovery, record, store
from runs.engine.executor import REPLAN_SECONDS, Executor
from runs.engine.lanes import FAST_SECONDS
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.engine.turns import Turns
from runs.engine.types import Outcome
from runs.models import AuditEntry, State

pytestmark = pytest.mark.django_db


def claimed(count):
    return claim.claim("w", [claim.Group(["noop"], count)], 30, claim.FactsCache())


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


@pytest.mark.only_on("postgresql")
@pytest.mark.django_db(transaction=True)
def test_a_start_is_one_statement(publish):
    graph = publish("a>c b>c")
    caller = caller_of_command()
    start_run(graph)  # reads the definition
    assert len(statements(lambda: start_run(graph, caller=caller))) == 1
    with_own_id = statements(lambda: start_run(graph, RunOptions(run_id="own"), caller=caller))
    assert len(with_own_id) <= 4  # BEGIN, the run, whether such a run was deleted, COMMIT
    assert State.objects.count() == 6
    assert AuditEntry.objects.filter(action="start").count() == 2


def test_a_claim_costs_a_constant_number_of_statements(publish):
    graph = publish("a")
    for _ in range(20):
        start_run(graph)
    facts = claim.FactsCache()
    kinds = list(registry)
    turns = Turns()
    claim.claim("w", [claim.Group(kinds, 1)], 30, facts, turns)
    sent = statements(lambda: claim.claim("w", [claim.Group(kinds, 100)], 30, facts, turns))
    # Besides the claim, one statement may look for namespaces that have ready states, and one reads
    # the facts of the runs that never change.
    assert len(sent) <= (5 if connection.vendor == "sqlite" else 3)


def test_draining_a_hundred_chains_sends_few_statements(publish):
    graph = publish("a>b>c>d>e")
    worker = Executor(threads=False)
    worker.lanes.speed = {"noop": 1e-4}
    start_run(graph)
    worker.drain()
    for _ in range(100):
        start_run(graph)
    sent = statements(lambda: worker.drain(budget=20))
    assert not State.objects.filter(status="CREATED").exists()
    assert len(sent) <= 0.2 * 500


def test_statements_are_planned_again_while_the_worker_is_idle(publish):
    """The worker discards its plans when the work is done, and then claims once more.

    That claim makes the new plan, so that the next run doesn't wait for it.
    """
    worker = Executor(threads=False)
    worker._planned -= REPLAN_SECONDS
    start_run(publish("a"))
    sent = statements(lambda: worker.drain())
    if connection.vendor == "postgresql":
        discarded = sent.index("DISCARD PLANS")
        claims = [at for at, statement in enumerate(sent) if statement.startswith("WITH g0")]
        lookups = [at for at, sql in enumerate(sent) if sql.startswith("WITH RECURSIVE")]
        # The first claim takes the state, the second finds nothing, the third makes the plan.
        assert [at < discarded for at in claims] == [True, True, False]
        # The first lookup finds the state, the second one nothing, the third makes the plan.
        assert [at < discarded for at in lookups] == [True, True, False]


def test_several_slow_calls_make_a_node_slow_but_one_does_not():
    worker = Executor(threads=False)
    worker.lanes.speed = {"noop": 1e-4}
    worker.lanes.learn((1, "noop"), 1.0)
    assert worker.lanes.speed["noop"] < FAST_SECONDS
    for _ in range(7):
        worker.lanes.learn((1, "noop"), 1.0)
    assert worker.lanes.speed["noop"] > FAST_SECONDS


def plan(statement, params):
    prefix = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    return "\n".join(" ".join(map(str, row)) for row in sql.run(prefix + statement, params))


def grow(publish):
    """Add enough states, and statistics about them, for the planner to prefer an index."""
    run = start_run(publish("a>b>d a>c>d"))
    State.objects.bulk_create(
        State(
            run=run,
            namespace_key=run.namespace_id,
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


def test_a_claim_uses_the_ready_index(publish):
    grow(publish)
    text = plan(
        claim.claim_statement(((100, 100), (1, 1))),
        [*_heads("noop", "log"), *_heads("http.request"), "w", 30.0],
    )
    assert text.count("state_claimable") >= 2
    assert "Seq Scan on statemanager_runs_state" not in text
    assert "SCAN statemanager_runs_state" not in text.replace(
        "SCAN statemanager_runs_state USING INDEX", ""
    )


@pytest.mark.parametrize("quarantine", [claim.LOST_ONCE, claim.LOST_OFTEN, claim.QUARANTINED])
def test_claiming_from_the_quarantine_does_not_scan_all_ready_states(publish, quarantine):
    grow(publish)
    statement = claim.claim_quarantined_statement(100, quarantine)
    text = plan(statement, [sql.choices(["noop", "log"]), "w", 30.0])
    assert "state_quarantined" in text
    assert "state_claimable" not in text


def _heads(*kinds, floor="2000-01-01 00:00:00+00"):
    """The heads of the backlogs of these kinds, as parameters of a claim's statement."""
    namespace = Namespace.objects.values_list("pk", flat=True).first()
    return sql.values([[namespace, kind, floor, 0.0, 1] for kind in kinds])


@pytest.mark.only_on("postgresql")
def test_a_claim_begins_behind_the_states_that_were_taken(publish):
    """Claims skip the index entries of states that earlier claims took.

    The index keeps these entries as long as an old snapshot may see them: here, that of the
    transaction of this test.
    """
    namespace = grow(publish).namespace_id
    turns, facts = Turns(), claim.FactsCache()
    for count in (1400, 10):
        states = claim.claim("w", [claim.Group(["noop"], count)], 30, facts, turns)
        assert len(states) == count

    def blocks_read(floor):
        statement = claim.claim_statement(((10, 10),))
        with transaction.atomic():
            [[[explained]]] = sql.run(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}",
                [*_heads("noop", floor=floor), "w", 30.0],
            )
            transaction.set_rollback(True)
        return sum(
            node["Shared Hit Blocks"]
            for node in nodes_of(explained["Plan"])
            if node.get("Index Name") == "sm_state_claimable"
        )

    def nodes_of(node):
        yield node
        for child in node.get("Plans", ()):
            yield from nodes_of(child)

    [backlog] = turns.backlogs_of(claim.Group(["noop"], 1))
    assert backlog.namespace == namespace
    assert 0 < blocks_read(turns.floor(backlog)) < blocks_read("-infinity") / 3


def test_recording_finds_states_by_their_ids(publish):
    """The index of leased states looks small to the planner, but it may be full of dead rows."""
    grow(publish)
    row = ["0" * 32, 1, "SUCCESS", "", "{}", None, "", 0, None, 0.0, None, False, 0]
    assert "state_leased" not in plan(store.outcomes_statement(), sql.values([row]))


def test_the_sweep_uses_the_lease_index(publish):
    grow(publish)
    text = plan(lease_recovery.expired_statement(), [sql.choices([]), 100])
    assert "state_leased" in text or "MULTI-INDEX" in text


def test_a_join_uses_the_index_of_unfinished_states(publish):
    run = grow(publish)
    statement = join_inspection.unfinished_below_statement()
    text = plan(statement, sql.values([[0, run.pk, "b", "", "~"]]))
    assert "state_unfinished" in text or "state_of_run" in text
    assert "Seq Scan on statemanager_runs_state" not in text
