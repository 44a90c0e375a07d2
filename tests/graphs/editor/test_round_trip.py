"""What a form shows and nobody touches comes back as it was: opening a node or the settings and saving changes nothing."""

import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from graphs.definition.validation import Kind
from graphs.editor.inspector import NodeForm
from graphs.editor.settings_form import SettingsForm

SCHEMA = {
    "type": "object",
    "$defs": {
        "Table": {"type": "object", "title": "Table", "properties": {"file": {"type": "string"}}},
        "Measure": {
            "type": "object", "properties": {"function": {"type": "string", "enum": ["count", "sum"]}, "column": {"type": "string"}},
            "required": ["function", "column"],
        },
    },
    "properties": {
        "text": {"type": "string"}, "message": {"type": "string", "maxLength": 10}, "count": {"type": "integer", "minimum": 3, "maximum": 5, "default": 4},
        "share": {"type": "number"}, "on": {"type": "boolean", "default": True},
        "word": {"enum": ["a", "b", 1, None], "default": "a"}, "table": {"$ref": "#/$defs/Table"},
        "items": {"type": "array", "items": {"$ref": "#/$defs/Table"}}, "any": {}, "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "map": {"type": "object", "additionalProperties": {"type": "string"}}, "names": {"type": "array", "items": {"type": "string"}},
        "measures": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Measure"}}, "two": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    },
    "required": ["text", "table"],
}  # fmt: skip
VALUES = [
    None, "", " ", " x ", "0", "1", "true", "null", "[1]", '{"a": 1}', '"quoted"', "a\nb", "a\r\nb", "${{ before.outputs.value }}", "${{before.outputs.value}}",
    "x ${{ before.outputs.value }} y", "${{ nowhere.outputs.x }}", "${{ broken", 0, 1, 4, -1, 2.5, 1e300,
    12345678901234567890, True, False, [], [None], ["${{ before.outputs.value }}"],
    ["a", "", " b "], ["a\nb"], {"m": {"function": "count", "column": ""}}, {" m ": {"function": "sum", "column": "x"}},
    {"m": {"function": "other", "column": ""}}, {"": "x"}, {}, {"a": None}, {"a": "${{ run.inputs.day }}"}, "a", "b", "é•💥", "<b>&amp;",
]  # fmt: skip


class Sent(HTMLParser):
    """What a browser would send of the fields that it is shown."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self._area = self._select = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        name = given.get("name")
        if tag == "input" and given.get("type") in ("checkbox", "radio"):
            if "checked" in given:
                self.values[name] = given.get("value", "on")
        elif tag == "input":
            text = (
                (given.get("value") or "").replace("\r", "").replace("\n", "")
            )  # as the standard says
            self.values[name] = (
                ""
                if given.get("type") == "number"
                and not re.fullmatch(r"-?\d*\.?\d+([eE][+-]?\d+)?", text)
                else text
            )
        elif tag == "textarea":
            self._area, self.values[name] = name, ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and ("selected" in given or self._select not in self.values):
            self.values[self._select] = given.get("value") or ""

    def handle_data(self, data):
        if self._area:
            self.values[self._area] += data

    def handle_endtag(self, tag):
        if tag == "textarea":
            text = (
                self.values[self._area].removeprefix("\r\n")
                if self.values[self._area].startswith("\r\n")
                else self.values[self._area].removeprefix("\n")
            )
            self.values[self._area] = "\r\n".join(
                text.replace("\r\n", "\n").split("\n")
            )  # as the standard says
            self._area = ""


def sent(form):
    return Sent("".join(str(form[name]) for name in form.fields)).values


def graph_with(node):
    nodes = [{"id": "before", "kind": "noop"}, node]
    return {
        "nodes": nodes,
        "edges": [{"from": "before", "to": "it"}],
        "inputs": {"properties": {"day": {"type": "string"}}},
    }


KINDS = {
    "before": Kind("", {}, {"properties": {"value": {}, "table": {"type": "object"}}}),
    "it": Kind("", SCHEMA, {}),
}


def opened_and_saved(node, kinds=KINDS):
    definition = graph_with(node)
    again = NodeForm(definition, "it", kinds, sent(NodeForm(definition, "it", kinds)))
    assert again.is_valid(), again.errors
    return again.node()


@pytest.mark.parametrize("name", [*SCHEMA["properties"], "unknown"])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: json.dumps(value)[:40])
def test_an_untouched_input_is_as_it_was(name, value):
    node = {"id": "it", "kind": "k", "data": {"inputs": {name: value}}}
    assert opened_and_saved(node) == node


@pytest.mark.parametrize("more", [
    {"label": " x "}, {"namespace": "n"}, {"extra": [1]}, {"position": {"x": 0, "y": -3.5}}, {"position": None}, {"data": None}, {"data": {}},
    {"data": {"unites": {"identifier": "before"}}}, {"data": {"unites": {"identifier": "before", "strategy": "ALL_DONE"}}},
    {"data": {"unites": {"identifier": "gone"}}},
    {"data": {"retry": {"max_retries": 0}}}, {"data": {"retry": {"strategy": "FIXED", "backoff_factor": 0.5, "exponent": 3, "max_delay": None}}},
    {"data": {"timeout": 2.5, "lease": 30, "side_effects": True}}, {"data": {"side_effects": False}}, {"data": {"other": {"a": 1}}}, {"data": {"inputs": {}}},
])  # fmt: skip
def test_an_untouched_node_is_as_it_was(more):
    node = {"id": "it", "kind": "k", **more}
    for kinds in (KINDS, {**KINDS, "it": None}):
        assert opened_and_saved(node, kinds) == node


SETTINGS = [
    {}, {"settings": None}, {"settings": {}}, {"inputs": None}, {"inputs": {}}, {"inputs": {"type": "object"}},
    {"inputs": {"type": "object", "properties": {}}},
    {"settings": {"failure_policy": "continue"}}, {"settings": {"failure_policy": "stop", "max_failures": 0}},
    {"settings": {"max_failures": "10%"}}, {"settings": {"max_failures": None}},
    {"settings": {"max_steps": 3, "rerun_on_failure": {"times": 1}, "retry": {"max_retries": 2}, "lease": 5,
                  "store": {"required_keys": ["k"], "default_values": {"a": 0, "b": ""}}}},
    {"settings": {"store": {"default_values": {}}}}, {"settings": {"store": {}}}, {"metadata": {"x": None}, "other": 1},
    {"inputs": {"type": "object", "properties": {"a": {"type": "string", "title": "A", "default": ""},
                "b": {"type": "integer", "default": 0}, "c": {"default": None}}, "required": ["b"]}},
    {"inputs": {"type": "object", "properties": {"a": {"type": "boolean", "default": False},
                "b": {"type": "array", "default": []}, "c": {"type": "string", "default": "1"}}}},
    {"inputs": {"type": "object", "properties": {"a": {"type": ["string", "null"]}, "b": True}, "required": ["z"]}},
    {"inputs": {"type": "object", "properties": {"a b": {"type": "string"}, "c": {"enum": [1], "description": "x"}}, "additionalProperties": False}},
]  # fmt: skip


@pytest.mark.parametrize("more", SETTINGS, ids=lambda more: json.dumps(more)[:60])
def test_untouched_settings_are_as_they_were(more):
    definition = {"nodes": [], "edges": [], **more}
    again = SettingsForm(definition, sent(SettingsForm(definition)))
    assert again.is_valid(), again.errors
    assert again.definition() == definition


def test_every_field_is_shown():
    """What the form has but the page doesn't show would be sent empty, and lost."""
    form = NodeForm(graph_with({"id": "it", "kind": "k"}), "it", KINDS)
    fields = list(form.running_fields)
    for shown in form.input_fields:
        fields += [shown.value, shown.reference, *itertools.chain(*shown.rows)]
    names = {field.name for field in fields if field}
    assert names | {"id", "label", "x", "y"} == set(form.fields)


def written(node, **values):
    definition = graph_with({"id": "it", "kind": "k", "data": {"inputs": node}})
    form = NodeForm(definition, "it", KINDS, {**sent(NodeForm(definition, "it", KINDS)), **values})
    return form, (form.node().get("data") or {}).get("inputs") if form.is_valid() else None


def test_rows_are_written_cell_by_cell():
    form, inputs = written(
        {"names": ["a", "b"]}, **{"in-names-1-0": "", "in-names-2-0": "c", "in-names-3-0": "d"}
    )
    assert inputs == {"names": ["a", "c", "d"]}
    assert [[cell.name for cell in row] for row in form.rows["names"].bound(form)] == [
        [f"in-names-{at}-0"] for at in range(4)
    ]
    kept = {"m": {"function": "count", "column": ""}}
    new = {"in-measures-1-name": "most", "in-measures-1-0": "sum", "in-measures-1-1": "total"}
    assert written({"measures": kept}, **new)[1] == {
        "measures": {**kept, "most": {"function": "sum", "column": "total"}}
    }
    assert written({"measures": kept}, **{"in-measures-0-name": ""})[1] is None, "taken away"
    assert written({"measures": kept}, **{"in-measures-0-name": "n"})[1] == {
        "measures": {"n": kept["m"]}
    }
    assert written({}, **{"in-map-0-name": "x", "in-map-0-0": "${{ before.outputs.value }}"})[
        1
    ] == {"map": {"x": "${{ before.outputs.value }}"}}


@pytest.mark.parametrize(("values", "name", "said"), [
    ({"in-measures-1-1": "total"}, "in-measures-1-1", "Enter a name"), ({"in-measures-1-name": "m", "in-measures-1-0": "sum"}, "in-measures-1-name", "already"),
    ({"in-measures-1-name": "x"}, "in-measures-1-name", "Choose the function"),
    ({"in-measures-1-name": "x", "in-measures-1-0": "no"}, "in-measures-1-0", "valid"),
])  # fmt: skip
def test_a_row_that_is_not_whole_is_told_so(values, name, said):
    form, _ = written({"measures": {"m": {"function": "count", "column": ""}}}, **values)
    assert said in form.errors[name][0]
