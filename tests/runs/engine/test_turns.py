"""Claims go round between namespaces, and in a namespace by priority and age."""

from datetime import timedelta

import pytest
from django.db import connection, transaction

from graphs.auth.callers import SYSTEM
from graphs.models import Namespace
from graphs.nodes.base import registry
from runs.core import sql
from runs.engine import claim, lease_recovery, priority, record, turns
from runs.engine.answer import answer_state
from runs.engine.claimed_states import FactsCache
from runs.engine.executor import Executor
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.engine.types import Outcome
from runs.models import Run, State
from tests.support.engine import claimed, done

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_lookups(monkeypatch):
    """Each claim looks for backlogs, as if enough time had passed since the last one."""
    monkeypatch.setattr(turns, "LOOKUP_SECONDS", 0.0)
    monkeypatch.setattr(turns, "CHEAP_SECONDS", 60.0)


def test_a_namespace_without_states_does_not_stop_the_clock_of_the_turns(tenant, monkeypatch):
    """A claim may know of states that were taken meanwhile."""
    tenant("busy", 500)
    tenant("idle", 1)
    worker = Worker()
    worker.claim(50)
    monkeypatch.setattr(turns, "LOOKUP_SECONDS", 60.0)
    for _ in range(4):
        worker.claim(50)
    monkeypatch.setattr(turns, "LOOKUP_SECONDS", 0.0)
    backlog(Run.objects.get(namespace__name="idle"), 200)
    worker.turns.expire()
    assert worker.claim(10) == {"busy": 5, "idle": 5}


@pytest.fixture
def tenant(publish):
    """A function that makes a namespace with a number of ready states. Returns the namespace."""

    def make(name, states, weight=1):
        graph = publish("a", namespace=Namespace.objects.create(name=name))
        Namespace.objects.filter(pk=graph.namespace_id).update(weight=weight)
        if states:
            run = start_run(graph)
            backlog(run, states - 1)
        return graph.namespace

    return make


def backlog(run, count, node="noop"):
    State.objects.bulk_create(
        State(
            run=run,
            namespace_key=run.namespace_id,
            identifier="a",
            node=node,
            path=f"0:{at}",
            inputs={},
            claim_at=sql.clock() - timedelta(hours=1),
        )
        for at in range(count)
    )


class Worker:
    """Claims as a worker does, with what it remembers between its claims."""

    def __init__(self):
        self.turns = turns.Turns()

    def claim(self, limit, nodes=("noop",)):
        """How many states of each namespace one claim takes."""
        states = claim.claim("w", [claim.Group(list(nodes), limit)], 30, FactsCache(), self.turns)
        names = [state.run.namespace for state in states]
        return {name: names.count(name) for name in sorted(set(names))}


def test_a_backlog_keeps_no_other_namespace_waiting_longer_than_a_batch(tenant):
    tenant("big", 1000)
    worker = Worker()
    assert worker.claim(100) == {"big": 100}
    tenant("small", 1)
    assert worker.claim(100) == {"big": 99, "small": 1}


def test_a_worker_that_follows_its_chains_turns_to_another_namespace(publish, monkeypatch):
    """It would go on with what follows from its batch, without a claim."""
    big, small = (Namespace.objects.create(name=name) for name in ("big", "small"))
    chain = publish("a>b>c>d>e>f>g>h", namespace=big)
    late = publish("a", namespace=small)
    for _ in range(20):
        start_run(chain)
    worker = Executor(threads=False)
    worker.lanes.speed = {"noop": 1e-4}
    record, batches = worker._record, []

    def note_batch(outcomes, lease):
        batches.append({outcome.state.run.namespace for outcome in outcomes})
        if len(batches) == 2:
            start_run(late)
        return record(outcomes, lease)

    monkeypatch.setattr(worker, "_record", note_batch)
    worker.drain(budget=20)
    assert next(at for at, names in enumerate(batches, 1) if "small" in names) <= 4
    assert not Run.objects.exclude(status="completed").exists()


def test_namespaces_share_a_batch_by_their_weights(tenant):
    tenant("heavy", 100, weight=3)
    tenant("light", 100)
    assert Worker().claim(40) == {"heavy": 30, "light": 10}


def test_namespaces_share_by_their_weights_where_a_claim_takes_one_state(tenant):
    tenant("heavy", 100, weight=3)
    tenant("light", 100)
    worker = Worker()
    taken = [next(iter(worker.claim(1))) for _ in range(40)]
    assert taken.count("heavy") == 30
    longest = max(len(part) for part in "".join(name[0] for name in taken).split("l"))
    assert longest <= 4, "they take turns"


def test_a_namespace_that_was_idle_has_saved_no_turns(tenant):
    tenant("busy", 1000)
    tenant("idle", 1)
    worker = Worker()
    for _ in range(5):
        worker.claim(50)
    backlog(Run.objects.get(namespace__name="idle"), 200)
    assert worker.claim(10) == {"busy": 5, "idle": 5}


def test_a_claim_that_comes_too_late_does_not_put_the_clock_of_the_turns_back(tenant):
    """Another worker may have taken what a worker has just found."""
    busy = tenant("busy", 300)
    worker = Worker()
    for _ in range(3):
        worker.claim(50)
    worker.turns.renew(["noop"])
    State.objects.filter(run__namespace=busy, status="CREATED").update(paused=True)
    wanted = turns.BacklogClaim(0, worker.turns.backlogs_of(turns.Group(["noop"], 50)), 50)
    worker.turns.note(wanted, [])
    tenant("new", 200)
    State.objects.filter(run__namespace=busy).update(paused=False)
    assert worker.claim(10) == {"busy": 5, "new": 5}


def test_weights_hold_where_one_namespace_has_most_of_them(tenant):
    tenant("heavy", 200, weight=20)
    for at in range(4):
        tenant(f"light{at}", 50)
    taken = Worker().claim(96)
    assert taken["heavy"] == 80
    assert sum(taken.values()) == 96


def test_what_a_claim_could_not_give_is_no_credit_for_ever():
    """A namespace waits for the credit of another one for no longer than a claim."""
    worker = Worker()
    heavy = turns.Backlog(1, "noop", 1, "2026-01-01")
    light = turns.Backlog(2, "noop", 1, "2026-01-01")
    wanted = turns.BacklogClaim(0, [heavy, light], 10)
    passes = turns.Passes({1: 5.0, 2: 1000.0}, {1, 2}, 5.0)
    worker.turns._passes[0] = passes
    assert worker.turns.passes(wanted) == {1: 990.0, 2: 1000.0}


def test_asking_for_other_nodes_in_between_does_not_begin_the_rotation_again(tenant):
    names = [f"n{at:03}" for at in range(turns.MAX_BACKLOGS + 6)]
    for name in names:
        tenant(name, 3)
    worker = Worker()
    seen = set()
    for _ in range(2):
        seen |= set(worker.claim(64))
        worker.claim(64, ["dataset.read"])
    assert seen == set(names)


def test_backlogs_without_ready_states_hide_none_that_has(tenant, monkeypatch, publish):
    monkeypatch.setattr(turns, "MAX_VISITED", 5)
    for at in range(12):
        graph = publish("a", namespace=Namespace.objects.create(name=f"later{at:02}"))
        start_run(graph, RunOptions(delay=3600))
    tenant("now", 1)
    assert Worker().claim(10) == {"now": 1}


def test_a_state_that_is_given_back_keeps_its_place(publish):
    run = start_run(publish("a"))
    place = run.states.get().claim_at
    [state] = claimed()
    record.record_batch([Outcome(state, "release")])
    stored = run.states.get()
    assert (stored.status, stored.claim_at) == ("CREATED", place)


def test_an_answered_state_has_the_head_start_of_its_run(publish, executor):
    graph = publish("a", kinds={"a": "approval"}, inputs={"a": {"question": "?"}})
    run = start_run(graph, RunOptions(priority=100))
    executor.drain()
    state = answer_state(run, run.states.get().pk, {"approved": True}, SYSTEM)
    ahead = (state.due_at - state.claim_at).total_seconds()
    assert ahead == pytest.approx(priority.head_start(100), abs=1)


def test_states_that_an_old_version_stored_come_to_their_namespaces(publish):
    """It knows neither the namespace's key nor the place, which the database then fills in."""
    run = start_run(publish("a"), RunOptions(delay=3600))
    State.objects.filter(run=run).update(namespace_key=0, claim_at=sql.clock())
    priority.adopt_states()
    state = run.states.get()
    assert (state.namespace_key, state.claim_at) == (run.namespace_id, state.due_at)


def test_each_of_many_namespaces_has_its_turn(tenant, publish):
    """More than one lookup finds."""
    names = [f"n{at:03}" for at in range(turns.MAX_BACKLOGS + 20)]
    for name in names:
        tenant(name, 3)
    worker = Worker()
    seen = {name for _ in range(2) for name in worker.claim(100)}
    assert seen == set(names)


def test_groups_of_nodes_have_turns_of_their_own(tenant, publish):
    """A namespace that had many fast states is not the last one with its slow ones."""
    tenant("fast", 500)
    for name in ("fast", "slow"):
        namespace, _ = Namespace.objects.get_or_create(name=name)
        run = start_run(publish("a", namespace=namespace, name="other", kinds={"a": "test.work"}))
        run.states.all().delete()
        backlog(run, 9, "test.work")
    worker = Worker()
    taken = []
    for _ in range(4):
        groups = [claim.Group(["noop"], 100), claim.Group(["test.work"], 1)]
        states = claim.claim("w", groups, 30, FactsCache(), worker.turns)
        taken += [state.run.namespace for state in states if state.node.kind == "test.work"]
    assert sorted(taken) == ["fast", "fast", "slow", "slow"]


def test_shared_external_workers_take_turns_between_namespaces(publish):
    """A graph may use nodes of another namespace; their workers serve all that do."""
    tools = Namespace.objects.create(name="tools")
    for name, count in (("big", 300), ("small", 1)):
        namespace = Namespace.objects.create(name=name)
        run = start_run(publish("a", namespace=namespace))
        run.states.all().delete()
        backlog(run, count)
        State.objects.filter(run=run).update(worker_namespace=tools)
    remembered = turns.Turns(tools.pk)

    def claim_some():
        states, _ = claim.claim_for_worker("w", ["noop"], 10, 30, FactsCache(), remembered)
        return sorted(state.run.namespace for state in states)

    assert claim_some() == ["big"] * 9 + ["small"]
    assert claim_some() == ["big"] * 10


# --- priorities ----------------------------------------------------------------------------------


def test_states_of_a_namespace_are_claimed_by_priority_and_then_by_age(publish):
    graph = publish("a")
    for name, points in (("low", -100), ("first", 0), ("second", 0), ("high", 100)):
        start_run(graph, RunOptions(run_id=name, priority=points))
    taken = [claimed_one() for _ in range(4)]
    assert taken == ["high", "first", "second", "low"]


def claimed_one():
    [state] = claim.claim("w", [claim.Group(["noop"], 1)], 30, FactsCache())
    return state.run.run_id


def test_an_old_state_of_low_priority_comes_before_a_new_one(publish):
    """It would wait for ever behind others that never end."""
    graph = publish("a")
    for name, points in (("low", 0), ("high", 10)):
        start_run(graph, RunOptions(run_id=name, priority=points))
    older = timedelta(seconds=10 * priority.SECONDS_PER_POINT + 1)
    low = State.objects.get(run__run_id="low")
    State.objects.filter(pk=low.pk).update(due_at=low.due_at - older, claim_at=low.claim_at - older)
    assert [claimed_one(), claimed_one()] == ["low", "high"]


def test_what_follows_has_the_head_start_of_its_run(publish):
    run = start_run(publish("a>b"), RunOptions(priority=50))
    [root] = claimed()
    record.record_batch([done(root)])
    state = run.states.get(identifier="b")
    ahead = (state.due_at - state.claim_at).total_seconds()
    assert ahead == pytest.approx(priority.head_start(50), abs=1)


def test_a_delayed_state_gets_its_head_start_when_it_is_due(publish):
    run = start_run(publish("a"), RunOptions(delay=3600, priority=100))
    state = run.states.get()
    assert state.claim_at == state.due_at
    assert claimed() == []
    due = sql.clock() - timedelta(seconds=5)
    State.objects.update(due_at=due, claim_at=due)
    start_run(publish("a"), RunOptions(run_id="later"))
    lease_recovery.hint_ready()
    state.refresh_from_db()
    assert state.due_at - state.claim_at == timedelta(seconds=priority.head_start(100))
    assert claimed_one() == run.run_id


def test_a_paused_or_future_state_gets_no_head_start(publish):
    run = start_run(publish("a"), RunOptions(delay=3600))
    priority.give_head_starts()
    state = run.states.get()
    assert state.claim_at == state.due_at


def test_a_graph_has_a_priority_for_its_runs_and_a_start_may_have_another(publish):
    graph = publish("a", settings={"priority": 7})
    assert start_run(graph).priority == 7
    assert start_run(graph, RunOptions(priority=0)).priority == 0


def test_the_api_takes_a_priority_and_a_rerun_keeps_it(admin_client, publish):
    graph = publish("a")

    def start(value):
        return admin_client.post(
            f"/graphs/{graph.pk}/run", {"priority": value}, content_type="application/json"
        )

    run = Run.objects.get(run_id=start(-5).json()["id"])
    assert admin_client.get(f"/runs/{run.run_id}").json()["priority"] == run.priority == -5
    for refused in (101, -101, "high", 1.5, True):
        assert start(refused).status_code == 422, refused
    rerun = admin_client.post(f"/rerun/{run.run_id}", {}, content_type="application/json").json()
    assert Run.objects.get(run_id=rerun["thread_id"]).priority == -5


def test_a_run_that_an_outside_program_drives_has_no_priority(admin_client):
    body = {"sop": "", "initial_data": {}, "priority": 1}
    answer = admin_client.post("/start", body, content_type="application/json")
    assert answer.status_code == 422
    assert "runs of a graph" in answer.json()["detail"]


# --- costs ---------------------------------------------------------------------------------------


def explained(statement, params):
    prefix = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    return "\n".join(" ".join(map(str, row)) for row in sql.run(prefix + statement, params))


def test_a_lookup_reads_the_index_and_neither_scans_nor_sorts(tenant):
    for name in ("one", "two", "three"):
        tenant(name, 1000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    place = (Namespace.objects.get(name="two").pk, "noop")
    text = explained(turns.backlogs_statement(), turns._params(place, ["noop"], None))
    assert text.count("sm_state_claimable") >= 2
    assert "Seq Scan on statemanager_runs_state" not in text
    assert "Sort" not in text
    assert "TEMP B-TREE" not in text
    if connection.vendor == "sqlite":
        jumps = text.count("sm_state_claimable (namespace_key=? AND node>?)")
        assert jumps == 2, "it jumps over the backlog where it begins, and over each that follows"


@pytest.mark.only_on("postgresql")
def test_a_claim_reads_as_much_of_a_large_backlog_as_of_a_small_one(tenant):
    tenant("other", 10)
    big = tenant("big", 500)

    def blocks_of_a_claim():
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE statemanager_runs_state")
        with transaction.atomic():
            params = turns._params(turns.START, list(registry), None)
            read = [blocks(turns.backlogs_statement(), params)]
            heads = [
                [backlog.namespace, backlog.node, backlog.first, 0.0, 1]
                for backlog in turns.look(list(registry)).backlogs
            ]
            read.append(blocks(claim.claim_statement(((10, 10),)), [*sql.values(heads), "w", 30]))
            transaction.set_rollback(True)
        return read

    small = blocks_of_a_claim()
    backlog(Run.objects.get(namespace=big), 10_000)
    large = blocks_of_a_claim()
    assert large[0] <= small[0] + 6, "one more level of the index in each descent"
    assert large[1] <= 2 * small[1] + 20


def blocks(statement, params):
    [[[plan]]] = sql.run(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", params)
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
