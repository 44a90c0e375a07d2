"""Run documents are restored exactly, and runs resume from any recorded document."""

import copy
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from runs.actions.rerun import RerunOptions, rerun
from runs.core import sql, statuses
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.external import documents, updates
from runs.external.run_state import KEPT_ACTIONS, VERSION, NodeState, RunState, RunStatus
from runs.models import Checkpoint, Run, State
from tests.support.runs import outside

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
NUMBERS = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
SECONDS = st.floats(0, 4e9)
COUNTS = st.integers(0, 2**31 - 1)
NODES = st.builds(
    NodeState,
    node_id=TEXT,
    status=st.sampled_from([*statuses.STATE_STATUS_OF_DOCUMENT, "unheard of"]),
    input_data=OBJECT,
    output_data=OBJECT,
    started_at=SECONDS,
    finished_at=SECONDS,
    error=st.none() | TEXT,
    attempts=COUNTS,
    idempotency_key=TEXT,
)
STATES = st.builds(
    RunState,
    run_id=TEXT,
    session_id=TEXT,
    status=st.sampled_from(RunStatus),
    purpose=TEXT,
    current_node=TEXT,
    current_step=COUNTS,
    max_steps=COUNTS,
    data=OBJECT,
    node_states=st.dictionaries(TEXT, NODES, max_size=4),
    completed_nodes=st.lists(TEXT, max_size=4),
    action_history=st.lists(OBJECT, max_size=60),
    started_at=SECONDS,
    updated_at=SECONDS,
    finished_at=SECONDS,
    tool_results_cache=OBJECT,
    heuristic_count_at_checkpoint=COUNTS,
    experience_count_at_checkpoint=COUNTS,
    metadata=OBJECT,
    pending_actions=st.lists(OBJECT, max_size=2),
    memory_snapshots=st.lists(JSON, max_size=2),
    version=st.just(VERSION),
)


@given(STATES)
@settings(max_examples=200, deadline=None)
def test_a_document_is_restored_exactly(state):
    document = state.to_dict()
    assert RunState.from_dict(copy.deepcopy(document)).to_dict() == document
    assert len(document["action_history"]) <= KEPT_ACTIONS


@pytest.mark.django_db
@given(STATES)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_document_is_restored_exactly_from_the_database(state):
    run = outside()
    state.run_id = run.run_id
    document = state.to_dict()
    updates.put_run_state(run, RunState.from_dict(document), SYSTEM)
    assert documents.run_state(Run.objects.get(pk=run.pk)).to_dict() == document
    assert_rows_agree(run, state)


def assert_rows_agree(run, document):
    """The states and counters in the database are those of the document."""
    run.refresh_from_db()
    states = {state.identifier: state for state in run.states.all()}
    assert states.keys() == document.node_states.keys()
    assert run.ended == (run.finished_at is not None) == (run.status in statuses.ENDED_RUNS)
    unfinished = [state for state in states.values() if state.status in statuses.UNFINISHED]
    assert run.pending_count == len(unfinished)
    assert not (run.ended and unfinished)
    succeeded = [state for state in states.values() if state.status in ("SUCCESS", "PRUNED")]
    assert run.success_count == len(succeeded)
    assert run.log_count == run.logs.count()


@pytest.mark.parametrize(
    "older", [{}, {"version": 1, "node_states": {"a": {"status": "running", "attempts": 2}}}]
)
def test_older_documents_are_upgraded(older):
    state = RunState.from_dict({"run_id": "r", **older})
    assert (state.version, state.started_at) == (VERSION, 0.0)
    assert (state.pending_actions, state.memory_snapshots) == ([], [])
    for name, node in state.node_states.items():
        assert (node.node_id, node.idempotency_key) == (name, "")
    assert RunState.from_dict(state.to_dict()).to_dict() == state.to_dict()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"version": VERSION + 1}, "newer State Manager"),
        ({"version": True}, "whole number"),
        ({"status": "asleep"}, "status"),
        ({"node_states": {"a": {"attempts": "two"}}}, "attempts"),
        ({"colour": "green"}, "colour"),
        ({"data": {"a": math.nan}}, "stored as JSON"),
        ({"data": {"a": "\x00"}}, "NUL"),
        ({"node_states": []}, "node_states"),
    ],
)
def test_a_wrong_document_is_refused_with_a_reason(document, message):
    with pytest.raises(errors.Malformed) as refused:
        RunState.from_dict(document)
    assert message in str(refused.value.detail)


def test_a_document_is_changed_by_marking_nodes():
    state = RunState(run_id="r")
    assert (state.max_steps, state.status, state.finished_at) == (20, "pending", 0.0)
    state.mark_node_started("a")
    state.mark_node_failed("a", "broken")
    state.mark_node_started("a")
    state.mark_node_completed("a", {"x": 1})
    state.mark_node_completed("a")
    node = state.node_states["a"]
    assert (node.status, node.attempts) == ("completed", 2)
    assert (node.error, node.output_data) == (None, {"x": 1})
    assert (state.completed_nodes, state.current_node) == (["a"], "a")
    assert [action["action"] for action in state.action_history] == [
        "started",
        "failed",
        "started",
        "completed",
        "completed",
    ]


def test_an_empty_output_replaces_an_earlier_one_and_a_failure_takes_the_node_from_the_completed():
    state = RunState(run_id="r")
    state.mark_node_started("a")
    state.mark_node_completed("a", {"x": 1})
    state.mark_node_completed("a", {})
    assert state.node_states["a"].output_data == {}
    state.mark_node_failed("a", "broken")
    assert state.completed_nodes == []


@pytest.mark.parametrize(
    "report",
    [
        {"event": "completed", "error": "boom"},
        {"event": "failed", "error": "boom", "output": {}},
        {"event": "started", "output": {"x": 1}},
        {"event": "started", "error": "boom"},
    ],
)
@pytest.mark.django_db
def test_a_report_with_what_its_event_does_not_have_is_refused(report):
    run = outside(run_id="r")
    before = Checkpoint.objects.count()
    with pytest.raises(errors.Malformed, match="Only a"):
        updates.mark(run, "a", caller=SYSTEM, **report)
    assert Checkpoint.objects.count() == before


def test_the_first_cached_result_remains():
    state = RunState(run_id="r", current_step=3)
    key = state.get_idempotency_key("search", "abc")
    assert (key, state.has_cached_result(key)) == ("r:3:search:abc", False)
    state.cache_result(key, [1])
    state.cache_result(key, [2])
    assert state.get_cached_result(key) == [1]


def test_a_document_keeps_only_the_newest_actions():
    state = RunState(run_id="r")
    for number in range(60):
        state.mark_node_started(str(number))
    assert len(state.to_dict()["action_history"]) == KEPT_ACTIONS


@pytest.mark.django_db
def test_every_run_has_a_document(publish, drain, tmp_path):
    graph = publish(
        "start>out>work>all",
        kinds={"out": "test.each", "work": "test.once"},
        inputs={"out": {"items": [1, 2]}, "work": {"path": str(tmp_path / "calls")}},
        data={"all": {"unites": {"identifier": "start"}}},
    )
    run = start_run(
        graph, RunOptions(store={"a": 1}, purpose="why", session_id="s", metadata={"m": 1})
    )
    drain()
    run.refresh_from_db()
    document = documents.run_state(run).to_dict()
    assert RunState.from_dict(document).to_dict() == document
    assert (document["status"], document["purpose"]) == ("completed", "why")
    assert (document["session_id"], document["data"]) == ("s", {"a": 1})
    assert document["metadata"] == {"m": 1}

    nodes = document["node_states"]
    assert set(nodes) == {"start", "out@1:0", "out@1:1", "work@1:0", "work@1:1", "all"}, (
        "each sibling has a key of its own"
    )
    assert nodes["work@1:1"]["idempotency_key"] == f"alpha:{run.run_id}:work@1:1", (
        "the key that the node used"
    )
    assert nodes["out@1:0"]["idempotency_key"] == f"alpha:{run.run_id}:out"
    assert document["completed_nodes"][0] == "start"
    assert document["completed_nodes"][-1] == "all"
    assert {(action["action"], action["node"]) for action in document["action_history"]} >= {
        ("started", "start"),
        ("completed", "all"),
    }
    assert list(document["tool_results_cache"].values()) == list(
        run.tool_results.order_by("pk").values_list("result", flat=True)
    )
    assert document["tool_results_cache"]


@pytest.mark.django_db
def test_the_document_counts_retries_as_attempts_of_one_node(publish, drain):
    run = start_run(
        publish(
            "a",
            kinds={"a": "test.fail"},
            data={"a": {"retry": {"max_retries": 2, "backoff_factor": 0.001}}},
        )
    )
    while drain():
        State.objects.filter(run=run, status="CREATED").update(
            due_at=sql.clock(), claim_at=sql.clock()
        )
    document = documents.run_state(Run.objects.get(pk=run.pk)).to_dict()
    assert (document["status"], document["node_states"]["a"]["status"]) == ("failed", "failed")
    assert document["node_states"]["a"]["attempts"] == run.states.count() == 3
    assert "broken" in document["node_states"]["a"]["error"]


@pytest.mark.django_db
def test_only_the_engine_writes_runs_of_a_graph(publish):
    run = start_run(publish("a"))
    for write in (
        lambda: updates.put_run_state(run, RunState(run_id=run.run_id), SYSTEM),
        lambda: updates.mark(run, "a", "started", SYSTEM),
    ):
        with pytest.raises(errors.Conflict, match="the engine alone"):
            write()
    assert not Checkpoint.objects.exists()


@pytest.mark.django_db
def test_a_run_resumes_from_any_recorded_point(api_client):
    run = outside(run_id="long")
    for node in ("a", "b", "c"):
        updates.mark(run, node, "started", SYSTEM)
        updates.mark(run, node, "completed", SYSTEM, {"of": node})
    points = api_client.get("/runs/long/checkpoints").json()["checkpoints"]
    second = next(point for point in points if point["metadata"]["node"] == "b")
    document = api_client.get(f"/runs/long/checkpoint?at={second['checkpoint_id']}").json()
    assert document["completed_nodes"] == ["a"]
    answer = api_client.put("/runs/long/checkpoint", document, format="json").json()
    assert answer["completed_nodes"] == ["a"]
    identifiers = set(State.objects.filter(run=run).values_list("identifier", flat=True))
    assert identifiers == {"a", "b"}, "c must be executed again"


@pytest.mark.django_db
def test_an_unknown_point_is_a_404(api_client):
    outside(run_id="long")
    for checkpoint_id in ("nonsense", "%00"):
        assert api_client.get(f"/runs/long/checkpoint?at={checkpoint_id}").status_code == 404


@pytest.mark.django_db
def test_a_rerun_of_an_external_run_begins_with_an_empty_document():
    run = outside()
    updates.mark(run, "a", "started", SYSTEM)
    new_run = rerun(run, SYSTEM, RerunOptions())
    assert (new_run.graph, documents.run_state(new_run).node_states) == (None, {})


@pytest.mark.django_db
def test_putting_the_same_document_again_makes_no_new_point():
    run = outside()
    updates.mark(run, "a", "started", SYSTEM)
    first = documents.run_state(run)
    for _ in range(3):
        assert updates.put_run_state(run, first, SYSTEM) == first
    assert Checkpoint.objects.filter(run=run).count() == 1
    updates.mark(run, "a", "completed", SYSTEM)
    updates.put_run_state(run, first, SYSTEM)
    assert Checkpoint.objects.filter(run=run).count() == 3, (
        "returning to an earlier document is a new point"
    )


@pytest.mark.django_db
def test_only_the_newest_points_are_kept():
    run = outside()
    for number in range(updates.MAX_DOCUMENTS + 5):
        updates.mark(run, f"n{number}", "started", SYSTEM)
    kept = list(Checkpoint.objects.filter(run=run).order_by("pk"))
    assert len(kept) == updates.MAX_DOCUMENTS
    assert kept[-1].parent_checkpoint_id == kept[-2].checkpoint_id
    assert kept[-1].metadata["node"] == f"n{updates.MAX_DOCUMENTS + 4}"


@pytest.mark.django_db
def test_a_failed_run_resumes_from_an_earlier_point(api_client):
    run = outside(run_id="r")
    api_client.put("/runs/r/checkpoint", {"run_id": "r"}, format="json")
    updates.mark(run, "a", "started", SYSTEM)
    first = api_client.get("/runs/r/checkpoints").json()["checkpoints"][0]["checkpoint_id"]
    point = api_client.get(f"/runs/r/checkpoint?at={first}").json()
    assert point["status"] == "pending"
    answer = api_client.put("/runs/r/checkpoint", point, format="json").json()
    assert answer["status"] == "running", "the run has started since then"
    api_client.put("/runs/r/checkpoint", {**point, "status": "failed"}, format="json")
    run.refresh_from_db()
    assert run.ended
    assert updates.mark(run, "a", "started", SYSTEM).status == "running"
