"""External workers beyond the protocol of old: attempts, heartbeats, releases, reports in batches, and many at once."""

import threading
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import connection, connections
from django.utils import timezone

from graphs.auth import api_keys
from graphs.models import Namespace
from runs.engine import claim, lease_recovery
from runs.engine.start import start_run
from runs.models import LogLine, Run, State
from runs.worker_api import claims
from runs.worker_api.reports import Worker
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node
from tests.support.v0_client import V0Client, node

pytestmark = pytest.mark.django_db


def start(api, *nodes, **members):
    api.upsert("g", *(nodes or (node("a", ["b"]), node("b"))), **members)
    api.trigger("g")
    return api.claim("Work")[0]


def test_who_repeats_a_report_with_its_attempt_gets_its_answer_again(api):
    state = start(api, retry_policy={"max_retries": 1})
    body = {"error": "x", "attempt": state["attempt"]}
    first = api.post(f"state/{state['state_id']}/errored", body)
    assert first == (200, {"status": "ERRORED", "retry_created": True})
    assert api.post(f"state/{state['state_id']}/errored", body) == first
    assert api.post(f"state/{state['state_id']}/errored", {"error": "x"})[0] == 400
    assert api.post(f"state/{state['state_id']}/executed", {"outputs": [], "attempt": 1})[0] == 400
    assert by_node(Run.objects.get()) == {"a": ["RETRY_CREATED", "CREATED"]}


def test_a_late_attempt_changes_nothing(api):
    state = start(api)
    State.objects.filter(pk=state["state_id"]).update(
        lease_expires_at=timezone.now() - timedelta(seconds=1)
    )
    lease_recovery.rescue_expired()
    [again] = api.claim("Work")
    for verb, body in {
        "executed": {"outputs": []},
        "errored": {"error": ""},
        "prune": {"data": {}},
        "heartbeat": {},
        "release": {},
    }.items():
        status, answer = api.post(f"state/{state['state_id']}/{verb}", {**body, "attempt": 1})
        assert (status, "attempt 2" in answer["detail"]) == (409, True), verb
    api.executed(again)


def test_a_heartbeat_extends_the_lease_and_brings_lines_and_progress(api):
    state = start(api)
    State.objects.filter(pk=state["state_id"]).update(
        lease_expires_at=timezone.now() + timedelta(seconds=5)
    )
    body = {"attempt": 1, "progress": 0.5, "lease_seconds": 60, "logs": [{"message": "half"}]}
    assert api.post(f"state/{state['state_id']}/heartbeat", body) == (
        200,
        {"status": "QUEUED", "lease_seconds": 60},
    )
    stored = State.objects.get(pk=state["state_id"])
    assert (
        stored.progress,
        50 < (stored.lease_expires_at - timezone.now()).total_seconds() <= 60,
    ) == (0.5, True)
    assert LogLine.objects.get(state=stored.pk).message == "half"
    assert api.post(f"state/{state['state_id']}/heartbeat", {})[1]["lease_seconds"] == 900
    assert State.objects.get(pk=state["state_id"]).progress == 0.5
    api.post(f"run/{stored.run.run_id}/cancel")
    status, answer = api.post(f"state/{state['state_id']}/heartbeat", {"attempt": 1})
    assert (status, answer["state_status"]) == (409, "CANCELLED")
    assert_counters_agree(Run.objects.get())


def test_a_released_state_is_ready_at_once_and_has_lost_nothing(api):
    state = start(api)
    assert api.post(f"state/{state['state_id']}/release", {"attempt": 1}) == (
        200,
        {"status": "CREATED"},
    )
    assert State.objects.get(pk=state["state_id"]).lost_leases == 0
    assert api.claim("Work")[0]["attempt"] == 2


def test_reports_of_a_cancelled_run_are_refused(api):
    state = start(api)
    api.post(f"run/{state['run_id']}/cancel")
    assert api.post(f"state/{state['state_id']}/executed", {"outputs": []}) == (
        400,
        {"detail": "State is not queued: it is CANCELLED."},
    )
    assert by_node(Run.objects.get()) == {"a": ["CANCELLED"]}


def test_a_state_of_our_own_nodes_is_no_worker_s(api, publish, drain):
    run = start_run(publish("x"))
    State.objects.update(status="QUEUED", attempt=1)
    state = State.objects.get()
    assert api.post(f"state/{state.pk}/executed", {"outputs": []})[0] == 400
    assert api.get(f"state/{state.pk}/secrets")[0] == 404
    assert by_node(run) == {"x": ["QUEUED"]}


def test_a_node_and_a_graph_may_want_another_lease(api):
    state = start(api)
    graph = Run.objects.get().graph
    definition = graph.current.definition
    definition["nodes"][0]["data"]["lease"] = 5000
    assert (
        api(
            "put", f"/graphs/{graph.pk}", {"nodes": definition["nodes"], "settings": {"lease": 120}}
        )[0]
        == 200
    )
    api.trigger("g")
    [state] = api.claim("Work")
    assert state["lease_seconds"] == 5000
    stored = State.objects.get(pk=state["state_id"])
    assert 4900 < (stored.lease_expires_at - timezone.now()).total_seconds() <= 5000
    api.executed(state)
    assert api.claim("Work")[0]["lease_seconds"] == 120


def test_an_idle_worker_is_asked_to_come_again_later(api):
    assert api.post("states/enqueue", {"nodes": ["Work"], "batch_size": 1})[1]["states"] == []
    assert 1 <= int(api.last["Retry-After"]) <= 3
    start(api)
    assert "Retry-After" not in api.last


def test_complete_and_claim_in_one_request(api, django_assert_max_num_queries):
    state = start(api, node("a", ["b"]), node("b", ["c"]), node("c"))
    report = {"state_id": state["state_id"], "attempt": 1, "outputs": [{"value": "1"}]}
    with django_assert_max_num_queries(12):
        status, answer = api.post(
            "states/report", {"reports": [report], "nodes": ["Work"], "batch_size": 1}
        )
    assert (status, answer["reports"]) == (
        200,
        [{"state_id": state["state_id"], "code": 200, "status": "EXECUTED", "retry_created": None}],
    )
    [following] = answer["states"]
    assert (following["identifier"], following["attempt"]) == ("b", 1)
    assert State.objects.get(pk=following["state_id"]).status == "QUEUED"
    status, answer = api.post(
        "states/report",
        {"reports": [{"state_id": following["state_id"], "attempt": 1, "error": "x"}]},
    )
    assert answer["reports"][0]["status"] == "ERRORED"
    assert answer["states"] == []


def test_each_report_of_a_batch_has_an_answer_of_its_own(api, other):
    api.upsert("g", node("s", ["a"]), node("a"), retry_policy={"max_retries": 0})
    api.trigger("g")
    api.executed(api.claim("Work")[0], *({"value": str(at)} for at in range(6)))
    states = api.claim("Work")
    foreign = start(other, node("a", namespace="beta"))
    kinds = [
        {"outputs": [{"value": "1"}]},
        {"error": "x"},
        {"prune": {"why": 1}},
        {"enqueue_after": 1000},
        {"release": True},
        {"outputs": [{"value": 5}]},
    ]
    reports = [
        {"state_id": state["state_id"], "attempt": 1, **kind}
        for state, kind in zip(states, kinds, strict=True)
    ]
    reports += [
        reports[0],
        {"state_id": foreign["state_id"], "outputs": []},
        {"state_id": "f" * 32, "outputs": []},
        {"state_id": "no id", "release": True},
    ]
    answers = api.post("states/report", {"reports": reports})[1]["reports"]
    assert [(each["code"], each["status"]) for each in answers] == [
        (200, "EXECUTED"), (200, "ERRORED"), (200, "PRUNED"), (200, "CREATED"), (200, "CREATED"), (422, "ERRORED"),
        (200, "EXECUTED"), (404, None), (404, None), (404, None),
    ]  # fmt: skip
    assert_counters_agree(Run.objects.get(namespace__name="alpha"))
    assert (
        api.post(
            "states/report", {"reports": [{"state_id": "f" * 32, "outputs": [], "error": "x"}]}
        )[0]
        == 422
    )
    assert api.post("states/report", {"reports": [{"state_id": "f" * 32}]})[0] == 422


def test_the_claim_reads_the_index_made_for_it(api):
    start(api)
    statement = claim.claim_for_worker_statement(1, 16)
    params = [1, "Work", 16, "w", 900]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
            plan = "\n".join(
                row[0] for row in cursor.execute("EXPLAIN " + statement, params).fetchall()
            )
        else:
            plan = "\n".join(
                str(row[3])
                for row in cursor.execute("EXPLAIN QUERY PLAN " + statement, params).fetchall()
            )
    assert "state_ready_for_worker" in plan, plan


@pytest.mark.races
@pytest.mark.django_db(transaction=True)
def test_ten_thousand_ready_states_are_claimed_once_each_by_a_hundred_claimers(api):
    api.upsert("g", node("s", ["a"]), node("a"))
    for _ in range(2):
        api.trigger("g")
    for state in api.claim("Work"):
        api.executed(state, *({"value": str(at)} for at in range(5000)))
    assert State.objects.filter(status="CREATED").count() == 10_000
    namespace = Namespace.objects.get(name="alpha").pk
    taken: list[list[str]] = [[] for _ in range(100)]
    room = threading.Semaphore(20)  # connections

    def work(at: int) -> None:
        worker = Worker(namespace, f"w{at}")
        while True:
            with room:
                states = claims.claim(worker, ["Work"], 16)
                connections.close_all()
            if not states:
                return
            taken[at] += [state.id for state in states]

    threads = [threading.Thread(target=work, args=(at,)) for at in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = Counter(each for one in taken for each in one)
    assert set(counted.values()) == {1}
    assert len(counted) == 10_000
    assert State.objects.filter(status="QUEUED", attempt=1).count() == 10_000


def test_a_key_may_be_limited(namespace, monkeypatch):
    limited = V0Client(api_keys.create_key(["alpha"], "admin", per_minute=3)[1])
    begun = timezone.now().replace(second=20, microsecond=0)
    monkeypatch.setattr(api_keys, "timezone", SimpleNamespace(now=lambda: begun))
    assert [limited.get("nodes/")[0] for _ in range(5)] == [200, 200, 200, 429, 429]
    assert int(limited.last["Retry-After"]) == 41
    monkeypatch.setattr(
        api_keys, "timezone", SimpleNamespace(now=lambda: begun + timedelta(minutes=1))
    )
    assert [limited.get("nodes/")[0] for _ in range(4)] == [200, 200, 200, 429]
