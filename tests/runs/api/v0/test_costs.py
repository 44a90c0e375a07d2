"""The number of queries of requests to `/v0`, which doesn't grow with the number of rows."""

import pytest

from graphs import models
from graphs.auth import api_keys
from tests.support.v0_client import node

pytestmark = pytest.mark.django_db
LISTS = {
    "nodes": 2,
    "graphs": 4,
    "graph/g": 5,
    "graph/g/versions": 3,
    "states": 7,
    "states/run/r0": 5,
    "states/run/r0/graph": 4,
    "runs/1/100": 3,
    "run/r0/metrics": 5,
    "graph/g/metrics": 6,
}


@pytest.mark.parametrize("many", [1, 12])
@pytest.mark.parametrize("path", LISTS)
def test_lists_cost_the_same_for_one_and_for_many(api, path, many, django_assert_max_num_queries):
    api.register(*(f"N{at}" for at in range(many)))
    for at in range(many):
        api.upsert(f"h{at}", node("a"))
        api.upsert("g", node("a", ["b"], inputs={"n": at}), node("b"), secrets={"x": "y"})
        api.trigger("g", run_id=f"r{at}")
    api.work("Work")
    # A process remembers keys and namespaces for a few seconds, which begin with this request.
    api_keys.forget()
    models.forget()
    api.get(path)
    with django_assert_max_num_queries(LISTS[path]):
        assert api.get(path)[0] == 200


def test_the_requests_of_a_worker_cost_a_constant_number_of_queries(
    api, django_assert_max_num_queries
):
    api.upsert("g", node("s", ["a"]), node("a", ["b"]), node("b"))
    api.trigger("g")
    api.executed(api.claim("Work")[0], *({"value": str(at)} for at in range(60)))
    states = api.claim("Work", size=50)
    reports = [
        {"state_id": state["state_id"], "attempt": 1, "outputs": [{"value": "1"}]}
        for state in states
    ]
    with django_assert_max_num_queries(14):
        status, answer = api.post(
            "states/report", {"reports": reports, "nodes": ["Work"], "batch_size": 100}
        )
    assert (status, answer["count"]) == (200, 60)
    with django_assert_max_num_queries(3):
        assert api.claim("Work") == []
