"""External workers of the newer protocol: attempts, heartbeats, releases and reports in batches."""

import itertools
import threading
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone

from graphs.auth import api_keys
from graphs.models import Namespace, clock
from runs.core import sql
from runs.engine import claim, lease_recovery, record
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


def test_a_repeated_report_with_its_attempt_gets_the_same_answer(api):
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


def test_a_heartbeat_renews_the_lease_and_reports_progress_and_log_lines(api):
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
    assert stored.progress == 0.5
    assert 50 < (stored.lease_expires_at - timezone.now()).total_seconds() <= 60
    assert LogLine.objects.get(state=stored.pk).message == "half"
    assert api.post(f"state/{state['state_id']}/heartbeat", {})[1]["lease_seconds"] == 900
    assert State.objects.get(pk=state["state_id"]).progress == 0.5
    api.post(f"run/{stored.run.run_id}/cancel")
    status, answer = api.post(f"state/{state['state_id']}/heartbeat", {"attempt": 1})
    assert (status, answer["state_status"]) == (409, "CANCELLED")
    assert_counters_agree(Run.objects.get())


def test_a_released_state_is_ready_at_once_without_a_lost_lease(api):
    state = start(api)
    assert api.post(f"state/{state['state_id']}/release", {"attempt": 1}) == (
        200,
        {"status": "CREATED"},
    )
    assert State.objects.get(pk=state["state_id"]).lost_leases == 0
    assert api.claim("Work")[0]["attempt"] == 2


def test_each_report_of_an_external_node_has_a_line_in_the_log(api):
    state = start(api)
    path = f"state/{state['state_id']}"
    api.post(f"{path}/re-enqueue-after", {"enqueue_after": 1500})
    State.objects.update(due_at=sql.clock(), claim_at=sql.clock())
    api.claim("Work")
    api.post(f"{path}/release", {})
    api.claim("Work")
    api.post(f"{path}/executed", {"outputs": [{"value": "1"}, {"value": "2"}]})
    lines = LogLine.objects.filter(state=state["state_id"]).order_by("pk")
    name = State.objects.get(pk=state["state_id"]).identifier
    assert [line.message for line in lines] == [
        f"{name}: its worker asked to run it again in 1.5 s",
        f"{name}: its worker gave it back",
        f"{name}: its worker reported success, outputs: 2",
    ]
    other = start(api)
    api.post(f"state/{other['state_id']}/prune", {"data": {}})
    line = LogLine.objects.get(state=other["state_id"])
    assert line.message == f"{line.identifier}: its worker ended the branch"
    for run in Run.objects.all():
        assert_counters_agree(run)


def test_reports_of_a_cancelled_run_are_refused(api):
    state = start(api)
    api.post(f"run/{state['run_id']}/cancel")
    assert api.post(f"state/{state['state_id']}/executed", {"outputs": []}) == (
        400,
        {"detail": "State is not queued: it is CANCELLED."},
    )
    assert by_node(Run.objects.get()) == {"a": ["CANCELLED"]}


def test_external_workers_cannot_report_on_states_of_builtin_nodes(api, publish, drain):
    run = start_run(publish("x"))
    State.objects.update(status="QUEUED", attempt=1)
    state = State.objects.get()
    assert api.post(f"state/{state.pk}/executed", {"outputs": []})[0] == 400
    assert api.get(f"state/{state.pk}/secrets")[0] == 404
    assert by_node(run) == {"x": ["QUEUED"]}


def test_a_node_and_a_graph_may_set_the_length_of_the_lease(api):
    state = start(api)
    graph = Run.objects.get().graph
    definition = graph.current.definition
    definition["nodes"][0]["data"]["lease"] = 5000
    body = {"nodes": definition["nodes"], "settings": {"lease": 120}}
    assert api("put", f"/graphs/{graph.pk}", body)[0] == 200
    api.trigger("g")
    [state] = api.claim("Work")
    assert state["lease_seconds"] == 5000
    stored = State.objects.get(pk=state["state_id"])
    assert 4900 < (stored.lease_expires_at - timezone.now()).total_seconds() <= 5000
    api.executed(state)
    assert api.claim("Work")[0]["lease_seconds"] == 120


def test_an_idle_worker_is_told_when_to_claim_again(api):
    assert api.post("states/enqueue", {"nodes": ["Work"], "batch_size": 1})[1]["states"] == []
    assert 1 <= int(api.last["Retry-After"]) <= 3
    start(api)
    assert "Retry-After" not in api.last


def test_a_worker_reports_and_claims_in_one_request(api, django_assert_max_num_queries):
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


def test_each_report_of_a_batch_gets_its_own_answer(api, other):
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
    assert [(answer["code"], answer["status"]) for answer in answers] == [
        (200, "EXECUTED"),
        (200, "ERRORED"),
        (200, "PRUNED"),
        (200, "CREATED"),
        (200, "CREATED"),
        (422, "ERRORED"),
        (200, "EXECUTED"),
        (404, None),
        (404, None),
        (404, None),
    ]
    assert_counters_agree(Run.objects.get(namespace__name="alpha"))


def test_a_report_with_two_outcomes_or_none_is_refused(api):
    for outcome in ({"outputs": [], "error": "x"}, {}):
        reports = [{"state_id": "f" * 32, **outcome}]
        assert api.post("states/report", {"reports": reports})[0] == 422


def test_a_claim_reads_the_index_for_external_workers(api):
    start(api)
    statement = claim.claim_for_worker_statement(16)
    head = [1, "Work", "2000-01-01 00:00:00+00", 0.0, 1]
    params = [*sql.values([head]), 1, 16, "w", 900]
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
    assert "state_claimable_by_worker" in plan, plan


def test_the_run_names_the_node_that_an_external_worker_holds(api):
    api.upsert("g", node("a", ["b"]), node("b"))
    api.trigger("g", run_id="r")
    [first] = api.claim("Work")

    def shown():
        run = Run.objects.get()
        return run.status, run.current_node

    assert shown() == ("running", "a")
    revision = Run.objects.get().revision
    api.executed(first, {"value": "1"})
    [second] = api.claim("Work")
    assert (*shown(), Run.objects.get().revision) == ("running", "b", revision + 2)
    api.executed(second, {"value": "1"}, {"value": "2"})
    assert shown() == ("completed", "b")
    lines = Run.objects.get().logs.order_by("id").values_list("identifier", "message")
    assert [line for line in lines if line[0]] == [
        ("a", "a: its worker reported success, outputs: 1"),
        ("b", "b: its worker reported success, outputs: 2"),
    ]
    assert_counters_agree(Run.objects.get())


def test_a_claim_keeps_the_counters_that_its_process_knows(api, monkeypatch):
    """Otherwise each report of a worker that follows a run would be recorded under a lock."""
    batches = []
    optimistic = record._record_optimistically

    def watched(*args):
        batches.append(optimistic(*args))
        return batches[-1]

    monkeypatch.setattr(record, "_record_optimistically", watched)
    api.upsert("g", node("a", ["b"]), node("b", ["c"]), node("c"))
    api.trigger("g")
    for _ in range(3):
        [state] = api.claim("Work")
        api.executed(state, {"value": "1"})
    assert len(batches) == 2, "of b and c; the counters were not known before a"
    assert all(batches) == (connection.vendor == "postgresql")


def test_a_state_that_is_claimed_with_a_report_is_the_current_node(api):
    api.upsert("g", node("a", ["b"]), node("b", ["c"]), node("c"))
    api.trigger("g")
    [state] = api.claim("Work")
    for following in ("b", "c"):
        reports = [{"state_id": state["state_id"], "attempt": 1, "outputs": [{"value": "1"}]}]
        body = {"reports": reports, "nodes": ["Work"], "batch_size": 1}
        _, answer = api.post("states/report", body)
        [state] = answer["states"]
        assert Run.objects.get().current_node == state["identifier"] == following


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
    claimed: list[list[str]] = [[] for _ in range(100)]
    connections_left = threading.Semaphore(20)

    def work(at: int) -> None:
        worker = Worker(namespace, f"w{at}")
        while True:
            with connections_left:
                states = claims.claim(worker, ["Work"], 16)
                connections.close_all()
            if not states:
                return
            claimed[at] += [state.id for state in states]

    threads = [threading.Thread(target=work, args=(at,)) for at in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claims_by_state = Counter(itertools.chain.from_iterable(claimed))
    assert set(claims_by_state.values()) == {1}
    assert len(claims_by_state) == 10_000
    assert State.objects.filter(status="QUEUED", attempt=1).count() == 10_000


def test_the_requests_of_a_key_may_be_limited(namespace, monkeypatch):
    limited = V0Client(api_keys.create_key(["alpha"], "admin", per_minute=3)[1])
    start = timezone.now().replace(second=20, microsecond=0)
    monkeypatch.setattr(clock, "now", lambda: start)
    assert [limited.get("nodes/")[0] for _ in range(5)] == [200, 200, 200, 429, 429]
    assert int(limited.last["Retry-After"]) == 41
    monkeypatch.setattr(clock, "now", lambda: start + timedelta(minutes=1))
    assert [limited.get("nodes/")[0] for _ in range(4)] == [200, 200, 200, 429]
