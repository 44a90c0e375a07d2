"""The forms in which nodes, inputs and edges are changed."""

import json

import pytest

from graphs.models import RegisteredNode
from graphs.services import drafts
from tests.support.flow_client import inputs, kind, settings

pytestmark = pytest.mark.django_db


def test_adding_changing_and_deleting_by_forms(flow):
    flow.post(kind=kind("log"), node="b")
    assert flow.nodes["log"] == {"id": "log", "kind": "log"}
    page = flow.get("?view=list").content.decode()
    assert "log needs the input" in page
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
        "id": "say", "kind": "log", "label": "Say it", "data": {"inputs": {"message": "Hello ${{ b.outputs.value }}"}, "retry": {"max_retries": 2}},
        "position": {"x": 30.0, "y": 40.0},
    }  # fmt: skip
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


def test_what_does_not_fit_is_said_beside_its_field_and_kept(flow):
    flow.post(kind=kind("delay"), node="b")
    answer = flow.post(**{"op": "change", "node": "delay", "id": "delay", "in-seconds": "soon"})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "Enter a number" in page
    assert 'value="soon"' in page
    assert "data" not in flow.nodes["delay"]
    for wrong in (
        {"op": "nonsense"},
        {"op": "move", "node": "a", "x": "far", "y": "1"},
        {"op": "connect", "start": "a", "end": "nowhere"},
        {"kind": "999999"},
    ):
        before = flow.revision
        answer = flow.client.post(f"{flow.path}edit", {"revision": before, **wrong}, follow=True)
        assert 'class="error"' in answer.content.decode(), wrong
        assert flow.revision == before


def test_a_second_input_of_one_name_is_refused_beside_it(flow):
    flow.post(**settings("day", ""))
    for names, wrong in ((("day", "day", ""), "name-1"), (("day", "x", "x", ""), "name-2")):
        answer = flow.post(**settings(*names))
        assert answer.status_code == 422
        assert list(answer.context["flow"].form.errors) == [wrong]
        assert "There is already an input with this name." in answer.content.decode()
    flow.post(**settings("day", "hour", ""))
    answer = flow.post(**settings("hour", "hour", ""))
    assert list(answer.context["flow"].form.errors) == ["name-0"], (
        "the one that took the other's name"
    )
    assert list(inputs(flow)) == ["day", "hour"]


def test_renaming_an_input_renames_what_refers_to_it(flow):
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
        "it was deleted, not renamed"
    )
    page = flow.get("problems").content.decode()
    assert page.count("the graph declares no input &#x27;date&#x27;; available inputs: hour") == 2
    flow.post(**settings("minute", "hour", ""))
    assert flow.nodes["b"]["data"]["inputs"] == {
        "value": "at ${{ run.inputs.hour }} of ${{ run.inputs.date }}"
    }, "it moved to another row"
    flow.post(op="undo")
    assert list(inputs(flow)) == ["hour"]


@pytest.mark.parametrize("name", ["a.b", "a}}${{", "{", "a.outputs.value"])
def test_a_new_id_is_one_that_references_can_name(flow, name):
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


def test_descriptions_of_inputs_are_text(flow):
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


def test_odd_schemas_of_workers_are_no_500(flow, namespace):
    recursive = {
        "properties": {"l": {"$ref": "#/$defs/A"}},
        "required": ["l"],
        "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}},
    }
    for at, schema in enumerate(
        [
            recursive,
            {"properties": {"l": {"type": "array", "items": True}}},
            {"properties": {"l": True, "m": {"anyOf": True}}},
            {"properties": {}},
            {},
        ]
    ):
        RegisteredNode.objects.create(
            namespace=namespace,
            name=f"odd{at}",
            executor="worker",
            inputs_schema=schema,
            outputs_schema=schema,
        )
        flow.post(kind=RegisteredNode.objects.get(name=f"odd{at}").pk, node="b")
        assert flow.get(f"?node=odd{at}").status_code == 200
        assert flow.post(op="connect", start="a", end=f"odd{at}").status_code == 302
        assert flow.post(op="change", node=f"odd{at}", id=f"odd{at}", label="x").status_code == 302
        assert flow.nodes[f"odd{at}"]["label"] == "x"


def test_one_becomes_true(flow):
    for text, value in (
        ("1", 1),
        ("true", True),
        ('{"a": [0]}', {"a": [0]}),
        ('{"a": [false]}', {"a": [False]}),
        ("one", "one"),
        ('"1"', "1"),
    ):
        flow.post(**{"op": "change", "node": "a", "id": "a", "in-value": text})
        found = flow.nodes["a"]["data"]["inputs"]["value"]
        assert json.dumps(found) == json.dumps(value)


def test_what_is_written_beats_the_reference_that_was_chosen_before(flow):
    script = {"headers": {"HX-Request": "true"}}
    form = {
        "op": "change",
        "node": "b",
        "id": "b",
        "view": "picture",
        "in-value": "by hand",
        "ref-value": "${{ a.outputs.value }}",
        "strategy": "ALL_SUCCESS",
    }
    page = flow.client.post(
        f"{flow.path}edit", {**form, "revision": flow.revision}, **script
    ).content.decode()
    assert flow.nodes["b"]["data"]["inputs"] == {"value": "by hand"}
    assert 'id="fl-inspector"' in page, "so that the form shows it"
