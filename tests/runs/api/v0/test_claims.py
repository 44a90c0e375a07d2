"""Claims of external workers: bounded, oldest first, and recovered when the worker dies."""

from datetime import timedelta

import pytest
from django.utils import timezone

from graphs.auth import api_keys
from runs.engine import lease_recovery
from runs.models import State
from tests.support.v0_client import V0Client, node, one_state

pytestmark = pytest.mark.django_db


def test_a_claimed_state_is_ready_again_when_its_worker_dies(api):
    state = one_state(api)
    for attempt in (2, 3):
        State.objects.filter(status="QUEUED").update(
            lease_expires_at=timezone.now() - timedelta(seconds=1)
        )
        assert lease_recovery.rescue_expired() == 1
        [again] = api.claim("Work")
        assert (again["state_id"], again["attempt"]) == (state["state_id"], attempt)
    stored = State.objects.get(pk=state["state_id"])
    assert 880 < (stored.lease_expires_at - timezone.now()).total_seconds() <= 900
    assert api.post(f"state/{state['state_id']}/executed", {"outputs": [], "attempt": 1})[0] == 409
    State.objects.filter(status="QUEUED").update(
        lease_expires_at=timezone.now() - timedelta(seconds=1)
    )
    lease_recovery.rescue_expired()
    assert State.objects.get(pk=state["state_id"]).status == "TIMEDOUT"


@pytest.mark.parametrize("size", [20_000, 2**31 - 1, 0, -5])
def test_a_claim_is_bounded_and_one_statement(api, size, django_assert_max_num_queries):
    api.upsert("g", node("s", ["a"]), node("a"))
    api.trigger("g")
    api.executed(api.claim("Work")[0], *({"value": str(at)} for at in range(1500)))
    api.get("nodes/")  # Now the key is cached.
    with django_assert_max_num_queries(6):
        claimed = api.claim("Work", size=size)
    assert len(claimed) == (1000 if size > 0 else 0)


def test_absurd_sizes_are_refused(api):
    assert api.post("states/enqueue", {"nodes": ["Work"], "batch_size": 2**31})[0] == 422
    raw = api.client.post(
        "/v0/namespace/alpha/states/enqueue",
        '{"nodes": ["Work"], "batch_size": 1' + "0" * 400 + "}",
        content_type="application/json",
    )
    assert raw.status_code == 422


def test_the_oldest_states_come_first(api):
    api.upsert("g", node("a"))
    ids = [api.trigger("g") for _ in range(5)]
    State.objects.filter(run__run_id=ids[3]).update(
        due_at=timezone.now() - timedelta(hours=1), claim_at=timezone.now() - timedelta(hours=5)
    )
    assert [api.claim("Work", size=1)[0]["run_id"] for _ in range(5)] == [ids[3], *ids[:3], ids[4]]


def test_a_node_of_another_namespace_is_run_by_its_workers(api, other, namespace):
    both = V0Client(api_keys.create_key(["alpha", "beta"], "admin")[1])
    refused = api.upsert("g", node("a", namespace="beta"), status=400)
    assert "no access to the namespace 'beta'" in refused["detail"]
    graph = both.upsert("g", node("a", ["b"], namespace="beta"), node("b"))
    assert graph["validation_status"] == "VALID"
    run_id = api.trigger("g")
    assert api.claim("Work") == []
    [state] = other.claim("Work")
    other.executed(state, {"value": "1"})
    assert [state["identifier"] for state in api.claim("Work")] == ["b"]
    assert other.get(f"states/run/{run_id}")[1]["count"] == 0
