"""Starting many runs at once: all of them, or none."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_q.models import OrmQ

from graphs.auth.callers import caller_of_command
from graphs.definition import errors
from graphs.models import Graph, IndexedInput
from graphs.services.publish import publish_graph
from runs.actions.delete import delete_graph, delete_run
from runs.engine import start_many as module
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.engine.start_many import start_many
from runs.models import AuditEntry, LogLine, Run, RunInput, State
from tests.support.concurrency import at_once
from tests.support.definitions import definition
from tests.support.invariants import assert_counters_agree

pytestmark = pytest.mark.django_db


def orders(*numbers, **options):
    return [RunOptions(run_id=f"order-{at}", inputs={"value": at}, **options) for at in numbers]


def refused(error, graph, requested):
    before = Run.objects.count()
    with pytest.raises(error) as raised:
        start_many(graph, requested)
    assert Run.objects.count() == before
    return raised.value


def test_all_runs_start_in_the_order_of_the_request(publish, drain):
    graph = publish("a>b", inputs={"b": {"value": "${{ a.outputs.value }}"}})
    requested = [*orders(3, 1, 2), RunOptions(labels={"who": "me"}, priority=7)]
    runs = start_many(graph, requested, caller=caller_of_command())
    assert [run.run_id for run in runs[:3]] == ["order-3", "order-1", "order-2"]
    assert (runs[3].labels, runs[3].priority) == ({"who": "me"}, 7)
    drain()
    stored = {run.pk: run for run in Run.objects.all()}
    assert {run.status for run in stored.values()} == {"completed"}
    outputs = State.objects.filter(identifier="b").values_list("run_id", "outputs__value")
    assert dict(outputs) == {runs[0].pk: 3, runs[1].pk: 1, runs[2].pk: 2, runs[3].pk: None}
    assert AuditEntry.objects.filter(action="start").count() == 4
    assert LogLine.objects.filter(message__startswith="Starting").count() == 4
    for run in stored.values():
        assert_counters_agree(run)


def test_a_delay_is_that_of_its_run(publish, drain):
    later, now = start_many(publish("a"), [RunOptions(delay=3600), RunOptions()])
    drain()
    later.refresh_from_db()
    now.refresh_from_db()
    assert (later.status, now.status) == ("queued", "completed")


def test_a_repeated_request_starts_what_is_missing(publish):
    graph = publish("a")
    single = start_run(graph, orders(2)[0])
    first = start_many(graph, orders(1, 2))
    again = start_many(graph, orders(1, 2, 3, 3))
    assert [run.pk for run in again[:2]] == [run.pk for run in first]
    assert first[1].pk == single.pk
    assert again[2].pk == again[3].pk
    assert Run.objects.count() == State.objects.count() == 3


def test_every_problem_is_named_and_nothing_starts(namespace):
    schema = {"type": "object", "properties": {"value": {"type": "integer"}}}
    graph = publish_graph(namespace, "strict", {**definition("a"), "inputs": schema})
    requested = [*orders(*range(50)), RunOptions(inputs={"value": "x"}), RunOptions(delay=-1)]
    requested.append(RunOptions(run_id="order-7", inputs={"value": 8}))
    error = refused(errors.Malformed, graph, requested)
    assert [problem.partition(":")[0] for problem in error.extra["errors"]] == [
        "runs/50",
        "runs/51",
        "runs/52",
    ]
    assert "3 problems" in str(error)


def test_run_ids_of_other_requests_are_refused(publish):
    graph = publish("a")
    start_many(graph, orders(1, 2))
    requested = [*orders(5), RunOptions(run_id="order-2", inputs={"value": "another"})]
    error = refused(errors.Conflict, graph, requested)
    assert error.extra["errors"] == [
        "runs/1: the run id 'order-2' is taken by a run with another graph or other inputs"
    ]


def test_run_ids_of_deleted_runs_are_refused(publish, drain):
    graph = publish("a")
    run = start_many(graph, orders(1))[0]
    drain()
    run.refresh_from_db()
    delete_run(run)
    error = refused(errors.Gone, graph, orders(0, 1))
    assert "'order-1' was deleted" in error.extra["errors"][0]


def test_more_runs_than_allowed_are_refused_before_the_work(publish, monkeypatch):
    monkeypatch.setattr(module, "MAX_RUNS", 3)
    refused(errors.TooLarge, publish("a"), orders(*range(4)))


def test_a_namespace_without_room_starts_none(publish, namespace):
    graph = publish("a")
    namespace.max_stored_bytes = 0
    namespace.save()
    graph.refresh_from_db()
    refused(errors.TooLarge, graph, orders(1, 2))


def test_declared_inputs_are_indexed(publish):
    graph = publish("a")
    IndexedInput.objects.create(graph=graph, path="value")
    start_many(graph, orders(1, 2))
    assert RunInput.objects.count() == 2


def test_one_start_adds_one_hint(publish):
    graph = publish("a")
    for declared in (False, True):
        if declared:
            IndexedInput.objects.create(graph=graph, path="value")
        OrmQ.objects.all().delete()
        start_run(graph, RunOptions(inputs={"value": 1}))
        assert OrmQ.objects.count() == 1


def test_what_the_runs_take_together_is_limited(publish, monkeypatch):
    graph = publish("a b c", inputs={"a": {"value": "x" * 1000}})
    monkeypatch.setattr(module, "MAX_BYTES", 10_000)
    refused(errors.TooLarge, graph, [RunOptions() for _ in range(10)])
    monkeypatch.setattr(module, "MAX_STATES", 10)
    refused(errors.TooLarge, graph, [RunOptions() for _ in range(4)])
    monkeypatch.setattr(module, "_CHUNK_BYTES", 2000)
    start_many(graph, [RunOptions() for _ in range(3)])
    assert State.objects.count() == 9


def test_a_graph_that_was_just_deleted_is_not_found(publish):
    graph = publish("a")
    start_run(graph)  # its plan is known
    stale = Graph.objects.select_related("namespace", "current").get(pk=graph.pk)
    delete_graph(graph)
    with pytest.raises(errors.NotFound):
        start_many(stale, orders(1))


def test_a_chunk_costs_a_constant_number_of_statements(publish):
    graph = publish("a b")
    start_run(graph)
    counts = []
    for size in (2, 100):
        with CaptureQueriesContext(connection) as queries:
            start_many(graph, [RunOptions() for _ in range(size)], caller=caller_of_command())
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_the_request_starts_all_runs_in_their_order(publish, admin_client):
    graph = publish("a")
    url = f"/graphs/{graph.pk}/runs"
    body = {"runs": [{"run_id": "b", "start_delay_ms": 5}, {"run_id": "a"}, {}]}
    answer = admin_client.post(url, body, content_type="application/json")
    assert answer.status_code == 200
    assert [run["id"] for run in answer.json()["runs"][:2]] == ["b", "a"]
    again = admin_client.post(url, {"runs": body["runs"][:2]}, content_type="application/json")
    assert again.json()["runs"] == answer.json()["runs"][:2]
    assert Run.objects.count() == 3


@pytest.mark.parametrize(
    ("runs", "place"),
    [
        ([], "runs"),
        ([{}] * 10_001, "runs"),
        ([{}, {}, {"inputs": []}], "2"),
        ([{}, {"run_id": "x", "inputs": {"v": 1}}, {"run_id": "x"}], "runs/2"),
        ([{"unknown": 1}], "unknown"),
    ],
    ids=["none", "too many", "inputs", "repeated", "unknown"],
)
def test_a_request_with_a_problem_starts_nothing(publish, admin_client, runs, place):
    url = f"/graphs/{publish('a').pk}/runs"
    answer = admin_client.post(url, {"runs": runs}, content_type="application/json")
    assert answer.status_code == 422
    assert place in answer.content.decode()
    assert not Run.objects.exists()


@pytest.mark.races
@pytest.mark.django_db(transaction=True)
def test_requests_with_the_same_run_ids_start_each_run_once(publish):
    graph = publish("a")
    results = at_once(
        *(lambda at=at: start_many(graph, orders(*range(at, at + 30))) for at in range(6)),
        lambda: start_many(graph, orders(*reversed(range(35)))),
    )
    assert [type(result) for result in results] == [list] * 7
    assert Run.objects.count() == State.objects.count() == 35
