"""Joins in the shapes that are easy to get wrong."""

import pytest

from runs.engine.executor import Executor
from runs.engine.start import start_run
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db
ALL_DONE = {"strategy": "ALL_DONE"}


def values(run, identifier):
    return [
        state.outputs["value"]
        for state in run.states.filter(identifier=identifier, status="SUCCESS").order_by("path")
    ]


def fast(*kinds):
    worker = Executor(threads=False)
    worker.speed = dict.fromkeys(kinds, 1e-4)
    return worker


def test_cleanup_after_a_diamond_with_a_failed_branch_fires_once(run_graph):
    run = run_graph(
        "a>b>l a>c>l l>j",
        kinds={"b": "test.fail"},
        data={"j": {"unites": {"identifier": "a", **ALL_DONE}}},
    )
    assert by_node(run) == {"a": ["SUCCESS"], "b": ["ERRORED"], "c": ["SUCCESS"], "j": ["SUCCESS"]}


def test_join_after_a_pruned_join_fires_once(run_graph):
    run = run_graph("a>b>l a>c>l l>j a>d>j", kinds={"b": "test.prune", "c": "test.prune"})
    assert by_node(run)["j"] == ["SUCCESS"]


def test_join_whose_inputs_fail_keeps_the_next_one_from_running(run_graph):
    run = run_graph(
        "a>b>l a>c>l l>j a>d>j", inputs={"l": {"value": "${{ c.outputs.value.missing }}"}}
    )
    assert by_node(run)["l"] == ["NEXT_CREATED_ERROR"]
    assert "j" not in by_node(run)
    assert run.status == "partial"


def test_join_directly_after_a_fan_out_sees_all_items(run_graph):
    inputs = {"f": {"items": [1, 2, 3]}, "j": {"value": "${{ f.outputs.item }}"}}
    run = run_graph(
        "r>f>j", kinds={"f": "fan_out"}, inputs=inputs, data={"j": {"unites": {"identifier": "r"}}}
    )
    assert values(run, "j") == [[1, 2, 3]]
    run = run_graph(
        "r>f>j",
        kinds={"f": "fan_out"},
        inputs=inputs,
        data={"j": {"unites": {"identifier": "r"}}},
        when={"f>j": "outputs.item > 1"},
    )
    assert len(values(run, "j")) == 1


def test_join_waits_for_what_its_uniting_parent_waits_for(publish, drain):
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
    run.states.filter(identifier="z").update(due_at=run.created_at)
    drain()
    assert values(run, "k") == [["U", "C"]]


def test_failure_behind_an_all_done_node_does_not_block_the_join_after_it(run_graph):
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
    fast("noop", "fan_out").drain()
    run.refresh_from_db()
    assert run.status == "completed"
    assert values(run, "u") == [1, 2]


def test_wide_diamonds_cost_no_more_than_they_are_wide(publish):
    graph = publish(
        "f>a>j f>b>j", kinds={"f": "fan_out"}, inputs={"f": {"items": list(range(600))}}
    )
    run = start_run(graph)
    worker = fast("noop", "fan_out")
    while worker.drain():
        pass
    run.refresh_from_db()
    assert (run.status, run.success_count) == ("completed", 2400)
    assert run.states.filter(identifier="f", inputs__isnull=True).count() == 599
