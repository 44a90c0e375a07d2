"""What follows from a result never undoes it.

A node that has succeeded runs once, whatever its outputs are and whatever comes after it: its state
ends as SUCCESS, or as NEXT_CREATED_ERROR with the reason, and keeps its outputs.
"""

import hashlib
from contextlib import contextmanager

import pytest
from django.db import DataError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphs.definition import payloads, references
from graphs.definition.types import Json, JsonObject
from graphs.models import GraphVersion, Namespace, RegisteredNode, namespace
from runs.engine import advance, join, record
from runs.engine.executor import Executor
from runs.engine.start import start_run
from runs.models import LogLine
from tests import nodes
from tests.support.engine import claimed, done
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db

RETRIED = {"retry": {"max_retries": 3, "backoff_factor": 1}}


def nested(levels: int) -> Json:
    value: Json = {"end": 1}
    for _ in range(levels):
        value = [value]
    return value


def run_once(graph, *outputs: JsonObject):
    """Run a graph whose node "a" returns these outputs. Returns the run."""
    nodes.counted.clear()
    nodes.counted_outputs[:] = outputs
    run = start_run(graph)
    for _ in range(3):
        Executor(threads=False).drain()
    run.refresh_from_db()
    assert nodes.counted == [run.run_id], "the node ran once"
    states = run.states.filter(identifier="a").order_by("path")
    assert {state.status for state in states} <= {"SUCCESS", "NEXT_CREATED_ERROR"}
    assert states[0].outputs == outputs[0], "the success keeps its outputs"
    assert all(state.error for state in states if state.status != "SUCCESS")
    assert run.status in ("completed", "partial", "failed")
    assert_counters_agree(run)
    return run


CONDITIONS = (
    "outputs.value == 1",
    "outputs.value.rows[0] == 1",
    "outputs.value[99999999999] == 1",
    "outputs.value",
    "outputs.value.map (x, x.map (y, y))[0][0]",
    "outputs.value.matches(outputs.value)",
    r"int('\u0000' + string(outputs.value)) == 1",
    "outputs.value / 0 == 1",
    "outputs.missing > 1",
    "[outputs.value, outputs.value]",
    "undefined(outputs)",
)
REFERENCES = (
    "a.outputs.value",
    "a.outputs.value.rows.0",
    "a.outputs.value." + "9" * 5000,
    "a.outputs.value.٣",
    "a.outputs.value.-1",
    "a.outputs.missing.deeper",
    "a.outputs.value.end.end.0",
    "run.inputs.none",
)
VALUES = (
    None,
    True,
    0,
    -1.5,
    2**70,
    "",
    "text",
    "é\u2028\U0001f600${{ a.outputs.value }}",
    "1" * 300_000,
    [],
    [1, [2], {"end": {}}],
    {"rows": []},
    {"rows": [1]},
    {"end": {"end": [0]}},
    list(range(3000)),
    nested(payloads.MAX_DEPTH - 20),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(-1e9, 1e9)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5),
    lambda items: (
        st.lists(items, max_size=3)
        | st.dictionaries(st.sampled_from(["rows", "end", "0", "value"]), items, max_size=3)
    ),
    max_leaves=8,
)
EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def counted(publish, drawing="a>b", **members):
    data = {"a": RETRIED, **members.pop("data", {})}
    return publish(drawing, kinds={"a": "test.counted"}, data=data, **members)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_no_condition_undoes_a_result(publish, condition):
    graph = counted(publish, when={"a>b": condition})
    for value in VALUES:
        run_once(graph, {"value": value})


@pytest.mark.parametrize("reference", REFERENCES)
def test_no_reference_undoes_a_result(publish, reference):
    placeholder = f"${{{{ {reference} }}}}"
    inputs = {"b": {"value": [placeholder, f"x {placeholder} {placeholder}"]}}
    graph = counted(publish, inputs=inputs)
    for value in VALUES:
        run_once(graph, {"value": value})


@pytest.mark.parametrize("reference", REFERENCES[:6])
@pytest.mark.parametrize("unites", [{}, {"d": {"unites": {"identifier": "a"}}}])
def test_no_join_undoes_a_result(publish, reference, unites):
    inputs = {"d": {"value": [f"${{{{ {reference} }}}}", "${{ b.outputs.value }}"]}}
    inputs["b"] = {"value": "${{ a.outputs.value }}"}
    graph = counted(publish, "a>b>d a>c>d", data=unites, inputs=inputs)
    for value in VALUES:
        run_once(graph, {"value": value}, {"value": 1}, {"other": value})
        run_once(graph, {"value": value})


@EXAMPLES
@given(value=JSON, text=st.text("outputs.value[]0 ()=+'x,map\"{}$", max_size=40))
def test_nothing_that_is_made_up_undoes_a_result(publish, value, text):
    graph = counted(publish, inputs={"b": {"value": "${{ a.outputs.value.rows.0 }}"}})
    _store_condition(graph, f"outputs.value {text}")
    run_once(graph, {"value": value})


def _store_condition(graph, condition):
    """Give a graph a condition without any check, as if more had been allowed then."""
    version = graph.current
    version.definition["edges"][0]["data"] = {"when": condition}
    version.checksum = hashlib.sha256(condition.encode()).hexdigest()[: len(version.checksum)]
    stored = {"definition": version.definition, "checksum": version.checksum}
    GraphVersion.objects.filter(pk=version.pk).update(**stored)


def test_no_condition_that_was_stored_before_its_limits_undoes_a_result(publish):
    graph = counted(publish)
    _store_condition(graph, "outputs.value" + ".filter(x, true)" * 3 + "(" * 300 + ")" * 300)
    run = run_once(graph, {"value": 1})
    assert by_node(run) == {"a": ["NEXT_CREATED_ERROR"]}


@contextmanager
def failing(monkeypatch, owner, name, error):
    """Let this function fail while the run is recorded."""

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        yield


@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError(), KeyError("b"), OSError()])
@pytest.mark.parametrize("drawing", ["a>b", "a>b>d a>c>d"])
def test_no_error_in_making_inputs_undoes_a_result(publish, monkeypatch, error, drawing):
    inputs = {drawing[-1]: {"value": "${{ a.outputs.value }}"}}
    graph = counted(publish, drawing, inputs=inputs)
    with failing(monkeypatch, references, "dig", error):
        run = run_once(graph, {"value": 1})
    assert type(error).__name__ in run.error_message


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (advance, "_children"),
        (join, "candidates_after"),
        (join, "inspect"),
    ],
)
def test_no_error_in_recording_what_follows_undoes_a_result(publish, monkeypatch, owner, name):
    graph = counted(publish, "a>b>d a>c>d a>d")
    with failing(monkeypatch, owner, name, DataError("refused")):
        run = run_once(graph, {"value": 1})
    [state] = run.states.all()
    assert (state.status, run.status) == ("NEXT_CREATED_ERROR", "failed")
    assert "can't be recorded: DataError: refused" in state.error


def test_a_namespace_that_was_deleted_does_not_undo_a_result(publish):
    workers = Namespace.objects.create(name="workers")
    RegisteredNode.objects.create(namespace=workers, name="noop", executor="worker")
    graph = counted(publish, namespaces={"b": "workers"})
    Namespace.objects.filter(name="workers").delete()
    namespace.forget()
    run = run_once(graph, {"value": 1})
    assert by_node(run) == {"a": ["NEXT_CREATED_ERROR"]}
    assert "'workers', which does not exist" in run.error_message


def test_a_failure_stays_a_failure_if_its_retry_cannot_be_recorded(publish, monkeypatch):
    run = start_run(publish("a", kinds={"a": "test.fail"}, data={"a": RETRIED}))
    nodes.calls.clear()
    with failing(monkeypatch, advance, "_retry_of", DataError("refused")):
        for _ in range(3):
            Executor(threads=False).drain()
    assert len(nodes.calls) == 1
    run.refresh_from_db()
    assert by_node(run) == {"a": ["ERRORED"]}
    assert "broken" in run.error_message
    assert "refused" in run.error_message
    assert_counters_agree(run)


def test_a_result_with_lines_that_cannot_be_recorded_stays_a_success(publish, monkeypatch):
    run = start_run(publish("a>b"))
    [state] = claimed()
    outcome = done(state)
    outcome.emitted = 10**30
    outcome.lines = [(None, "info", "x" * 10)]
    record.record_outcomes([outcome])
    assert by_node(run) == {"a": ["NEXT_CREATED_ERROR"]}
    assert LogLine.objects.filter(run=run, level="error").exists()
    run.refresh_from_db()
    assert_counters_agree(run)


def test_inputs_that_were_stored_are_retried_whatever_the_limit_is_now(publish, conf):
    run = start_run(publish("a", inputs={"a": {"value": "x" * 1000}}, data={"a": RETRIED}))
    [state] = claimed()
    conf.MAX_PAYLOAD_BYTES = 100
    record.record_outcomes([record.Outcome(state, "error", error="broken")])
    assert by_node(run) == {"a": ["RETRY_CREATED", "CREATED"]}
