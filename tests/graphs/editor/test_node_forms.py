"""The forms for nodes, edges and the inputs of a graph."""

import json

import pytest

from graphs.models import RegisteredNode
from graphs.services import drafts
from tests.support.flow_client import SCRIPT, inputs, kind, settings

pytestmark = pytest.mark.django_db


def test_a_node_is_added_without_inputs_and_its_missing_input_is_reported(flow):
    flow.post(kind=kind("log"), node="b")
    assert flow.nodes["log"] == {"id": "log", "kind": "log"}
    assert "log needs the input" in flow.get("?view=list").content.decode()


def test_nodes_and_edges_are_changed_duplicated_deleted_and_restored(flow):
    flow.post(kind=kind("log"), node="b")
    form = {
        "op": "change",
        "node": "log",
        "id": "say",
        "label": "Say it",
        "in-message": "Hello ${{ b.outputs.value }}",
        "x": "30",
        "y": "40",
        "max_retries": "2",
    }
    assert flow.post(**form).status_code == 302
    assert flow.nodes["say"] == {
        "id": "say",
        "kind": "log",
        "label": "Say it",
        "data": {
            "inputs": {"message": "Hello ${{ b.outputs.value }}"},
            "retry": {"max_retries": 2},
        },
        "position": {"x": 30.0, "y": 40.0},
    }
    flow.post(
        **{"op": "change", "node": "say", "id": "say", "ref-message": "${{ a.outputs.value }}"}
    )
    assert flow.nodes["say"]["data"] == {"inputs": {"message": "${{ a.outputs.value }}"}}
    flow.post(op="condition", start="b", end="say", when="outputs.value == 1")
    flow.post(op="duplicate", node="say")
    flow.post(op="delete", node="say")
    assert set(flow.nodes) == {"a", "b", "say_2"}
    flow.post(op="undo")
    assert set(flow.nodes) == {"a", "b", "say", "say_2"}
    edges = drafts.draft_of(flow.graph).definition["edges"]
    assert {"from": "b", "to": "say", "data": {"when": "outputs.value == 1"}} in edges


def test_a_wrong_value_is_reported_beside_its_field_and_stays_there(flow):
    flow.post(kind=kind("delay"), node="b")
    answer = flow.post(**{"op": "change", "node": "delay", "id": "delay", "in-seconds": "soon"})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "Enter a number" in page
    assert 'value="soon"' in page
    assert "data" not in flow.nodes["delay"]


@pytest.mark.parametrize(
    "edit",
    [
        {"op": "nonsense"},
        {"op": "move", "node": "a", "x": "far", "y": "1"},
        {"op": "connect", "start": "a", "end": "nowhere"},
        {"kind": "999999"},
    ],
)
def test_an_impossible_edit_shows_an_error_and_changes_nothing(flow, edit):
    before = flow.revision
    answer = flow.client.post(f"{flow.path}edit", {"revision": before, **edit}, follow=True)
    assert 'class="error"' in answer.content.decode()
    assert flow.revision == before


@pytest.mark.parametrize(
    ("names", "field"),
    [(("day", "day", ""), "name-1"), (("day", "x", "x", ""), "name-2")],
)
def test_a_second_input_with_the_same_name_is_refused_beside_its_field(flow, names, field):
    flow.post(**settings("day", ""))
    answer = flow.post(**settings(*names))
    assert answer.status_code == 422
    assert list(answer.context["flow"].form.errors) == [field]
    assert "There is already an input with this name." in answer.content.decode()


def test_renaming_an_input_to_the_name_of_another_is_refused_beside_the_renamed_one(flow):
    flow.post(**settings("day", "hour", ""))
    answer = flow.post(**settings("hour", "hour", ""))
    assert list(answer.context["flow"].form.errors) == ["name-0"]
    assert list(inputs(flow)) == ["day", "hour"]


def test_renaming_an_input_renames_the_references_to_it(flow):
    flow.post(**settings("day", "hour", ""))
    flow.post(**{"op": "change", "node": "a", "id": "a", "in-value": "${{ run.inputs.day }}"})
    flow.post(
        **{
            "op": "change",
            "node": "b",
            "id": "b",
            "in-value": "at ${{ run.inputs.hour }} of ${{ run.inputs.day }}",
        }
    )
    flow.post(**settings("date", "hour", ""))
    assert list(inputs(flow)) == ["date", "hour"]
    assert flow.nodes["a"]["data"]["inputs"] == {"value": "${{ run.inputs.date }}"}
    assert flow.nodes["b"]["data"]["inputs"] == {
        "value": "at ${{ run.inputs.hour }} of ${{ run.inputs.date }}"
    }
    assert "no input" not in flow.get("problems").content.decode()
    flow.post(**settings("", "hour", ""))
    assert flow.nodes["a"]["data"]["inputs"] == {"value": "${{ run.inputs.date }}"}, (
        "the input was deleted, not renamed"
    )
    page = flow.get("problems").content.decode()
    assert page.count("the graph declares no input &#x27;date&#x27;; available inputs: hour") == 2
    flow.post(**settings("minute", "hour", ""))
    assert flow.nodes["b"]["data"]["inputs"] == {
        "value": "at ${{ run.inputs.hour }} of ${{ run.inputs.date }}"
    }, "the input moved to another row"
    flow.post(op="undo")
    assert list(inputs(flow)) == ["hour"]


@pytest.mark.parametrize("name", ["a.b", "a}}${{", "{", "a.outputs.value"])
def test_a_new_id_must_be_one_that_references_can_name(flow, name):
    answer = flow.post(op="change", node="a", id=name)
    assert answer.status_code == 422
    assert "Other nodes could not refer to it" in answer.content.decode()
    assert set(flow.nodes) == {"a", "b"}
    odd = {
        "nodes": [{"id": name, "kind": "noop"}, {"id": "b", "kind": "noop"}],
        "edges": [{"from": name, "to": "b"}],
    }
    flow.post(op="replace", view="json", json=json.dumps(odd))
    assert (
        "the nodes after it can&#x27;t refer to its outputs"
        in flow.get("problems").content.decode()
    )
    assert flow.post(op="change", node=name, id=name, label="As it was").status_code == 302
    assert flow.nodes[name]["label"] == "As it was"
    flow.post(op="change", node=name, id="x <y>")
    assert set(flow.nodes) == {"x <y>", "b"}


def test_the_description_of_an_input_is_escaped(flow):
    inputs = {
        "type": "object",
        "properties": {
            "x": {"type": "string", "description": '<b hx-post="/evil" hx-trigger="load">'}
        },
    }
    flow.post(
        op="replace",
        view="json",
        json=json.dumps({"nodes": [{"id": "a", "kind": "noop"}], "edges": [], "inputs": inputs}),
    )
    page = flow.get("run/").content.decode()
    assert "&lt;b hx-post" in page
    assert "<b hx-post" not in page


RECURSIVE_SCHEMA = {
    "properties": {"l": {"$ref": "#/$defs/A"}},
    "required": ["l"],
    "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}},
}


@pytest.mark.parametrize(
    "schema",
    [
        RECURSIVE_SCHEMA,
        {"properties": {"l": {"type": "array", "items": True}}},
        {"properties": {"l": True, "m": {"anyOf": True}}},
        {"properties": {}},
        {},
    ],
)
def test_a_node_with_an_unusual_schema_can_be_edited(flow, namespace, schema):
    node = RegisteredNode.objects.create(
        namespace=namespace,
        name="odd",
        executor="worker",
        inputs_schema=schema,
        outputs_schema=schema,
    )
    flow.post(kind=node.pk, node="b")
    assert flow.get("?node=odd").status_code == 200
    assert flow.post(op="connect", start="a", end="odd").status_code == 302
    assert flow.post(op="change", node="odd", id="odd", label="x").status_code == 302
    assert flow.nodes["odd"]["label"] == "x"


def test_values_that_python_holds_for_equal_are_told_apart(flow):
    """1 == True and 0 == False in Python, but not in JSON: the change must be saved."""
    for text, value in (
        ("1", 1),
        ("true", True),
        ('{"a": [0]}', {"a": [0]}),
        ('{"a": [false]}', {"a": [False]}),
        ("one", "one"),
        ('"1"', "1"),
    ):
        flow.post(**{"op": "change", "node": "a", "id": "a", "in-value": text})
        saved = flow.nodes["a"]["data"]["inputs"]["value"]
        assert json.dumps(saved) == json.dumps(value)


def test_a_typed_value_replaces_the_reference_that_was_chosen_before(flow):
    form = {
        "op": "change",
        "node": "b",
        "id": "b",
        "view": "picture",
        "in-value": "by hand",
        "ref-value": "${{ a.outputs.value }}",
        "strategy": "ALL_SUCCESS",
    }
    answer = flow.client.post(f"{flow.path}edit", {**form, "revision": flow.revision}, **SCRIPT)
    assert flow.nodes["b"]["data"]["inputs"] == {"value": "by hand"}
    assert 'id="fl-inspector"' in answer.content.decode(), "the form no longer shows the reference"
