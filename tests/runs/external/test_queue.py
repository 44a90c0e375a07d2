"""Programs take external runs from the queue, hold them by a lease, and report on them."""

import hashlib
import re
import sys
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.db.models import F

from graphs.auth.callers import SYSTEM
from graphs.definition import errors, payloads
from graphs.models import IdempotencyKey, Namespace
from runs.actions import delete
from runs.actions.rerun import RerunOptions, rerun
from runs.core import sql
from runs.engine import control, log_lines
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside
from runs.external import queue
from runs.models import AuditEntry, LogLine, QueueEntry, Run
from runs.queries import events, wait_reasons
from runs.queries import queue as queries
from runs.queries.queue import with_runs
from tests.support.api_client import ApiClient
from tests.support.runs import outside

pytestmark = pytest.mark.django_db


@pytest.fixture
def worker(make_key):
    return ApiClient(make_key("worker", name="robot"))


@pytest.fixture
def other(make_key):
    return ApiClient(make_key("worker", name="other"))


def lapse(run):
    """Let the lease of a run be over."""
    QueueEntry.objects.filter(run=run).update(available_at=sql.clock() - timedelta(seconds=1))


def claimed(client, **body):
    status, answer = client("POST", "/queue/claim", body)
    assert status == 200, answer
    return answer["runs"]


def waiting(client, query=""):
    status, answer = client("GET", f"/queue{query}")
    assert status == 200, answer
    return [run["run_id"] for run in answer["runs"]]


def test_the_program_of_a_thread_takes_up_its_rerun(worker, make_key):
    outside(run_id="t", sop="Do it", inputs={"password": "p", "x": [1]}, labels={"app": "a"})
    run_key = ApiClient(make_key("run"))
    assert run_key("POST", "/rerun/t")[0] == 200
    assert waiting(worker) == ["t_rerun_1"], "the program of the original drives it already"
    [run] = claimed(worker, lease_seconds=60, worker="p1")
    assert (run["run_id"], run["parent_thread_id"], run["claim"]) == ("t_rerun_1", "t", 1)
    assert (run["sop"], run["initial_data"]) == ("Do it", {"password": "p", "x": [1]})
    assert (run["status"], run["lease_seconds"]) == ("running", 60)
    assert waiting(worker) == claimed(worker) == []
    assert "Retry-After" in worker.response.headers

    mark = {"node": "a", "event": "completed", "output": {"y": 1}}
    assert worker("POST", "/runs/t_rerun_1/mark?claim=1", mark)[0] == 200
    beat = {"claim": 1, "lease_seconds": 30}
    status, answer = worker("POST", "/queue/t_rerun_1/heartbeat", beat)
    assert (status, answer["status"], answer["lease_seconds"]) == (200, "running", 30)
    document = worker("GET", "/runs/t_rerun_1/checkpoint")[1] | {"status": "completed"}
    assert worker("PUT", "/runs/t_rerun_1/checkpoint?claim=1", document)[0] == 200
    assert worker("PUT", "/runs/t_rerun_1/checkpoint?claim=1", document)[0] == 200, "a repeat"
    assert Run.objects.get(run_id="t_rerun_1").status == "completed"
    assert QueueEntry.objects.get().available_at is None
    status, answer = worker("POST", "/queue/t_rerun_1/heartbeat", beat)
    assert (status, answer["run_status"]) == (409, "completed")


def test_a_program_that_goes_on_after_a_failure_holds_its_run_by_a_lease_again(worker, other):
    """Otherwise nobody would take the run if the program died then."""
    run = outside(run_id="t", enqueue=True)
    claimed(worker, lease_seconds=60)
    document = worker("GET", "/runs/t/checkpoint")[1] | {"status": "failed"}
    assert worker("PUT", "/runs/t/checkpoint?claim=1", document)[0] == 200
    assert QueueEntry.objects.get().available_at is None
    mark = {"node": "a", "event": "started"}
    assert worker("POST", "/runs/t/mark?claim=1", mark)[0] == 200
    assert worker("POST", "/queue/t/heartbeat", {"claim": 1})[0] == 200
    queue.sweep()
    lapse(run)
    assert claimed(other)[0]["claim"] == 2


def test_a_program_that_lost_its_run_to_one_without_a_claim_reports_nothing_more(worker, make_key):
    run = outside(run_id="t", enqueue=True)
    claimed(worker, lease_seconds=60)
    lapse(run)
    mark = {"node": "a", "event": "started"}
    assert ApiClient(make_key("run"))("POST", "/runs/t/mark", mark)[0] == 200
    assert worker("POST", "/runs/t/mark?claim=1", mark)[0] == 409
    assert worker("POST", "/queue/t/heartbeat", {"claim": 1})[0] == 409


def test_taking_and_giving_back_keeps_the_log_within_its_limit(worker, monkeypatch):
    monkeypatch.setattr(log_lines, "LINES_PER_RUN", 10)
    run = outside(run_id="t", enqueue=True)
    for _ in range(10):
        [claim] = claimed(worker)
        worker("POST", "/queue/t/release", {"claim": claim["claim"]})
    assert LogLine.objects.filter(run=run).count() <= 12


def test_a_run_whose_lease_is_over_is_taken_by_another_program(worker, other):
    run = outside(run_id="t", enqueue=True)
    assert claimed(worker, lease_seconds=60)[0]["claim"] == 1
    assert claimed(other) == []
    lapse(run)
    status, answer = worker("GET", "/queue")
    assert [row["lost_by"] for row in answer["runs"]] == ["key robot"]
    assert claimed(other)[0]["claim"] == 2

    mark = {"node": "a", "event": "started"}
    for path, body in (
        ("/runs/t/mark?claim=1", mark),
        ("/queue/t/heartbeat", {"claim": 1}),
        ("/queue/t/release", {"claim": 1}),
    ):
        status, answer = worker("POST", path, body)
        assert status == 409, path
        assert "key other" in answer["detail"]
    assert worker("PUT", "/runs/t/checkpoint?claim=1", {"status": "completed"})[0] == 409
    assert worker("POST", "/queue/t/heartbeat", {"claim": 2})[0] == 409, "the claim of another"
    assert other("POST", "/runs/t/mark?claim=2", mark)[0] == 200
    assert not AuditEntry.objects.filter(run=run.pk, action="mark", actor="key robot").exists()


def test_a_lease_that_is_over_but_not_lost_is_extended_by_a_report(worker):
    run = outside(run_id="t", enqueue=True)
    claimed(worker, lease_seconds=60)
    lapse(run)
    assert worker("POST", "/runs/t/mark?claim=1", {"node": "a", "event": "started"})[0] == 200
    assert waiting(worker) == []
    lapse(run)
    assert worker("POST", "/queue/t/heartbeat", {"claim": 1})[0] == 200
    assert waiting(worker) == []


def test_a_run_that_is_given_back_is_free_at_once(worker, other):
    outside(run_id="t", enqueue=True)
    claimed(worker)
    assert worker("POST", "/queue/t/release", {"claim": 1})[0] == 200
    assert waiting(worker) == ["t"]
    assert worker("POST", "/queue/t/heartbeat", {"claim": 1})[0] == 409
    assert worker("POST", "/runs/t/mark?claim=1", {"node": "a", "event": "started"})[0] == 409
    assert claimed(other)[0]["claim"] == 3


def test_the_latest_claim_after_the_end_is_the_only_one_that_still_reports(worker, other):
    run = outside(run_id="t", enqueue=True)
    claimed(worker)
    lapse(run)
    claimed(other)
    done = {"status": "completed", "data": {"by": "other"}}
    assert other("PUT", "/runs/t/checkpoint?claim=2", done)[0] == 200
    late = {"status": "completed", "data": {"by": "robot"}}
    assert worker("PUT", "/runs/t/checkpoint?claim=1", late)[0] == 409
    run.refresh_from_db()
    assert run.data == {"by": "other"}


class Stopped(Exception):
    pass


def test_the_program_of_the_documentation_works(worker, monkeypatch):
    """Its session is one of the test client. It is stopped when it finds no more runs."""
    page = (settings.BASE_DIR / "docs" / "outside.md").read_text()
    blocks = re.findall("```python\n(.*?)```", page, re.DOTALL)
    [code] = [block for block in blocks if "/queue/claim" in block]

    def send(method, url, params=None, json=None):
        query = f"?{urlencode(params)}" if params else ""
        status, answer = worker(method, f"{url}{query}", json)
        return SimpleNamespace(
            status_code=status,
            headers=worker.response.headers,
            json=lambda: answer,
            raise_for_status=lambda: status == 200 or pytest.fail(f"{status} {answer}"),
        )

    def sleep(seconds):
        if seconds:
            raise Stopped

    session = SimpleNamespace(headers={}, post=partial(send, "POST"), put=partial(send, "PUT"))
    requests = SimpleNamespace(Session=lambda: session)
    monkeypatch.setitem(sys.modules, "requests", requests)
    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setenv("STATEMANAGER_URL", "")
    monkeypatch.setenv("STATEMANAGER_KEY", "")
    for at in range(2):
        outside(run_id=f"r{at}", enqueue=True, inputs={"question": at}, labels={"app": "research"})
    outside(run_id="another", enqueue=True)
    with pytest.raises(Stopped):
        exec(code, {})
    assert [(run.run_id, run.status, run.data) for run in Run.objects.order_by("run_id")] == [
        ("another", "queued", {}),
        ("r0", "completed", {"answer": 0}),
        ("r1", "completed", {"answer": 1}),
    ]


# --- programs that never claim -----------------------------------------------------------------


def test_a_program_that_never_claims_takes_its_run_out_of_the_queue(worker, make_key):
    outside(run_id="t")
    rerun(Run.objects.get(), SYSTEM)
    program = ApiClient(make_key("run", name="old program"))
    mark = {"node": "a", "event": "started"}
    assert program("POST", "/runs/t_rerun_1/mark", mark)[0] == 200
    assert waiting(worker) == claimed(worker) == []
    assert program("PUT", "/runs/t_rerun_1/checkpoint", {"status": "completed"})[0] == 200


def test_it_is_refused_while_another_program_holds_the_run(worker, make_key):
    run = outside(run_id="t", enqueue=True)
    program = ApiClient(make_key("run", name="old program"))
    claimed(worker)
    mark = {"node": "a", "event": "started"}
    status, answer = program("POST", "/runs/t/mark", mark)
    assert (status, answer["detail"]) == (409, "key robot holds this run.")
    lapse(run)
    assert program("POST", "/runs/t/mark", mark)[0] == 200
    status, answer = worker("POST", "/queue/t/heartbeat", {"claim": 1})
    assert (status, "without a claim" in answer["detail"]) == (409, True)


def test_the_holder_may_leave_its_claim_out(make_key):
    program = ApiClient(make_key("admin", name="one key"))
    outside(run_id="t", enqueue=True)
    claimed(program)
    assert program("POST", "/runs/t/mark", {"node": "a", "event": "started"})[0] == 200
    assert program("POST", "/queue/t/heartbeat", {"claim": 1})[0] == 200


# --- what waits --------------------------------------------------------------------------------


def test_a_run_of_start_waits_only_if_it_is_asked_to(worker, make_key):
    client = ApiClient(make_key("run"))
    body = {"sop": "", "initial_data": {}}
    assert client("POST", "/start", {**body, "thread_id": "own"})[0] == 200
    assert client("POST", "/start", {**body, "thread_id": "queued", "enqueue": True})[0] == 200
    later = {**body, "thread_id": "later", "start_delay_ms": 60_000}
    assert client("POST", "/start", later)[0] == 200
    assert client("POST", "/start", later)[0] == 200, "the same request again"
    assert waiting(worker) == ["queued"]
    QueueEntry.objects.update(available_at=F("available_at") - timedelta(seconds=61))
    assert sorted(waiting(worker)) == ["later", "queued"]


def test_a_start_from_before_there_was_a_queue_is_still_recognised():
    """The digest of a request without later options is the one that its run was stored with."""
    options = RunOptions(run_id="t")
    later = ("enqueue", "priority", "timeout", "start_by")
    former = {name: value for name, value in vars(options).items() if name not in later}
    text = payloads.dump([None, None, former])
    assert options.fingerprint(None, None) == hashlib.sha256(text.encode()).hexdigest()
    assert RunOptions(run_id="t", enqueue=True).fingerprint(None, None) != options.fingerprint(
        None, None
    )


def test_a_run_of_a_graph_waits_for_no_program(worker, make_key, publish):
    publish("a", name="g")
    body = {"sop": "", "initial_data": {}, "graph": "alpha/g", "enqueue": True}
    assert ApiClient(make_key("run"))("POST", "/start", body)[0] == 422
    assert waiting(worker) == []


def test_a_delayed_rerun_waits_until_it_is_due(worker):
    rerun(outside(run_id="t"), SYSTEM, RerunOptions(delay=60))
    assert waiting(worker) == claimed(worker) == []
    QueueEntry.objects.update(available_at=F("available_at") - timedelta(seconds=61))
    assert claimed(worker)[0]["run_id"] == "t_rerun_1"


@pytest.mark.parametrize("delay", [-1, 10**10])
def test_an_impossible_delay_of_an_external_run_is_refused(delay):
    with pytest.raises(errors.Malformed, match="The delay is from 0"):
        outside(run_id="t", delay=delay)


def test_paused_cancelled_and_archived_runs_are_not_claimed(worker):
    runs = [outside(run_id=name, enqueue=True) for name in ("paused", "cancelled", "free")]
    control.pause_run(runs[0], SYSTEM)
    control.cancel_run(runs[1], SYSTEM)
    assert waiting(worker) == ["free"]
    assert queue.sweep() == 1
    assert queue.sweep() == 0
    control.resume_run(runs[0], SYSTEM)
    assert {run["run_id"] for run in claimed(worker, limit=10)} == {"paused", "free"}


def test_the_filters_choose_what_a_program_can_work_on(make_key):
    beta = Namespace.objects.create(name="beta")
    outside(run_id="1", enqueue=True, workspace="w", labels={"app": "x", "n": "1"})
    outside(run_id="2", enqueue=True, session_id="s", labels={"app": "y"})
    start_outside(beta, RunOptions(run_id="3", enqueue=True))
    client = ApiClient(make_key("worker", ()))
    for name, value, expected in (
        ("workspace", "w", ["1"]),
        ("label", "app=x", ["1"]),
        ("label", "app", ["1", "2"]),
        ("session", "s", ["2"]),
        ("namespace", "beta", ["3"]),
        ("run_id", "2", ["2"]),
        ("workspace", "nobody's", []),
    ):
        assert waiting(client, f"?{name}={value}") == expected, name
    assert client("GET", "/queue?worspace=w")[0] == 422
    assert client("POST", "/queue/claim", {"worspace": "w"})[0] == 422
    assert client("GET", "/queue?label==x")[0] == 422
    assert client("POST", "/queue/claim", {"label": "=x"})[0] == 422
    assert [run["run_id"] for run in claimed(client, label="app", limit=9)] == ["1", "2"]
    assert [run["run_id"] for run in claimed(client, namespace="beta")] == ["3"]


def test_the_queue_is_read_in_pages_the_longest_waiting_first(worker):
    names = [f"r{at}" for at in range(7)]
    for name in names:
        outside(run_id=name, enqueue=True)
    QueueEntry.objects.update(available_at=sql.clock())  # all at once: the run decides
    pages, after = [], ""
    while after is not None:
        status, page = worker("GET", f"/queue?limit=3&after={after}")
        assert status == 200, page
        pages.append([run["run_id"] for run in page["runs"]])
        after = page["next"]
    assert pages == [names[:3], names[3:6], names[6:]]
    assert worker("GET", "/queue?after=nonsense")[0] == 422


def test_a_repeated_claim_is_answered_as_the_first_one(worker):
    outside(run_id="a", enqueue=True)
    outside(run_id="b", enqueue=True)
    first = worker("POST", "/queue/claim", {}, **{"Idempotency-Key": "k"})
    assert worker("POST", "/queue/claim", {}, **{"Idempotency-Key": "k"}) == first
    assert waiting(worker) == ["b"]


def test_the_answer_to_a_claim_does_not_outlive_its_run(worker):
    for name in ("a", "b", "c"):
        outside(run_id=name, enqueue=True, sop="a secret procedure")
    worker("POST", "/queue/claim", {}, **{"Idempotency-Key": "one"})
    delete.delete_run(Run.objects.get(run_id="a"), even_active=True)
    assert worker("POST", "/queue/claim", {}, **{"Idempotency-Key": "one"})[0] == 409
    several = {"limit": 2}
    assert worker("POST", "/queue/claim", several, **{"Idempotency-Key": "two"})[0] == 200
    assert worker("POST", "/queue/claim", several, **{"Idempotency-Key": "two"})[0] == 409
    assert "secret" not in "".join(IdempotencyKey.objects.values_list("answer", flat=True))


# --- who may -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["read", "run"])
def test_the_queue_is_for_workers(make_key, scope):
    outside(run_id="t", enqueue=True)
    client = ApiClient(make_key(scope))
    assert client("GET", "/queue")[0] == 403
    assert client("POST", "/queue/claim", {})[0] == 403
    assert client("POST", "/queue/t/heartbeat", {"claim": 1})[0] == 403
    assert client("POST", "/queue/t/release", {"claim": 1})[0] == 403
    assert QueueEntry.objects.get().claim == 0


def test_a_worker_of_another_namespace_neither_sees_nor_takes_a_run(worker, make_key):
    outside(run_id="t", enqueue=True)
    claimed(worker)
    stranger = ApiClient(make_key("worker", ("beta",), name="robot"))
    outside(run_id="free", enqueue=True)
    assert waiting(stranger) == claimed(stranger, limit=9) == []
    assert claimed(stranger, namespace="alpha") == []
    assert stranger("POST", "/queue/t/heartbeat", {"claim": 1})[0] == 404
    assert stranger("POST", "/queue/t/release", {"claim": 1})[0] == 404
    assert stranger("POST", "/runs/t/mark?claim=1", {"node": "a", "event": "started"})[0] == 404


def test_a_worker_reports_only_on_what_it_has_claimed(worker, other):
    outside(run_id="t", enqueue=True)
    outside(run_id="not-queued")
    claimed(worker)
    mark = {"node": "a", "event": "started"}
    assert other("POST", "/runs/t/mark?claim=1", mark)[0] == 403
    assert other("POST", "/runs/t/mark", mark)[0] == 403
    assert worker("POST", "/runs/t/mark", mark)[0] == 403, "the claim is its right"
    assert worker("POST", "/runs/not-queued/mark?claim=0", mark)[0] == 409
    assert worker("POST", "/runs/t/mark?claim=x", mark)[0] == 422


def test_a_key_that_reads_may_not_report(make_key):
    outside(run_id="t", enqueue=True)
    reader = ApiClient(make_key("read"))
    assert reader("POST", "/runs/t/mark?claim=0", {"node": "a", "event": "started"})[0] == 403
    assert reader("PUT", "/runs/t/checkpoint", {"status": "running"})[0] == 403


# --- what people see and do ----------------------------------------------------------------------


def test_the_page_of_a_run_says_who_holds_it_and_takes_it_away(admin_client, worker):
    run = outside(run_id="t", enqueue=True)
    page = f"/admin/run-manager/run/{run.pk}/"
    assert "for a program to claim it" in admin_client.get(page).content.decode()
    claimed(worker, worker="p1")
    text = admin_client.get(page).content.decode()
    assert "key robot p1 has held this run since" in text
    assert "its lease ends at" in text
    assert "Back to the queue" in text
    assert "claimed by key robot p1, claim 1" in admin_client.get(f"{page}events/").content.decode()

    assert admin_client.post(f"{page}release/").status_code == 302
    assert waiting(worker) == ["t"]
    assert worker("POST", "/queue/t/heartbeat", {"claim": 1})[0] == 409
    entry = AuditEntry.objects.get(action="release")
    assert (entry.run_id, entry.detail) == ("t", "held by key robot p1")
    assert "Back to the queue" not in admin_client.get(page).content.decode()
    assert any("release" in event.what for event in events.events_of(run)[0])
    messages = list(LogLine.objects.filter(run=run).values_list("message", flat=True))
    assert "key robot p1 took the run, for 900 s at first" in messages
    with pytest.raises(errors.Conflict, match="No program holds"):
        queue.take_away(run, SYSTEM)


def test_the_reasons_to_wait_follow_the_queue(worker):
    run = outside(run_id="t", delay=3600)
    assert "A program can claim it from" in wait_reasons.why_waiting(run)[0]
    lapse(run)
    assert "It has waited since" in wait_reasons.why_waiting(run)[0]
    claimed(worker)
    lapse(run)
    assert "The lease of key robot is over." in wait_reasons.why_waiting(run)[0]
    queue._take_out(run.pk)
    assert "An outside program drives this run" in wait_reasons.why_waiting(run)[0]


# --- costs ---------------------------------------------------------------------------------------


def many(namespace, number=3000):
    """Runs that ended long ago or are held, with a few that wait between them."""
    runs = Run.objects.bulk_create(
        Run(
            namespace=namespace,
            run_id=f"r{at}",
            status="running",
            workspace="w",
            session_id="s",
            labels={"a": "b"},
        )
        for at in range(number)
    )
    now = sql.clock()
    QueueEntry.objects.bulk_create(
        QueueEntry(
            run=run,
            namespace=namespace,
            holder="w",
            available_at=None if at % 3 else now + timedelta(seconds=-1 if at % 50 == 0 else 900),
        )
        for at, run in enumerate(runs)
    )
    if sql.postgres():
        sql.send("ANALYZE statemanager_runs_queueentry, statemanager_runs_run")


def test_runs_that_wait_are_read_from_their_index(namespace):
    many(namespace)
    caller = replace(SYSTEM, namespaces=frozenset([namespace.pk]))
    some = {"workspace": "w", "session": "s", "label": "a=b"}
    for filters in ({}, some, {"namespace": "alpha"}):
        plan = with_runs(queries.waiting(caller, filters))[:50].explain()
        assert "sm_queue_to_claim" in plan, plan
        for word in ("Seq Scan on statemanager_runs", "SCAN statem", "Sort", "TEMP B-TREE"):
            assert word not in plan, plan


def test_a_claim_costs_the_same_for_one_run_and_for_many(namespace, django_assert_max_num_queries):
    many(namespace)
    with django_assert_max_num_queries(12):
        runs = queue.claim(queue.waiting(SYSTEM), queue.Claimer("w", 60), 50)
    assert len(runs) == 20
