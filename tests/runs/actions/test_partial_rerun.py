"""Reruns of a part of a run: what is done again, what is taken over, and that the end is the same as of a whole run."""

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


def again_and_drained(run, again, drain):
    nodes.broken = False
    made = rerun(run, SYSTEM, again)
    assert_counters_agree(made)
    drain()
    made.refresh_from_db()
    assert_counters_agree(made)
    return made


def reused(run):
    return sorted(run.states.filter(reused__isnull=False).values_list("identifier", flat=True))


def test_what_failed_is_run_again_and_the_rest_is_taken_over(run_graph, drain):
    run = run_graph(
        "a>b>d a>c>d",
        kinds={"b": "test.outage"},
        inputs={"c": {"value": "${{ a.outputs.value }}"}, "a": {"value": 7}},
    )
    assert run.status == "partial"
    made = again_and_drained(run, FAILED, drain)
    assert (made.status, made.progress) == ("completed", 100)
    assert reused(made) == ["a", "c"]
    assert by_node(made) == {"a": ["SUCCESS"], "b": ["SUCCESS"], "c": ["SUCCESS"], "d": ["SUCCESS"]}
    assert made.states.get(identifier="c").outputs == {"value": 7}
    assert made.states.get(identifier="c").parent == made.states.get(identifier="a").pk
    assert made.origin["how"] == "from b; 2 states are taken over"
    assert (made.parent_id, made.root) == (run.pk, run.pk)
    run.refresh_from_db()
    assert run.status == "partial", "the original stays as it was"
    assert lineage.recovered_by(run) == made


def test_below_a_fan_out_only_the_failed_branches_are_run_again(run_graph, drain):
    run = run_graph(
        "f>a>b", kinds={"f": "test.each", "a": "test.outage"}, inputs={"f": {"items": [1, 2, 3]}, "a": {"value": "${{ f.outputs.value }}"}},
    )  # fmt: skip
    assert run.status == "partial"
    made = again_and_drained(run, FAILED, drain)
    assert made.status == "completed"
    assert reused(made) == ["f", "f", "f"]
    assert by_node(made)["b"] == ["SUCCESS"] * 3


def test_a_join_that_had_run_is_run_again_when_a_branch_before_it_is(run_graph, drain):
    run = run_graph(
        "a>b>j a>c>j",
        inputs={
            "b": {"value": 1},
            "c": {"value": 2},
            "j": {"value": ["${{ b.outputs.value }}", "${{ c.outputs.value }}"]},
        },
    )
    assert run.status == "completed"
    made = again_and_drained(run, RerunOptions(node="b"), drain)
    assert made.status == "completed"
    assert reused(made) == ["a", "c"]
    assert made.states.get(identifier="j").outputs == {"value": [1, 2]}
    assert made.states.filter(identifier="j").count() == 1


def test_unites_over_reused_and_new_branches_fires_once(run_graph, drain):
    run = run_graph(
        "r>f>a>j", kinds={"f": "test.each", "a": "test.outage"}, inputs={"f": {"items": [1, 2]}, "j": {"value": "${{ a.outputs.value }}"}},
        data={"j": {"unites": {"identifier": "r"}}},
    )  # fmt: skip
    assert "j" not in by_node(run)
    made = again_and_drained(run, FAILED, drain)
    assert made.status == "completed"
    assert made.states.get(identifier="j").outputs == {"value": ["recovered", "recovered"]}


def test_from_a_fan_out_all_of_it_is_made_anew(run_graph, drain):
    run = run_graph("a>f>b", kinds={"f": "test.each"}, inputs={"f": {"items": [1, 2, 3]}})
    made = again_and_drained(run, RerunOptions(node="f"), drain)
    assert reused(made) == ["a"]
    assert by_node(made) == {"a": ["SUCCESS"], "f": ["SUCCESS"] * 3, "b": ["SUCCESS"] * 3}


def test_other_inputs_for_one_state(run_graph, drain):
    run = run_graph("a>b", inputs={"b": {"value": 1}})
    made = again_and_drained(run, RerunOptions(node="b", inputs={"value": 2}), drain)
    assert made.states.get(identifier="b").outputs == {"value": 2}
    wide = run_graph("f>b", kinds={"f": "test.each"}, inputs={"f": {"items": [1, 2]}}, name="wide")
    with pytest.raises(errors.Conflict, match="would repeat 2 states"):
        rerun(wide, SYSTEM, RerunOptions(node="b", inputs={}))


def test_files_come_along_so_that_the_original_may_go(run_graph, drain):
    run = run_graph("a>b", kinds={"a": "test.emit", "b": "test.outage"})
    made = again_and_drained(run, FAILED, drain)
    delete.delete_run(run)
    file = made.artifacts.get()
    with default_storage.open(file.file) as content:
        assert content.read() == b"hello"
    assert made.states.get(identifier="a").outputs["file"]["file"] == file.file
    made.refresh_from_db()
    assert (made.emitted, made.parent) == (3, None)


def test_what_cannot_be_rerun_in_part_is_refused(run_graph, publish):
    done, active = run_graph("a"), start_run(publish("a"))
    for run, again, said in (
        (done, FAILED, "Nothing of the run failed"),
        (active, FAILED, "once it has ended"),
        (done, RerunOptions(node="x"), "no node 'x'"),
        (done, RerunOptions(node="a", newest=True), "on the version that the run had"),
    ):
        with pytest.raises(errors.StateManagerError, match=said):
            rerun(run, SYSTEM, again)
    assert Run.objects.count() == 2


def test_a_cancelled_run_goes_on_where_it_was(publish, drain):
    run = start_run(publish("a>b>c", kinds={"b": "test.ask"}, name="asks"))
    drain()
    control.cancel_run(run, SYSTEM)
    parts = partial_rerun.parts(run)
    assert [state.identifier for state in parts.repeated] == ["b"]
    assert [state.identifier for state in parts.taken_over] == ["a"]


def test_a_graph_may_ask_for_reruns_of_its_failures_and_gets_as_many_as_it_allows(run_graph, drain):
    run = run_graph("a>b", kinds={"b": "test.fail"}, settings={"rerun_on_failure": {"times": 2}})
    assert run.reruns_left == 2
    made = 0
    while rerun_failures():
        made += 1
        drain()
        assert made < 5
    assert made == 2
    assert list(Run.objects.order_by("pk").values_list("status", "reruns_left")) == [
        ("partial", 0),
        ("partial", 0),
        ("partial", 0),
    ]
    assert reused(Run.objects.latest("pk")) == ["a"]


def test_an_automatic_rerun_waits_for_its_delay(run_graph, drain):
    run_graph(
        "a>b",
        kinds={"b": "test.fail"},
        settings={"rerun_on_failure": {"times": 2, "from": "start", "delay": 60}},
    )
    assert rerun_failures() == 1
    made = Run.objects.latest("pk")
    assert (made.reruns_left, made.status) == (1, "queued")
    assert drain() == 0, "it waits for its time"
    assert rerun_failures() == 0


def test_joins_that_a_stop_kept_from_firing_fire_in_the_rerun(publish, drain):
    """x fails while b and c are in hand: they succeed, but the stopping run makes no join of them."""
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
    made = again_and_drained(run, FAILED, drain)
    assert made.status == "completed"
    assert by_node(made)["d"] == ["SUCCESS"]


def test_a_rerun_of_single_states_makes_those_states_and_no_others(publish, drain):
    graph = publish("a>d b>d")
    run, _ = create_states.create_states(
        graph, "single", [("a", {"value": 1}), ("b", {"value": 2})], SYSTEM
    )
    drain()
    second = rerun(run, SYSTEM)
    drain()
    assert {name: len(found) for name, found in by_node(second).items()} == {"a": 1, "b": 1, "d": 1}
    third = rerun(second, SYSTEM)
    drain()
    assert {name: len(found) for name, found in by_node(third).items()} == {"a": 1, "b": 1, "d": 1}
    with pytest.raises(errors.Conflict, match="at once"):
        rerun(run, SYSTEM, RerunOptions(delay=60))


def test_branches_that_were_kept_apart_stay_apart(publish, drain):
    graph = publish("a>d b>d")
    run, _ = create_states.create_states(graph, "apart", [("a", {"value": 1})], SYSTEM)
    create_states.create_states(graph, "apart", [("b", {"value": 2})], SYSTEM)
    drain()
    made = rerun(run, SYSTEM)
    drain()
    assert by_node(made) == by_node(run)
    assert [
        state.path for state in made.states.filter(identifier__in=("a", "b")).order_by("identifier")
    ] == ["r:0", "r:1"]


def test_retrying_an_operation_twice_makes_one(run_graph):
    run = run_graph("a")
    operation = bulk.ask("resume", {"pk": [run.pk]}, SYSTEM.with_door("command"))
    bulk_runner.run_waiting(10)
    operation.refresh_from_db()
    assert operation.failed == 1
    assert (
        bulk.retry(operation, SYSTEM.with_door("command")).pk
        == bulk.retry(operation, SYSTEM.with_door("command")).pk
    )


def test_a_join_that_failed_is_made_once(run_graph, drain):
    run = run_graph(
        "r>f>a>j f>b>j",
        kinds={"f": "test.each", "j": "test.outage"},
        inputs={"f": {"items": [1, 2]}},
    )
    assert run.states.filter(identifier="j", joined=True).count() == 2
    made = again_and_drained(run, FAILED, drain)
    assert by_node(made)["j"] == ["SUCCESS", "SUCCESS"]
    assert made.status == "completed"
