"""Whole runs from start to end, executed in one thread on a real database."""

from datetime import timedelta

import pytest
from django.utils import timezone

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from runs.core import sql
from runs.engine import answer, control, retry
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import LogLine, Run, State, ToolResult
from tests import nodes
from tests.support.runs import by_node, outputs

pytestmark = pytest.mark.django_db


def test_a_chain_passes_values_on_and_completes(run_graph):
    run = run_graph(
        "a>b>c",
        inputs={
            "a": {"value": 41},
            "b": {"value": "${{ a.outputs.value }}"},
            "c": {"value": "got ${{ b.outputs.value }}"},
        },
    )
    assert (run.status, run.progress, run.pending_count, run.success_count) == (
        "completed",
        100,
        0,
        3,
    )
    assert outputs(run, "c") == [{"value": "got 41"}]
    assert run.started_at <= run.finished_at
    assert run.logs.first().message == "Starting graph execution with 3 nodes"


def test_a_fan_out_and_its_join_keep_the_order(run_graph):
    run = run_graph(
        "r>f>b>j",
        kinds={"f": "fan_out"},
        inputs={
            "f": {"items": list(range(12))},
            "b": {"value": "${{ f.outputs.item }}"},
            "j": {"value": "${{ b.outputs.value }}"},
        },
        data={"j": {"unites": {"identifier": "r"}}},
    )
    assert run.status == "completed"
    assert outputs(run, "j") == [{"value": list(range(12))}]
    assert run.node_counts == {"r": [1, 1, 0], "f": [12, 12, 0], "b": [12, 12, 0], "j": [1, 1, 0]}


def test_nested_fan_outs_and_joins_create_the_expected_states(run_graph):
    """s → a (2 items) → b (3 items) → c → u unites a → v unites s.

    That makes 1 + 2 + 6 + 6 + 2 + 1 = 18 states.
    """
    run = run_graph(
        "s>a>b>c>u>v",
        kinds={"a": "fan_out", "b": "fan_out"},
        inputs={"a": {"items": [1, 2]}, "b": {"items": [1, 2, 3]}},
        data={"u": {"unites": {"identifier": "a"}}, "v": {"unites": {"identifier": "s"}}},
    )
    assert run.status == "completed"
    assert {node: len(statuses) for node, statuses in by_node(run).items()} == {
        "s": 1,
        "a": 2,
        "b": 6,
        "c": 6,
        "u": 2,
        "v": 1,
    }


def test_conditions_choose_branches_and_absent_parents_are_null(run_graph):
    run = run_graph(
        "a>b>d a>c>d",
        inputs={
            "a": {"value": 5},
            "b": {"value": "b"},
            "c": {"value": "c"},
            "d": {"value": ["${{ b.outputs.value }}", "${{ c.outputs.value }}"]},
        },
        when={"a>b": "outputs.value > 3", "a>c": "outputs.value <= 3"},
    )
    assert run.status == "completed"
    assert outputs(run, "d") == [{"value": ["b", None]}]
    assert "c" not in by_node(run)


def test_a_retry_is_a_new_state_with_the_same_step(run_graph):
    nodes.calls.clear()
    run = run_graph(
        "a",
        kinds={"a": "test.fail"},
        inputs={"a": {"times": 2}},
        data={"a": {"retry": {"max_retries": 2, "backoff_factor": 0.001}}},
    )
    assert run.status == "completed"
    assert by_node(run)["a"] == ["RETRY_CREATED", "RETRY_CREATED", "SUCCESS"]
    assert len({key for key, _ in nodes.calls}) == 1
    assert (run.retried_count, run.errored_count, run.success_count) == (2, 0, 1)


def test_max_failures_stops_the_run(run_graph):
    run = run_graph(
        "a>b a>c a>d>e>f>g>h",
        kinds={"b": "test.fail", "c": "test.fail", "d": "delay"},
        inputs={"d": {"seconds": 600}},
        settings={"max_failures": 1},
    )
    assert run.status == "partial"
    assert run.error_message == "Execution stopped: too many failures (2/8 failed)"
    assert by_node(run) == {
        "a": ["SUCCESS"],
        "b": ["ERRORED"],
        "c": ["ERRORED"],
        "d": ["CANCELLED"],
    }


def test_the_failure_policy_stop_fails_the_run(run_graph):
    run = run_graph("a>b>c", kinds={"b": "test.fail"}, settings={"failure_policy": "stop"})
    assert run.status == "failed"
    assert by_node(run) == {"a": ["SUCCESS"], "b": ["ERRORED"]}


def test_max_steps_limits_how_many_states_are_started(run_graph):
    run = run_graph("a>b>c>d", settings={"max_steps": 2})
    assert run.status == "partial"
    assert run.error_message == "Execution stopped: max_steps reached (2 states may be started)"
    assert by_node(run) == {"a": ["SUCCESS"], "b": ["SUCCESS"], "c": ["CANCELLED"]}


def test_the_inputs_behind_a_pruned_node_are_never_resolved(run_graph):
    run = run_graph(
        "a>b", kinds={"a": "test.prune"}, inputs={"b": {"value": "${{ a.outputs.nothing }}"}}
    )
    assert run.status == "completed"


def test_a_missing_output_fails_the_parent(run_graph):
    run = run_graph(
        "f>b",
        kinds={"f": "test.each"},
        inputs={"f": {"items": [1]}, "b": {"value": "${{ f.outputs.nothing }}"}},
    )
    assert by_node(run) == {"f": ["NEXT_CREATED_ERROR"]}
    assert "no 'nothing' in an object with 'value'" in run.error_message


def test_a_generator_fans_out(run_graph):
    run = run_graph(
        "f>b",
        kinds={"f": "test.each"},
        inputs={"f": {"items": [1, 2]}, "b": {"value": "${{ f.outputs.value }}"}},
    )
    assert len(outputs(run, "b")) == 2


def test_a_fan_out_without_items_ends_the_branch(run_graph):
    run = run_graph("f>b", kinds={"f": "test.each"}, inputs={"f": {"items": []}})
    assert by_node(run) == {"f": ["SUCCESS"]}
    assert run.status == "completed"


def test_run_inputs_override_declared_ones_and_are_never_parsed(run_graph):
    options = RunOptions(inputs={"value": "${{ store.x }}", "unknown": 1})
    run = run_graph(
        "a>b",
        options,
        inputs={"a": {"value": 1}, "b": {"value": "${{ run.inputs.value }} ${{ store.k }}"}},
        settings={"store": {"default_values": {"k": "d"}}},
    )
    assert outputs(run, "b") == [{"value": "${{ store.x }} d"}]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nan", "not JSON compliant"),
        ("nul", "NUL"),
        ("surrogate", "surrogate"),
        ("object", "object"),
        ("number", "int"),
        ("deep", "deep"),
    ],
)
def test_an_output_that_json_cannot_express_fails_with_a_clear_reason(run_graph, value, reason):
    run = run_graph("a", kinds={"a": "test.return"}, inputs={"a": {"what": value}})
    assert run.status == "failed"
    assert reason in run.error_message


def test_a_flood_of_logs_keeps_only_the_newest_lines(run_graph):
    run = run_graph("a", kinds={"a": "test.flood"})
    lines = list(run.logs.values_list("message", flat=True))
    assert run.status == "completed"
    assert lines[-1] == "line 99999"
    assert any("99,000 older lines were dropped" in line for line in lines)
    assert run.log_count == len(lines)


def test_waiting_for_an_answer_pauses_the_run_and_the_answer_continues_it(publish, drain):
    run = start_run(
        publish("a>b", kinds={"a": "test.ask"}, inputs={"b": {"value": "${{ a.outputs.value }}"}})
    )
    drain()
    run.refresh_from_db()
    state = run.states.get()
    assert (run.status, state.status, state.due_at) == ("paused", "CREATED", None)
    with pytest.raises(errors.Malformed, match="doesn't fit"):
        answer.answer_state(run, state.pk, "many", SYSTEM)
    with pytest.raises(errors.Conflict):
        control.resume_run(run, SYSTEM)
    answer.answer_state(run, state.pk, 12, SYSTEM)
    with pytest.raises(errors.Conflict):
        answer.answer_state(run, state.pk, 13, SYSTEM)
    drain()
    run.refresh_from_db()
    assert run.status == "completed"
    assert outputs(run, "b") == [{"value": 12}]
    assert run.states.get(identifier="a").answer["by"] == "system"


def test_cancel_ends_all_states_at_once(publish, drain):
    run = start_run(publish("a>b"))
    control.cancel_run(run, SYSTEM)
    assert (run.status, run.pending_count, by_node(run)) == ("cancelled", 0, {"a": ["CANCELLED"]})
    run.refresh_from_db()
    assert (run.started_at, run.finished_at is None) == (None, False), "it has never started"
    assert drain() == 0
    with pytest.raises(errors.Conflict) as refused:
        control.cancel_run(run, SYSTEM)
    assert refused.value.extra["allowed"] == ["retry"]


def test_a_paused_run_does_nothing_until_it_is_resumed(publish, drain):
    run = start_run(publish("a>b"))
    control.pause_run(run, SYSTEM)
    assert run.status == "paused"
    assert drain() == 0
    control.resume_run(run, SYSTEM)
    drain()
    run.refresh_from_db()
    assert run.status == "completed"


def test_a_delayed_start_waits_until_it_is_due(publish, drain):
    run = start_run(publish("a"), RunOptions(delay=3600))
    assert drain() == 0
    State.objects.filter(run=run).update(
        due_at=timezone.now() - timedelta(seconds=1), claim_at=timezone.now() - timedelta(seconds=1)
    )
    assert drain() == 1


def test_run_again_is_not_counted_as_a_failure(run_graph):
    run = run_graph("a", kinds={"a": "test.again"})
    assert (run.status, run.states.get().attempt, run.retried_count) == ("completed", 2, 0)


def test_once_is_computed_once(run_graph, tmp_path):
    path = tmp_path / "calls"
    run = run_graph("a", kinds={"a": "test.once"}, inputs={"a": {"path": str(path)}})
    assert run.status == "completed"
    assert path.read_text() == "called\n"
    assert ToolResult.objects.filter(run=run).count() == 1


def test_once_returns_the_same_value_the_first_time_as_later(run_graph):
    """The first attempt gets its result as a database would return it.

    Storing a result turns tuples into lists and keys into strings, and may change the order of keys
    and the types of numbers. A node must not be able to tell its attempts apart by that.
    """
    run = run_graph("a", kinds={"a": "test.shapes"})
    lines = run.logs.filter(identifier="a", attempt__gt=0).order_by("pk")
    assert (run.status, [line.attempt for line in lines]) == ("completed", [1, 2])

    first, second = [line.message for line in lines]
    assert first == second
    assert "'b': [1, ['x']]" in first
    assert "'3': True" in first


def test_once_is_not_computed_again_by_a_retry(run_graph, drain, tmp_path, monkeypatch):
    path = tmp_path / "calls"
    run = run_graph("a", kinds={"a": "test.tool"}, inputs={"a": {"path": str(path), "fails": True}})
    assert run.status == "failed"
    monkeypatch.setattr(nodes, "broken", False)
    retry.retry_failed(run, SYSTEM)
    drain()
    run.refresh_from_db()
    assert (run.status, by_node(run), outputs(run, "a")) == (
        "completed",
        {"a": ["RETRY_CREATED", "SUCCESS"]},
        [{"value": 1}],
    )
    assert path.read_text() == f"alpha:{run.run_id}:a\n"
    assert ToolResult.objects.filter(run=run).count() == 1


def test_once_is_not_computed_again_after_a_pause(run_graph, drain, tmp_path):
    path = tmp_path / "calls"
    run = run_graph(
        "a", kinds={"a": "test.once"}, inputs={"a": {"path": str(path), "seconds": 3600}}
    )
    control.pause_run(run, SYSTEM)
    State.objects.filter(run=run).update(due_at=sql.clock(), claim_at=sql.clock())
    assert drain() == 0
    control.resume_run(run, SYSTEM)
    drain()
    run.refresh_from_db()
    assert (run.status, run.states.get().attempt, path.read_text()) == ("completed", 2, "called\n")
    assert outputs(run, "a") == list(
        ToolResult.objects.filter(run=run).values_list("result", flat=True)
    )


def test_emitted_rows_and_files_are_recorded_with_the_attempt(run_graph):
    run = run_graph("a", kinds={"a": "test.emit"})
    artifact = run.artifacts.get()
    assert (run.emitted, artifact.name, artifact.size) == (3, "note.txt", 5)
    assert artifact.checksum == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert "a emitted 3 rows" in run.logs.values_list("message", flat=True)


def test_starting_with_the_same_run_id_returns_the_same_run(publish):
    graph = publish("a")
    first = start_run(graph, RunOptions(run_id="mine", inputs={"value": 1}))
    assert start_run(graph, RunOptions(run_id="mine", inputs={"value": 1})).pk == first.pk
    with pytest.raises(errors.Conflict, match="is taken"):
        start_run(graph, RunOptions(run_id="mine", inputs={"value": 2}))
    assert Run.objects.count() == 1
    assert LogLine.objects.count() == 1


def test_a_run_keeps_the_version_it_started_with(publish, drain):
    run = start_run(publish("a>b"))
    publish("a>b>c")
    drain()
    assert sorted(by_node(run)) == ["a", "b"]


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_a_node_runs(run_graph):
    run = run_graph("a", kinds={"a": "test.transaction"})
    assert run.states.get().outputs == {"value": False}


@pytest.mark.parametrize(
    ("drawing", "failing", "when", "progress"),
    [
        ("a>b>c", "b", {}, 33),
        ("a>b>c", "a", {}, 0),
        ("a>b>c>d", "c", {}, 50),
        # x was not chosen, so it and what follows are done with; c lies behind the failure.
        ("a>b>c a>x>y", "b", {"a>x": "false"}, 60),
        ("a>b a>x", "", {"a>x": "false"}, 100),
        # j joins a branch that wasn't chosen and one that failed.
        ("a>b>j a>x>j", "b", {"a>x": "false"}, 50),
    ],
)
def test_skipped_by_a_condition_is_done_and_skipped_by_a_failure_is_not(
    run_graph, drawing, failing, when, progress
):
    kinds = {failing: "test.fail"} if failing else {}
    run = run_graph(drawing, kinds=kinds, when=when)
    assert run.progress == progress
    assert (run.status == "completed") == (progress == 100)
