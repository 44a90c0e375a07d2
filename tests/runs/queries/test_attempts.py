"""The attempts of a step as rows, and the key that they share."""

import pytest

from runs.engine import lease_recovery
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import State
from tests.support.api_client import ApiClient
from tests.support.engine import claimed
from tests.support.pages import page_of, text

pytestmark = pytest.mark.django_db
RETRY = {"max_retries": 1, "backoff_factor": 60_000}


@pytest.fixture
def api(make_key):
    return ApiClient(make_key("read"))


def rows(api, state):
    _, answer = api("GET", f"/runs/r/states/{state.pk}/attempts")
    return [(row["retry_count"], row["attempt"], row["status"]) for row in answer["attempts"]]


def test_retries_are_attempts_of_one_step_and_share_its_key(api, publish, drain, admin_client):
    graph = publish("a", kinds={"a": "test.fail"}, data={"a": {"retry": RETRY}})
    run = start_run(graph, RunOptions(run_id="r"))
    drain()
    State.objects.filter(status="CREATED").update(due_at=run.created_at, claim_at=run.created_at)
    drain()
    first, second = State.objects.order_by("pk")
    assert rows(api, first) == rows(api, second) == [(0, 1, "RETRY_CREATED"), (1, 1, "ERRORED")]
    _, answer = api("GET", "/runs/r/states")
    assert {state["idempotency_key"] for state in answer["states"]} == {"alpha:r:a"}
    page = text(admin_client.get(f"{page_of(run, 'states')}?state={second.pk}"))
    assert "alpha:r:a" in page
    assert "retry 1, attempt 1" in page


def test_an_attempt_that_lost_its_worker_has_a_row(api, publish, drain):
    start_run(publish("a"), RunOptions(run_id="r"))
    claimed(seconds=-1)
    assert lease_recovery.rescue_expired() == 1
    drain()
    assert rows(api, State.objects.get()) == [(0, 1, "LOST"), (0, 2, "SUCCESS")]


def test_each_item_of_a_fan_out_is_a_step_of_its_own(api, publish, drain):
    graph = publish("f>b", kinds={"f": "fan_out"}, inputs={"f": {"items": [1, 2, 3]}})
    start_run(graph, RunOptions(run_id="r"))
    drain()
    below = State.objects.filter(identifier="b").order_by("pk")
    assert [rows(api, state) for state in below] == [[(0, 1, "SUCCESS")]] * len(below)
    _, answer = api("GET", "/runs/r/states")
    keys = {state["idempotency_key"] for state in answer["states"] if state["identifier"] == "b"}
    assert len(keys) == len(below) == 3
