"""What names a thing keeps all that tells it from another, in any script.

Each test gives things names that become alike when letters are dropped, replaced, folded or cut.
"""

import pytest
from django.core.files.storage import default_storage
from hypothesis import given
from hypothesis import strategies as st

from graphs.auth.callers import SYSTEM
from graphs.models import DatasetTable
from graphs.services import datasets
from graphs.services.dataset_files import sources_at
from runs.engine.new_run import RunOptions
from runs.engine.node_context import NodeContext
from runs.engine.start import start_outside, start_run
from runs.engine.types import idempotency_key, step_name
from runs.external import documents, updates
from runs.models import Run, State, ToolResult
from tests.support.engine import claimed
from tests.support.runs import outside

pytestmark = pytest.mark.django_db
# Alike in ASCII, without blanks, in one case, in another form of Unicode, or at the beginning.
NAMES = [
    "заказ-17",
    "отчёт-17",
    "заказ 17",
    "заказ_17",
    "ЗАКАЗ-17",
    "?????-17",
    "é",
    "e\u0301",
    "e",
    "a b",
    "a_b",
    "a-b",
    "A B",
    "a%20b",
    "a+b",
    "x" * 190,
    "x" * 189 + "y",
    "𝔘" * 190,
    "𝔘" * 189 + "x",
]


parts = st.text("a:@%0.1é ", max_size=6)


@given(a=st.tuples(parts, parts, parts), b=st.tuples(parts, parts, parts))
def test_two_steps_have_two_keys(a, b):
    first, second = (idempotency_key(*step) for step in (a, b))
    assert (first == second) == (a == b)


@given(a=parts, b=parts, path=st.sampled_from(["", "0:1", "0:1.2:0"]))
def test_an_identifier_is_not_taken_for_another_with_a_path(a, b, path):
    assert (step_name(a, path) == step_name(b, "")) == (a == b and not path)


document_parts = st.text("a@0:1-r.", max_size=6)
document_paths = st.sampled_from(["", "0:1", "0:-", "r:0", "0:1.12:0"])


@given(a=st.tuples(document_parts, document_paths), b=st.tuples(document_parts, document_paths))
def test_two_nodes_of_a_document_have_two_keys(a, b):
    first, second = (documents._key(State(identifier=name, path=path)) for name, path in (a, b))
    assert (first == second) == (a == b)


@pytest.mark.parametrize("name", [*NAMES, "fetch@v2", "me@host:80", "50%", "a@0:1:2", "@home"])
def test_ordinary_names_are_keys_of_a_document_as_they_are(name):
    assert documents._key(State(identifier=name)) == name
    assert documents._key(State(identifier=name, path="0:1")) == f"{name}@0:1"


def test_a_node_of_a_document_is_not_taken_for_a_sibling(run_graph):
    kinds, inputs = {"f": "test.each"}, {"f": {"items": [1, 2]}}
    run = run_graph("f>b f@0:1", kinds=kinds, inputs=inputs)
    document = documents.run_state(run)
    assert set(document.node_states) == {"f@0:0", "f@0:1", "b@0:0", "b@0:1", "f@0:1@"}
    assert set(document.completed_nodes) == set(document.node_states)


def test_the_keys_of_an_outside_program_are_its_own():
    run = outside(run_id="theirs")
    for _ in range(2):
        state = updates.mark(run, "a@0:1", "started", SYSTEM)
    assert list(state.node_states) == ["a@0:1"]
    assert list(documents.from_rows(run).node_states) == ["a@0:1"]


def test_run_ids_are_told_apart(namespace):
    for name in NAMES:
        start_outside(namespace, RunOptions(run_id=name))
    assert {run.run_id for run in Run.objects.all()} == set(NAMES)
    for name in NAMES:
        assert Run.objects.filter(run_id=name).count() == 1


def test_tables_of_a_dataset_keep_their_own_content(namespace, tmp_path):
    short = [name for name in NAMES if len(name.encode()) < 200]
    for at, name in enumerate(short):
        (tmp_path / f"{name}.csv").write_text(f"at\n{at}\n")
    with sources_at(tmp_path) as sources:
        dataset = datasets.load(namespace, "d", sources)
    for table in DatasetTable.objects.filter(dataset=dataset):
        with default_storage.open(table.file) as file:
            assert file.read().decode().split() == ["at", str(short.index(table.name))]
    datasets.delete(dataset)


def test_files_of_a_state_keep_their_own_content(publish):
    start_run(publish("a"))
    context = NodeContext(claimed()[0])
    written = {}
    for at, name in enumerate([*NAMES, "?", ".."]):
        with context.artifact(name) as writer:
            writer.write(str(at).encode())
        written[name] = writer.file["file"]
    for at, (name, file) in enumerate(written.items()):
        with default_storage.open(file) as stored:
            assert stored.read() == str(at).encode(), name
    assert len(set(written.values())) == len(written)


def test_tool_calls_whose_names_run_together_are_two(publish):
    start_run(publish("a"))
    context = NodeContext(claimed()[0])
    results = [context.once(tool, {}, lambda tool=tool: tool) for tool in ("a:b", "a%3Ab", "a")]
    assert results == ["a:b", "a%3Ab", "a"]
    long = ["t" * 2000 + end for end in "ab"]
    assert [context.once(tool, {}, lambda tool=tool: tool[-1]) for tool in long] == ["a", "b"]
    keys = set(ToolResult.objects.values_list("key", flat=True))
    assert len(keys) == 5
    assert max(map(len, keys)) <= 1500
