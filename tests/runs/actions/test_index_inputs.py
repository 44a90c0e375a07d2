"""Runs from before a declaration are indexed in batches, and none is missed or indexed twice."""

import pytest
from django.core.management import call_command

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.models import IndexedInput
from graphs.services import publish as publishing
from runs.actions import delete, index_inputs
from runs.actions.rerun import RerunOptions, rerun
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import Run, RunInput
from runs.queries.filters import InvalidFilters, RunFilters
from tests.support.definitions import definition

pytestmark = pytest.mark.django_db


def declaring(*paths):
    return {"settings": {"indexed_inputs": list(paths)}}


def found(text):
    matching = RunFilters.of_mapping({"search": text}).apply(Run.objects.all(), SYSTEM)
    return set(matching.values_list("run_id", flat=True))


@pytest.fixture
def old_runs(publish, monkeypatch):
    """A graph with seven runs, which then declares an input; batches have three runs."""
    monkeypatch.setattr(index_inputs, "BATCH", 3)
    graph = publish("a")
    for at in range(7):
        start_run(graph, RunOptions(run_id=f"r{at}", inputs={"id": at % 2} if at else {}))
    return publish("a", **declaring("id"))


def test_earlier_runs_are_found_once_they_are_indexed(old_runs):
    start_run(old_runs, RunOptions(run_id="new", inputs={"id": 1}))
    with pytest.raises(InvalidFilters, match="still being indexed"):
        found("-input:id=1")
    rounds = index_inputs.batches()
    for _ in range(2):
        next(rounds)
    with pytest.raises(InvalidFilters, match="still being indexed"):
        found("input:id=1")
    index_inputs.continue_indexing()
    assert found("input:id=1") == {"r1", "r3", "r5", "new"}
    assert found("-input:id=1") == {"r0", "r2", "r4", "r6"}
    assert found("-input:id") == {"r0"}


def test_indexing_again_changes_nothing(old_runs):
    call_command("index_inputs")
    rows = set(RunInput.objects.values_list("pk", "run", "input", "digest"))
    call_command("index_inputs", again=True)
    assert set(RunInput.objects.values_list("pk", "run", "input", "digest")) == rows
    assert len(rows) == 6


def test_the_values_of_an_input_that_is_declared_no_more_are_deleted(old_runs, publish):
    index_inputs.continue_indexing()
    publish("a", **declaring("other"))
    with pytest.raises(InvalidFilters, match="No graph declares the input id"):
        found("input:id=1")
    start_run(old_runs, RunOptions(inputs={"id": 1, "other": 2}))
    index_inputs.continue_indexing()
    [left] = IndexedInput.objects.all()
    assert (left.path, left.indexed_from) == ("other", 0)
    assert [row.input for row in RunInput.objects.all()] == [left]


def test_a_path_that_is_declared_again_is_indexed_again(old_runs, publish):
    index_inputs.continue_indexing()
    publish("a")
    start_run(old_runs, RunOptions(run_id="between", inputs={"id": 1}))
    publish("a", **declaring("id"))
    index_inputs.continue_indexing()
    assert found("input:id=1") == {"r1", "r3", "r5", "between"}


def test_rolling_back_declares_what_the_former_version_declared(old_runs):
    publishing.roll_back(old_runs, 1, SYSTEM)
    assert not IndexedInput.objects.declared()
    publishing.roll_back(old_runs, 2, SYSTEM)
    assert [each.path for each in IndexedInput.objects.declared()] == ["id"]


def test_every_way_to_start_a_run_indexes_it(publish, drain):
    graph = publish("a>b", kinds={"b": "test.fail"}, **declaring("id"))
    run = start_run(graph, RunOptions(run_id="r", inputs={"id": 1}))
    drain()
    run.refresh_from_db()
    rerun(run)
    rerun(run, options=RerunOptions(failed=True))
    rerun(run, options=RerunOptions(node="a"))
    rerun(run, options=RerunOptions(inputs={"id": 2}))
    assert found("input:id=1") == {"r", "r_rerun_1", "r_rerun_2", "r_rerun_3"}
    assert found("input:id=2") == {"r_rerun_4"}


def test_a_run_of_an_older_version_is_indexed_as_its_graph_declares_now(old_runs):
    index_inputs.continue_indexing()
    rerun(Run.objects.get(run_id="r1"))
    assert "r1_rerun_1" in found("input:id=1")


def test_nothing_is_left_of_a_deleted_run_or_graph(old_runs):
    index_inputs.continue_indexing()
    run = Run.objects.get(run_id="r1")
    delete.delete_runs([run.pk], SYSTEM, even_active=True)
    assert found("input:id=1") == {"r3", "r5"}
    assert not RunInput.objects.filter(run=run.pk)
    delete.delete_graph(old_runs)
    assert not RunInput.objects.exists()
    assert not IndexedInput.objects.exists()


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a", "a"], "twice"),
        (["a.b", '["a"].b'], "twice"),
        (["a..b"], "no indexed input"),
        (["a="], "no indexed input"),
        ([""], "shorter than 1"),
        (["x" * 201], "longer than 200"),
        ([f"p{at}" for at in range(11)], "more than 10"),
        ([1], "not of type"),
    ],
)
def test_wrong_declarations_are_refused(namespace, paths, message):
    with pytest.raises(errors.InvalidGraph, match=message):
        publishing.publish_graph(namespace, "g", definition("a", **declaring(*paths)))
