"""What the hot path costs, free of noise: statements per slice, transactions per step, and the plans of its statements."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from graphs.nodes.base import registry
from runs import claiming, finishing, rescuing, sql
from runs.executing import Executor
from runs.models import State
from runs.starting import start_run
from runs.work import Outcome

pytestmark = pytest.mark.django_db


def claimed(count):
    return claiming.claim("w", [(["noop"], count)], 30, claiming.FactsCache())


def statements(call):
    with CaptureQueriesContext(connection) as queries:
        call()
    return [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]


@pytest.mark.parametrize("drawing", ["a>b", "a>b>d a>c>d"])
def test_a_slice_costs_the_same_for_one_state_and_for_fifty(publish, drawing):
    graph = publish(drawing)
    costs = []
    for count in (1, 50):
        for _ in range(count):
            start_run(graph)
        states = claimed(count)
        assert len(states) == count
        outcomes = [Outcome(state, "done", ['{"value": 1}'], [{"value": 1}]) for state in states]
        costs.append(len(statements(lambda outcomes=outcomes: finishing.finish(outcomes))))
        State.objects.all().delete()
    assert costs[0] == costs[1]
    assert costs[0] <= (8 if connection.vendor == "sqlite" else 6)


def test_claiming_costs_one_statement(publish):
    graph = publish("a")
    for _ in range(20):
        start_run(graph)
    facts = claiming.FactsCache()
    kinds = list(registry)
    claiming.claim("w", [(kinds, 1)], 30, facts)
    found = statements(lambda: claiming.claim("w", [(kinds, 100)], 30, facts))
    assert len(found) <= (4 if connection.vendor == "sqlite" else 2)  # and one that reads the runs' unchanging facts


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


def plan(statement, params):
    prefix = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    return "\n".join(" ".join(map(str, row)) for row in sql.run(prefix + statement, params))


def grow(publish):
    """Enough rows, and what the database knows of them, for a plan that means something."""
    run = start_run(publish("a>b>d a>c>d"))
    State.objects.bulk_create(
        State(run=run, identifier="b", node="noop" if at % 2 else "log", path=f"0:{at}", status="CREATED", watched=True) for at in range(3000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE runs_state" if connection.vendor == "postgresql" else "ANALYZE")
    return run


def test_claim_uses_the_ready_index(publish):
    grow(publish)
    found = plan(claiming._statement(((2, 100), (1, 1)), claiming.FRESH), ["noop", "log", "http.request", "w", 30.0])
    assert found.count("state_ready") >= 3
    assert "Seq Scan on runs_state" not in found
    assert "SCAN runs_state" not in found.replace("SCAN runs_state USING INDEX", "")


def test_sweep_uses_the_lease_index(publish):
    grow(publish)
    condition = rescuing._OVER.format(now=sql.now(), far=sql.later("604800"))
    found = plan(claiming._HELD.format(condition=condition), [100])
    assert "state_leased" in found or "MULTI-INDEX" in found


def test_join_asks_the_unfinished_index(publish):
    run = grow(publish)
    from runs.advancing import PLACE, THERE

    unfinished = "s.status IN ('CREATED', 'QUEUED') AND s.watched"
    asked = f"SELECT DISTINCT v.ord FROM {sql.rows('v', **PLACE)} WHERE EXISTS (SELECT 1 FROM runs_state s WHERE {THERE} AND {unfinished})"
    found = plan(asked, sql.values([[0, run.pk, "b", "", "~"]]))
    assert "state_unfinished" in found or "state_of_run" in found
    assert "Seq Scan on runs_state" not in found
