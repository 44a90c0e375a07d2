"""Partial reruns: which states are repeated, which are taken over, and how they end."""

import pytest
from django.core.files.storage import default_storage

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from runs.actions import bulk, bulk_runner, delete, partial_rerun
from runs.actions.rerun import RerunOptions, rerun, rerun_failures
from runs.engine import control, create_states
from runs.engine.start import start_run
from runs.models import Run
from runs.queries import lineage
from tests import nodes
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db
FAILED = RerunOptions(failed=True)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    nodes.calls.clear()
    monkeypatch.setattr(nodes, "broken", True)


def rerun_and_drain(run, options, drain):
    """Rerun a run after its outage is over, and return the finished rerun."""
    nodes.broken = False
    new_run = rerun(run, SYSTEM, options)
    assert_counters_agree(new_run)
    drain()
    new_run.refresh_from_db()
    assert_counters_agree(new_run)
    return new_run


def reused(run):
    """The identifiers of the states that a rerun took over."""
    return sorted(run.states.filter(reused__isnull=False).values_list("identifier", flat=True))


def state_counts(run):
    return {identifier: len(statuses) for identifier, statuses in by_node(run).items()}


def test_failed_states_are_repeated_and_the_others_are_taken_over(run_graph, drain):
    run = run_graph(
        "a>b>d a>c>d",
        kinds={"b": "test.outage"},
        inputs={"c": {"value": "${{ a.outputs.value }}"}, "a": {"value": 7}},
    )
    assert run.status == "partial"
    new_run = rerun_and_drain(run, FAILED, drain)
    assert (new_run.status, new_run.progress) == ("completed", 100)
    assert reused(new_run) == ["a", "c"]
    assert by_node(new_run) == {
        "a": ["SUCCESS"],
        "b": ["SUCCESS"],
        "c": ["SUCCESS"],
        "d": ["SUCCESS"],
    }
    assert new_run.states.get(identifier="c").outputs == {"value": 7}
    assert new_run.states.get(identifier="c").parent == new_run.states.get(identifier="a").pk
    assert new_run.origin["how"] == "from b; 2 states are taken over"
    assert (new_run.parent_id, new_run.root) == (run.pk, run.pk)
    run.refresh_from_db()
    assert run.status == "partial", "the original is unchanged"
    assert lineage.recovered_by(run) == new_run


def test_below_a_fan_out_only_the_failed_branches_are_repeated(run_graph, drain):
    run = run_graph(
        "f>a>b",
        kinds={"f": "test.each", "a": "test.outage"},
        inputs={"f": {"items": [1, 2, 3]}, "a": {"value": "${{ f.outputs.value }}"}},
    )
    assert run.status == "partial"
    new_run = rerun_and_drain(run, FAILED, drain)
    assert new_run.status == "completed"
    assert reused(new_run) == ["f", "f", "f"]
    assert by_node(new_run)["b"] == ["SUCCESS"] * 3


def test_a_join_is_repeated_when_a_branch_before_it_is_repeated(run_graph, drain):
    run = run_graph(
        "a>b>j a>c>j",
        inputs={
            "b": {"value": 1},
            "c": {"value": 2},
            "j": {"value": ["${{ b.outputs.value }}", "${{ c.outputs.value }}"]},
        },
    )
    assert run.status == "completed"
    new_run = rerun_and_drain(run, RerunOptions(node="b"), drain)
    assert new_run.status == "completed"
    assert reused(new_run) == ["a", "c"]
    assert new_run.states.get(identifier="j").outputs == {"value": [1, 2]}
    assert new_run.states.filter(identifier="j").count() == 1


def test_a_join_of_reused_and_repeated_branches_fires_once(run_graph, drain):
    run = run_graph(
        "r>f>a>j",
        kinds={"f": "test.each", "a": "test.outage"},
        inputs={"f": {"items": [1, 2]}, "j": {"value": "${{ a.outputs.value }}"}},
        data={"j": {"unites": {"identifier": "r"}}},
    )
    assert "j" not in by_node(run)
    new_run = rerun_and_drain(run, FAILED, drain)
    assert new_run.status == "completed"
    assert new_run.states.get(identifier="j").outputs == {"value": ["recovered", "recovered"]}


def test_a_rerun_from_a_fan_out_repeats_everything_below_it(run_graph, drain):
    run = run_graph("a>f>b", kinds={"f": "test.each"}, inputs={"f": {"items": [1, 2, 3]}})
    new_run = rerun_and_drain(run, RerunOptions(node="f"), drain)
    assert reused(new_run) == ["a"]
    assert by_node(new_run) == {"a": ["SUCCESS"], "f": ["SUCCESS"] * 3, "b": ["SUCCESS"] * 3}


def test_a_single_state_can_get_other_inputs(run_graph, drain):
    run = run_graph("a>b", inputs={"b": {"value": 1}})
    new_run = rerun_and_drain(run, RerunOptions(node="b", inputs={"value": 2}), drain)
    assert new_run.states.get(identifier="b").outputs == {"value": 2}


def test_several_states_cannot_get_other_inputs(run_graph):
    run = run_graph("f>b", kinds={"f": "test.each"}, inputs={"f": {"items": [1, 2]}})
    with pytest.raises(errors.Conflict, match="would repeat 2 states"):
        rerun(run, SYSTEM, RerunOptions(node="b", inputs={}))


def test_files_are_copied_so_that_the_original_can_be_deleted(run_graph, drain):
    run = run_graph("a>b", kinds={"a": "test.emit", "b": "test.outage"})
    new_run = rerun_and_drain(run, FAILED, drain)
    delete.delete_run(run)
    file = new_run.artifacts.get()
    with default_storage.open(file.file) as content:
        assert content.read() == b"hello"
    assert new_run.states.get(identifier="a").outputs["file"]["file"] == file.file
    new_run.refresh_from_db()
    assert (new_run.emitted, new_run.parent) == (3, None)


def test_impossible_partial_reruns_are_refused(run_graph, publish):
    done = run_graph("a")
    active = start_run(publish("a"))
    for run, options, message in (
        (done, FAILED, "Nothing of the run failed"),
        (active, FAILED, "once it has ended"),
        (done, RerunOptions(node="x"), "no node 'x'"),
        (done, RerunOptions(node="a", newest=True), "on the version that the run had"),
    ):
        with pytest.raises(errors.StateManagerError, match=message):
            rerun(run, SYSTEM, options)
    assert Run.objects.count() == 2


def test_a_rerun_of_a_cancelled_run_continues_where_it_stopped(publish, drain):
    run = start_run(publish("a>b>c", kinds={"b": "test.ask"}, name="asks"))
    drain()
    control.cancel_run(run, SYSTEM)
    parts = partial_rerun.parts(run)
    assert [state.identifier for state in parts.repeated] == ["b"]
    assert [state.identifier for state in parts.taken_over] == ["a"]


def test_a_graph_may_request_a_number_of_automatic_reruns(run_graph, drain):
    run = run_graph("a>b", kinds={"b": "test.fail"}, settings={"rerun_on_failure": {"times": 2}})
    assert run.reruns_left == 2
    reruns = 0
    while rerun_failures():
        reruns += 1
        drain()
        assert reruns < 5
    assert reruns == 2
    assert list(Run.objects.values_list("status", "reruns_left")) == [("partial", 0)] * 3
    assert reused(Run.objects.latest("pk")) == ["a"]


def test_an_automatic_rerun_waits_for_its_delay(run_graph, drain):
    run_graph(
        "a>b",
        kinds={"b": "test.fail"},
        settings={"rerun_on_failure": {"times": 2, "from": "start", "delay": 60}},
    )
    assert rerun_failures() == 1
    new_run = Run.objects.latest("pk")
    assert (new_run.reruns_left, new_run.status) == (1, "queued")
    assert drain() == 0, "the rerun waits for its delay"
    assert rerun_failures() == 0


def test_joins_that_a_stop_kept_from_firing_fire_in_the_rerun(publish, drain):
    """x fails while b and c are executed.

    They succeed, but because the run is stopping, their join d does not fire. The test writes this
    situation into the database, as it can't be timed.
    """
    run = start_run(
        publish("x b>d c>d", kinds={"x": "test.outage"}, settings={"failure_policy": "stop"})
    )
    drain()
    run.refresh_from_db()
    assert run.status == "failed"
    run.states.filter(identifier="d").delete()
    run.states.filter(identifier__in=("b", "c")).update(
        status="SUCCESS", outputs={}, chosen=["d"], watched=True
    )
    Run.objects.filter(pk=run.pk).update(
        node_counts={"x": [1, 0, 1], "b": [1, 1, 0], "c": [1, 1, 0]},
        success_count=2,
        cancelled_count=0,
        errored_count=1,
    )
    new_run = rerun_and_drain(run, FAILED, drain)
    assert new_run.status == "completed"
    assert by_node(new_run)["d"] == ["SUCCESS"]


def test_a_rerun_of_single_states_creates_those_states_and_no_others(publish, drain):
    graph = publish("a>d b>d")
    run, _ = create_states.create_states(
        graph, "single", [("a", {"value": 1}), ("b", {"value": 2})], SYSTEM
    )
    drain()
    second = rerun(run, SYSTEM)
    drain()
    assert state_counts(second) == {"a": 1, "b": 1, "d": 1}
    third = rerun(second, SYSTEM)
    drain()
    assert state_counts(third) == {"a": 1, "b": 1, "d": 1}
    fourth = rerun(run, SYSTEM, RerunOptions(delay=3600, inputs={"value": 3, "other": 4}))
    drain()
    assert by_node(fourth) == {"a": ["CREATED"], "b": ["CREATED"]}
    assert fourth.initial_data == {"value": 3, "other": 4}
    assert [state.inputs for state in fourth.states.all()] == [{"value": 3}, {"value": 3}]


def test_a_rerun_of_single_states_changes_only_the_inputs_that_it_names(publish):
    graph = publish("a")
    states = [("a", {"x": 1, "y": 1})]
    run, _ = create_states.create_states(graph, "r", states, SYSTEM, inputs={"x": 2, "y": 2})
    changed = rerun(run, SYSTEM, RerunOptions(inputs={"x": 2, "y": 3}))
    assert changed.initial_data == {"x": 2, "y": 3}
    assert changed.states.get().inputs == {"x": 1, "y": 3}
    removed = rerun(run, SYSTEM, RerunOptions(inputs={}))
    assert (removed.initial_data, removed.states.get().inputs) == ({}, {"x": 1, "y": 1})


def test_branches_that_were_separate_stay_separate(publish, drain):
    graph = publish("a>d b>d")
    run, _ = create_states.create_states(graph, "apart", [("a", {"value": 1})], SYSTEM)
    create_states.create_states(graph, "apart", [("b", {"value": 2})], SYSTEM)
    drain()
    new_run = rerun(run, SYSTEM)
    drain()
    assert by_node(new_run) == by_node(run)
    roots = new_run.states.filter(identifier__in=("a", "b")).order_by("identifier")
    assert [state.path for state in roots] == ["r:0", "r:1"]


def test_retrying_an_operation_twice_makes_one_new_operation(run_graph):
    run = run_graph("a")
    command = SYSTEM.with_door("command")
    operation = bulk.ask("resume", {"pk": [run.pk]}, command)
    bulk_runner.run_waiting(10)
    operation.refresh_from_db()
    assert operation.failed == 1
    assert bulk.retry(operation, command).pk == bulk.retry(operation, command).pk


def test_a_failed_join_is_repeated_once(run_graph, drain):
    run = run_graph(
        "r>f>a>j f>b>j",
        kinds={"f": "test.each", "j": "test.outage"},
        inputs={"f": {"items": [1, 2]}},
    )
    assert run.states.filter(identifier="j", joined=True).count() == 2
    new_run = rerun_and_drain(run, FAILED, drain)
    assert by_node(new_run)["j"] == ["SUCCESS", "SUCCESS"]
    assert new_run.status == "completed"
