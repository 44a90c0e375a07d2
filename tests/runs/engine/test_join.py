"""Joins in graphs that are easy to get wrong."""

import pytest

from runs.engine.executor import Executor
from runs.engine.start import start_run
from tests.support.runs import by_node, outputs

pytestmark = pytest.mark.django_db
ALL_DONE = {"strategy": "ALL_DONE"}


def values(run, identifier):
    return [
        state.outputs["value"]
        for state in run.states.filter(identifier=identifier, status="SUCCESS").order_by("path")
    ]


def fast_worker(*kinds):
    """A worker that takes nodes of these kinds for fast ones, and so runs them in batches."""
    worker = Executor(threads=False)
    worker.lanes.speed = dict.fromkeys(kinds, 1e-4)
    return worker


def test_a_cleanup_after_a_diamond_with_a_failed_branch_fires_once(run_graph):
    run = run_graph(
        "a>b>l a>c>l l>j",
        kinds={"b": "test.fail"},
        data={"j": {"unites": {"identifier": "a", **ALL_DONE}}},
    )
    assert by_node(run) == {"a": ["SUCCESS"], "b": ["ERRORED"], "c": ["SUCCESS"], "j": ["SUCCESS"]}


def test_a_join_after_a_pruned_join_fires_once(run_graph):
    run = run_graph("a>b>l a>c>l l>j a>d>j", kinds={"b": "test.prune", "c": "test.prune"})
    assert by_node(run)["j"] == ["SUCCESS"]


def test_a_join_whose_inputs_fail_keeps_the_next_join_from_running(run_graph):
    run = run_graph(
        "a>b>l a>c>l l>j a>d>j", inputs={"l": {"value": "${{ c.outputs.value.missing }}"}}
    )
    assert by_node(run)["l"] == ["NEXT_CREATED_ERROR"]
    assert "j" not in by_node(run)
    assert run.status == "partial"


def test_a_join_directly_after_a_fan_out_sees_all_items(run_graph):
    run = run_graph(
        "r>f>j",
        kinds={"f": "fan_out"},
        inputs={"f": {"items": [1, 2, 3]}, "j": {"value": "${{ f.outputs.item }}"}},
        data={"j": {"unites": {"identifier": "r"}}},
    )
    assert values(run, "j") == [[1, 2, 3]]


def test_a_join_behind_a_condition_on_the_items_fires_once(run_graph):
    run = run_graph(
        "r>f>j",
        kinds={"f": "fan_out"},
        inputs={"f": {"items": [1, 2, 3]}, "j": {"value": "${{ f.outputs.item }}"}},
        data={"j": {"unites": {"identifier": "r"}}},
        when={"f>j": "outputs.item > 1"},
    )
    assert len(values(run, "j")) == 1


def test_a_join_waits_for_what_its_uniting_parent_waits_for(publish, drain):
    graph = publish(
        "a>b>u u>k a>c>k a>z",
        kinds={"z": "test.again"},
        data={"u": {"unites": {"identifier": "a"}}},
        inputs={
            "z": {"seconds": 3600},
            "u": {"value": "U"},
            "c": {"value": "C"},
            "k": {"value": ["${{ u.outputs.value }}", "${{ c.outputs.value }}"]},
        },
    )
    run = start_run(graph)
    drain()
    assert not {"u", "k"} & by_node(run).keys()
    run.states.filter(identifier="z").update(due_at=run.created_at, claim_at=run.created_at)
    drain()
    assert values(run, "k") == [["U", "C"]]


def test_a_failure_behind_an_all_done_node_does_not_block_the_join_after_it(run_graph):
    run = run_graph(
        "a>b>u>k a>c>k",
        kinds={"b": "test.fail"},
        data={"u": {"unites": {"identifier": "a", **ALL_DONE}}},
    )
    assert by_node(run)["k"] == ["SUCCESS"]


def test_unites_fires_only_where_the_united_node_has_a_state(publish):
    graph = publish(
        "r>x>b>u x>m r>m",
        kinds={"x": "fan_out"},
        inputs={"x": {"items": [1, 2]}, "u": {"value": "${{ x.outputs.item }}"}},
        data={"u": {"unites": {"identifier": "x"}}},
    )
    run = start_run(graph)
    fast_worker("noop", "fan_out").drain()
    run.refresh_from_db()
    assert run.status == "completed"
    assert values(run, "u") == [1, 2]


def test_the_states_of_a_wide_diamond_grow_linearly_with_its_width(publish):
    graph = publish(
        "f>a>j f>b>j", kinds={"f": "fan_out"}, inputs={"f": {"items": list(range(600))}}
    )
    run = start_run(graph)
    worker = fast_worker("noop", "fan_out")
    while worker.drain():
        pass
    run.refresh_from_db()
    assert (run.status, run.success_count) == ("completed", 2400)
    assert run.states.filter(identifier="f", inputs__isnull=True).count() == 599


def test_a_diamond_inside_a_fan_out_joins_per_item(run_graph):
    run = run_graph(
        "f>a>j f>b>j",
        kinds={"f": "fan_out"},
        inputs={
            "f": {"items": ["x", "y"]},
            "a": {"value": "${{ f.outputs.item }}1"},
            "b": {"value": "${{ f.outputs.item }}2"},
            "j": {"value": "${{ a.outputs.value }}+${{ b.outputs.value }}"},
        },
    )
    assert outputs(run, "j") == [{"value": "x1+x2"}, {"value": "y1+y2"}]


def test_several_roots_can_be_joined(run_graph):
    run = run_graph(
        "a>c b>c",
        inputs={
            "a": {"value": 1},
            "b": {"value": 2},
            "c": {"value": ["${{ a.outputs.value }}", "${{ b.outputs.value }}"]},
        },
    )
    assert outputs(run, "c") == [{"value": [1, 2]}]


def test_a_join_without_any_branch_is_pruned_with_all_that_follows(run_graph):
    run = run_graph("a>b>d>e a>c>d", when={"a>b": "false", "a>c": "false"})
    assert run.status == "completed"
    assert by_node(run) == {"a": ["SUCCESS"]}


def test_a_failed_branch_keeps_the_join_from_running(run_graph):
    run = run_graph("a>b>d a>c>d", kinds={"b": "test.fail"})
    assert run.status == "partial"
    assert by_node(run) == {"a": ["SUCCESS"], "b": ["ERRORED"], "c": ["SUCCESS"]}
    assert run.error_message == "b: ValueError: broken"


def test_all_done_fires_in_spite_of_failures(run_graph):
    run = run_graph(
        "a>b>d a>c>d",
        kinds={"b": "test.fail"},
        data={"d": {"unites": {"identifier": "a", "strategy": "ALL_DONE"}}},
    )
    assert by_node(run)["d"] == ["SUCCESS"]
    assert run.status == "partial"


@pytest.mark.parametrize("kind", ["test.fail", "test.prune"])
def test_all_done_fires_when_the_only_branch_ends_without_success(run_graph, kind):
    run = run_graph(
        "a>b>d",
        kinds={"b": kind},
        data={"d": {"unites": {"identifier": "a", "strategy": "ALL_DONE"}}},
    )
    assert by_node(run)["d"] == ["SUCCESS"]


def test_all_success_ignores_pruned_branches(run_graph):
    run = run_graph(
        "a>b>d a>c>d", kinds={"b": "test.prune"}, data={"d": {"unites": {"identifier": "a"}}}
    )
    assert by_node(run) == {"a": ["SUCCESS"], "b": ["PRUNED"], "c": ["SUCCESS"], "d": ["SUCCESS"]}
    assert run.status == "completed"


def test_an_outer_join_waits_for_the_inner_one(run_graph):
    run = run_graph(
        "a>b>j a>c>j j>k a>d>k",
        inputs={"k": {"value": "${{ j.outputs.value }}"}, "j": {"value": 7}},
    )
    assert outputs(run, "k") == [{"value": 7}]
