"""Metrics of runs and graphs: the same values at every door, at a cost that is bounded."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runs.engine.start import start_run
from runs.models import Run, State
from runs.queries import metrics
from tests.support.api_client import ApiClient
from tests.support.pages import LIST, page_of, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(make_key):
    return ApiClient(make_key("read"))


@pytest.fixture
def timed(run_graph):
    """A run whose node a took 1 to 20 s, once each, and whose node b failed."""
    run = run_graph("a>b", kinds={"b": "test.fail"})
    state = run.states.get(identifier="a")
    for seconds in range(1, 21):
        values = {name: getattr(state, name) for name in ("node", "status", "inputs", "started_at")}
        State.objects.create(
            run=run,
            identifier="timed",
            path=f"{seconds:03}",
            finished_at=state.started_at + timedelta(seconds=seconds),
            **values,
        )
    return run


def of_node(answer, node):
    return next(each for each in answer["nodes"] if each["identifier"] == node)


def test_durations_and_failure_rates_of_a_run_and_its_graph(api, timed):
    status, of_run = api("GET", f"/runs/{timed.run_id}/metrics")
    assert status == 200
    node = of_node(of_run, "timed")
    assert (node["p50_seconds"], node["p95_seconds"], node["mean_seconds"]) == (10, 19, 10.5)
    assert (node["states"], node["failed"], node["failure_rate"]) == (20, 0, 0.0)
    assert of_node(of_run, "b")["failure_rate"] == 1.0
    assert (of_run["failed"], of_run["failure_rate"]) == (1, 0.5)

    status, of_graph = api("GET", f"/graphs/{timed.graph_id}/metrics")
    assert (status, of_graph["runs"], of_graph["failed"], of_graph["failure_rate"]) == (
        200,
        1,
        1,
        1,
    )
    assert of_graph["nodes"] == of_run["nodes"]
    assert of_graph["p50_seconds"] == of_run["duration_seconds"]


def test_the_pages_show_them(admin_client, timed):
    page = text(admin_client.get(page_of(timed, "metrics")))
    assert '<td data-label="p50">10.0 s</td><td data-label="p95">19.0 s</td>' in page
    assert '<td data-label="Failure rate">100.0 %</td>' in page
    flow = text(admin_client.get(f"/admin/graphs/graph/{timed.graph_id}/flow/"))
    address = f"{LIST}graph/{timed.graph_id}/metrics/"
    assert f'href="{address}"' in flow
    assert '<td data-label="p95">19.0 s</td>' in text(admin_client.get(address))


def test_a_run_or_graph_without_states_has_metrics_too(api, admin_client, publish):
    graph = publish("a")
    assert api("GET", f"/graphs/{graph.pk}/metrics")[1]["nodes"] == []
    run = start_run(graph)
    status, answer = api("GET", f"/runs/{run.run_id}/metrics")
    assert (status, answer["duration_seconds"], answer["failure_rate"]) == (200, None, 0.0)
    assert "–" in text(admin_client.get(page_of(run, "metrics")))


def test_metrics_of_another_namespace_are_a_404(timed, make_key):
    stranger = ApiClient(make_key("admin", ("beta",)))
    assert stranger("GET", f"/runs/{timed.run_id}/metrics")[0] == 404
    assert stranger("GET", f"/graphs/{timed.graph_id}/metrics")[0] == 404


def test_they_cost_the_same_number_of_statements_for_one_run_and_for_many(api, publish, drain):
    graph = publish("a>b")
    costs = []
    for count in (1, 8):
        for _ in range(count):
            start_run(graph)
        drain()
        api("GET", f"/graphs/{graph.pk}/metrics")
        with CaptureQueriesContext(connection) as queries:
            assert api("GET", f"/graphs/{graph.pk}/metrics")[0] == 200
        costs.append(len(queries))
    assert costs[0] == costs[1] <= 9


def test_no_more_than_so_many_states_are_read(monkeypatch, publish, drain):
    monkeypatch.setattr(metrics, "MAX_STATES", 5)
    graph = publish("a>b")
    for _ in range(4):
        start_run(graph)
    drain()
    counted = metrics.of_graph(Run.objects.filter(graph=graph))
    assert counted["runs"] == 4
    assert [node["states"] for node in counted["nodes"]] == [2, 2], "of the two newest runs"

    run = Run.objects.first()
    monkeypatch.setattr(metrics, "MAX_STATES", 1)
    assert [node["identifier"] for node in metrics.of_run(run)["nodes"]] == ["a"]
    plan = metrics._some_states([run]).explain()
    assert "sm_state_of_run" in plan or connection.vendor == "postgresql", plan
