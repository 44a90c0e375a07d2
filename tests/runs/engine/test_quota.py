"""What a run stores is counted in its counters, and limited where rows are made."""

import pytest
from django.db.models import Sum

from graphs.auth.callers import SYSTEM
from graphs.definition import errors, payloads
from graphs.services.publish import publish_graph
from graphs.web import ttl_cache
from runs.actions.rerun import RerunOptions, rerun
from runs.engine import advance, create_states, new_run, record, retry
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.engine.types import Outcome
from runs.models import Artifact, Run, State
from tests import nodes
from tests.support.definitions import definition
from tests.support.engine import claimed
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db
KILOBYTE = "x" * 1000
REMEDY = "raise MAX_RUN_BYTES"


def bytes_in_rows(run: Run) -> int:
    """What the rows of a run hold."""
    states = State.objects.filter(run=run)
    values = [value for state in states for value in (state.inputs, state.outputs)]
    files = Artifact.objects.filter(run=run).aggregate(size=Sum("size"))["size"]
    return sum(payloads.size(payloads.dump(value)) for value in values if value is not None) + (
        files or 0
    )


def finished(run_graph, drawing, **members):
    run = run_graph(drawing, **members)
    assert_counters_agree(run)
    return run


@pytest.mark.parametrize(
    ("drawing", "members"),
    [
        ("a>b>c", {}),
        ("a>b>c a>c", {"kinds": {"a": "test.counted"}}),
        ("a>b>c", {"kinds": {"a": "test.counted"}, "data": {"c": {"unites": {"identifier": "a"}}}}),
        ("a>b", {"kinds": {"a": "test.prune"}}),
        ("a>b", {"kinds": {"a": "test.again"}}),
        ("a>b", {"kinds": {"a": "test.fail"}, "data": {"a": {"retry": {"max_retries": 2}}}}),
    ],
)
def test_what_the_rows_hold_is_counted(run_graph, drawing, members):
    nodes.counted_outputs[:] = [{"value": KILOBYTE}, {"value": KILOBYTE + "é"}, {"value": []}]
    inputs = {"b": {"value": KILOBYTE}, "c": {"value": KILOBYTE}}
    run = finished(run_graph, drawing, inputs=inputs, **members)
    assert run.stored_bytes == pytest.approx(bytes_in_rows(run), abs=10 * run.state_count)


def test_a_result_whose_next_states_exceed_the_limit_is_kept_and_nothing_follows(run_graph, conf):
    conf.MAX_RUN_BYTES = 5500
    nodes.counted.clear()
    nodes.counted_outputs[:] = [{"value": KILOBYTE}]
    data = {"a": {"retry": {"max_retries": 3}}}
    inputs = {"b": {"value": ["${{ a.outputs.value }}"] * 5}}
    run = finished(run_graph, "a>b", kinds={"a": "test.counted"}, inputs=inputs, data=data)
    assert by_node(run) == {"a": ["NEXT_CREATED_ERROR"]}
    assert (len(nodes.counted), run.status) == (1, "failed")
    assert "5,500 bytes" in run.error_message
    assert REMEDY in run.error_message
    assert run.stored_bytes == pytest.approx(1014, abs=10)


def test_a_fan_out_is_limited_as_a_whole(run_graph, conf):
    conf.MAX_RUN_BYTES = 5500
    nodes.counted_outputs[:] = [{"value": KILOBYTE}] * 6
    run = finished(run_graph, "a>b", kinds={"a": "test.counted"})
    assert by_node(run) == {"a": ["NEXT_CREATED_ERROR"]}
    assert run.stored_bytes < 5500


@pytest.mark.parametrize("unites", [{}, {"unites": {"identifier": "a"}}])
def test_a_join_that_exceeds_the_limit_fails(run_graph, conf, unites):
    """Small inputs grow large when every state of a join holds what all states before it made."""
    conf.MAX_RUN_BYTES = 10_000
    nodes.counted_outputs[:] = [{"value": KILOBYTE}, {"value": KILOBYTE}]
    run = finished(
        run_graph,
        "a>b>d a>c>d",
        kinds={"a": "test.counted"},
        inputs={"d": {"value": ["${{ a.outputs.value }}"] * 5}},
        data={"d": unites},
    )
    # The first one is made, and its output is kept, although that exceeds the limit.
    assert by_node(run)["d"] == ["SUCCESS", "NEXT_CREATED_ERROR"]
    assert run.stored_bytes < 10_000 + 5100
    assert REMEDY in run.error_message


def test_a_failure_beyond_the_limit_is_not_retried(run_graph, conf):
    conf.MAX_RUN_BYTES = 2500
    kinds, data = {"a": "test.fail"}, {"a": {"retry": {"max_retries": 9, "backoff_factor": 0.001}}}
    inputs = {"a": {"message": KILOBYTE}}
    run = finished(run_graph, "a", kinds=kinds, inputs=inputs, data=data)
    assert by_node(run)["a"][-1] == "ERRORED"
    assert len(by_node(run)["a"]) == 2
    assert run.stored_bytes <= 2500


def test_states_that_are_made_or_retried_by_hand_are_limited(publish, conf):
    graph = publish("a", inputs={"a": {"value": KILOBYTE}})
    run = start_run(graph)
    [state] = claimed()
    record.record_outcomes([Outcome(state, "error", error="broken")])
    conf.MAX_RUN_BYTES = 1500
    with pytest.raises(errors.TooLarge, match=REMEDY):
        retry.retry_failed(run, SYSTEM)
    with pytest.raises(errors.TooLarge, match=REMEDY):
        create_states.create_states(graph, "new", [("a", {"value": KILOBYTE})] * 2, SYSTEM)
    assert by_node(run) == {"a": ["ERRORED"]}
    assert not Run.objects.filter(run_id="new").exists()
    conf.MAX_RUN_BYTES = 3000
    retry.retry_failed(run, SYSTEM)
    run.refresh_from_db()
    assert run.stored_bytes == pytest.approx(2 * 1014, abs=10)


def test_the_inputs_of_the_next_states_are_limited_together(run_graph, monkeypatch):
    monkeypatch.setattr(advance, "MAX_NEXT_BYTES", 5000)
    nodes.counted_outputs[:] = [{"value": KILOBYTE}] * 3
    inputs = {"b": {"value": ["${{ a.outputs.value }}"] * 2}}
    run = finished(run_graph, "a>b", kinds={"a": "test.counted"}, inputs=inputs)
    assert by_node(run) == {"a": ["NEXT_CREATED_ERROR"]}
    assert "the next states would have more than" in run.error_message


def test_files_are_counted(run_graph):
    run = finished(run_graph, "a", kinds={"a": "test.emit"})
    assert run.stored_bytes >= Artifact.objects.filter(run=run).aggregate(s=Sum("size"))["s"] > 0


def test_a_rerun_of_a_part_counts_what_it_takes_over(run_graph, drain):
    nodes.counted_outputs[:] = [{"value": "é" * 1000}]
    kinds = {"a": "test.counted", "b": "test.outage"}
    original = finished(run_graph, "a>b", kinds=kinds, inputs={"b": {"value": KILOBYTE}})
    new = rerun(original, options=RerunOptions(failed=True))
    drain()
    new.refresh_from_db()
    assert by_node(new) == {"a": ["SUCCESS"], "b": ["ERRORED"]}
    assert new.stored_bytes == pytest.approx(original.stored_bytes, abs=20)
    assert new.stored_bytes == pytest.approx(bytes_in_rows(new), abs=20)
    assert new.stored_bytes > 3000, "bytes, not characters"


def test_a_namespace_that_stores_all_it_may_starts_no_run(publish, settings, drain):
    graph = publish("a", inputs={"a": {"value": KILOBYTE}})
    first = start_run(graph, RunOptions(run_id="first"))
    drain()
    graph.namespace.max_stored_bytes = 1000
    graph.namespace.save()
    ttl_cache.forget()
    with pytest.raises(errors.TooLarge, match="Delete old runs"):
        start_run(graph, RunOptions(run_id="second"))
    assert not Run.objects.filter(run_id="second").exists()
    assert start_run(graph, RunOptions(run_id="first")) == first, "a repeated start finds its run"
    with pytest.raises(errors.TooLarge, match="Delete old runs"):
        start_outside(graph.namespace, RunOptions())
    with pytest.raises(errors.TooLarge, match="Delete old runs"):
        create_states.create_states(graph, "second", [("a", {})], SYSTEM)
    with pytest.raises(errors.TooLarge, match="Delete old runs"):
        rerun(first, options=RerunOptions(node="a"))
    assert Run.objects.get() == first

    first.delete()
    ttl_cache.forget()
    assert start_run(graph, RunOptions(run_id="second")).pk


def test_results_recorded_with_once_count_and_nothing_is_called_in_a_full_run(run_graph, conf):
    members = {"kinds": {"a": "test.texts"}, "data": {"a": {"inputs": {"sizes": [1000, 2000]}}}}
    run = run_graph("a", **members)
    assert sorted(map(len, results_of(run))) == [1000, 2000]
    assert run.stored_bytes == 3000 + 2 * len('""') + bytes_in_rows(run)
    conf.MAX_RUN_BYTES = 900
    run = run_graph("a", **members)
    assert by_node(run) == {"a": ["ERRORED"]}
    assert list(map(len, results_of(run))) == [1000], "the second call was not made"
    assert REMEDY in run.states.get().error


def test_results_of_a_chain_that_one_worker_follows_count(run_graph):
    kinds = dict.fromkeys("abc", "test.texts")
    run = run_graph("a>b>c", kinds=kinds, inputs={at: {"sizes": [1000, 2000]} for at in "abc"})
    assert run.stored_bytes == 3 * 3004 + bytes_in_rows(run)


def results_of(run):
    return run.tool_results.values_list("result", flat=True)


def test_what_a_run_is_given_counts(publish, namespace):
    given = RunOptions(inputs={"value": KILOBYTE}, store={"s": "é"}, metadata={"m": [1]})
    run = start_run(publish("a"), given)
    bytes_given = sum(
        payloads.size(payloads.dump(value)) for value in (given.inputs, given.store, given.metadata)
    )
    assert run.stored_bytes == bytes_given + bytes_in_rows(run)
    outside = start_outside(namespace, RunOptions(inputs={"x": KILOBYTE}, sop="é", purpose="p"))
    assert outside.stored_bytes == len('{"x":""}') + 1000 + 3


def test_inputs_and_defaults_may_be_larger_together_than_one_payload(namespace, conf):
    conf.MAX_PAYLOAD_BYTES = 1500
    schema = {"properties": {"d": {"default": KILOBYTE}}}
    graph = publish_graph(namespace, "g", {**definition("a"), "inputs": schema})
    run = start_run(graph, RunOptions(inputs={"x": KILOBYTE}))
    assert run.stored_bytes > 2000


def test_a_run_that_is_too_large_from_the_start_is_refused(publish, conf, monkeypatch):
    conf.MAX_RUN_BYTES = 2000
    graph = publish(
        "a b c", data={at: {"inputs": {"value": "${{ run.inputs.x }}"}} for at in "abc"}
    )
    with pytest.raises(errors.TooLarge, match="from the start"):
        start_run(graph, RunOptions(inputs={"x": KILOBYTE}))
    conf.MAX_RUN_BYTES = 2**30
    monkeypatch.setattr(new_run, "MAX_ROOT_BYTES", 2500)
    with pytest.raises(errors.TooLarge, match="with which the run starts"):
        start_run(graph, RunOptions(inputs={"x": KILOBYTE}))
    assert not Run.objects.exists()


def test_a_file_that_the_run_may_not_store_is_not_written_to_its_end(run_graph, conf):
    conf.MAX_RUN_BYTES = 5000
    run = run_graph("a", kinds={"a": "test.file"}, data={"a": {"inputs": {"size": 10_000_000}}})
    assert by_node(run) == {"a": ["ERRORED"]}
    assert "with this file" in run.states.get().error
    assert not Artifact.objects.exists()


def test_the_conditions_of_a_state_have_a_budget_together(run_graph, monkeypatch):
    monkeypatch.setattr(advance, "MAX_CONDITION_SECONDS", -1.0)
    run = run_graph("a>b", when={"a>b": "outputs.value != 1"})
    assert by_node(run) == {"a": ["NEXT_CREATED_ERROR"]}
    assert "processor time" in run.states.get().error
