"""Opening a form and saving it without touching a field changes nothing."""

import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from graphs.definition.validation import Kind
from graphs.editor.inspector import NodeForm
from graphs.editor.settings_form import SettingsForm

TABLE = {"type": "object", "title": "Table", "properties": {"file": {"type": "string"}}}
MEASURE = {
    "type": "object",
    "properties": {
        "function": {"type": "string", "enum": ["count", "sum"]},
        "column": {"type": "string"},
    },
    "required": ["function", "column"],
}
SCHEMA = {
    "type": "object",
    "$defs": {"Table": TABLE, "Measure": MEASURE},
    "properties": {
        "text": {"type": "string"},
        "message": {"type": "string", "maxLength": 10},
        "count": {"type": "integer", "minimum": 3, "maximum": 5, "default": 4},
        "share": {"type": "number"},
        "on": {"type": "boolean", "default": True},
        "word": {"enum": ["a", "b", 1, None], "default": "a"},
        "table": {"$ref": "#/$defs/Table"},
        "items": {"type": "array", "items": {"$ref": "#/$defs/Table"}},
        "any": {},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "names": {"type": "array", "items": {"type": "string"}},
        "measures": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Measure"}},
        "two": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    },
    "required": ["text", "table"],
}
VALUES = [
    None, "", " ", " x ", "0", "1", "true", "null", "[1]", '{"a": 1}', '"quoted"',
    "a\nb", "a\r\nb",
    "${{ before.outputs.value }}", "${{before.outputs.value}}",
    "x ${{ before.outputs.value }} y", "${{ nowhere.outputs.x }}", "${{ broken",
    0, 1, 4, -1, 2.5, 1e300, 12345678901234567890, True, False,
    [], [None], ["${{ before.outputs.value }}"], ["a", "", " b "], ["a\nb"],
    {"m": {"function": "count", "column": ""}},
    {" m ": {"function": "sum", "column": "x"}},
    {"m": {"function": "other", "column": ""}},
    {"": "x"}, {}, {"a": None}, {"a": "${{ run.inputs.day }}"},
    "a", "b", "é•💥", "<b>&amp;",
]  # fmt: skip
NUMBER = re.compile(r"-?\d*\.?\d+([eE][+-]?\d+)?")


class BrowserForm(HTMLParser):
    """Parses a form and collects the values that a browser would submit for its fields."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self._textarea = self._select = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        name = attributes.get("name")
        if tag == "input" and attributes.get("type") in ("checkbox", "radio"):
            if "checked" in attributes:
                self.values[name] = attributes.get("value", "on")
        elif tag == "input":
            self.values[name] = self._input_value(attributes)
        elif tag == "textarea":
            self._textarea = name
            self.values[name] = ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and ("selected" in attributes or self._select not in self.values):
            self.values[self._select] = attributes.get("value") or ""

    @staticmethod
    def _input_value(attributes):
        """The HTML standard strips newlines, and empties a number field without a number."""
        text = (attributes.get("value") or "").replace("\r", "").replace("\n", "")
        if attributes.get("type") == "number" and not NUMBER.fullmatch(text):
            return ""
        return text

    def handle_data(self, data):
        if self._textarea:
            self.values[self._textarea] += data

    def handle_endtag(self, tag):
        """The HTML standard drops the first newline of a textarea and sends the others as CRLF."""
        if tag != "textarea":
            return
        text = self.values[self._textarea].replace("\r\n", "\n").removeprefix("\n")
        self.values[self._textarea] = text.replace("\n", "\r\n")
        self._textarea = ""


def submitted(form):
    """The values that a browser submits for the form as it is shown."""
    return BrowserForm("".join(str(form[name]) for name in form.fields)).values


def graph_with(node):
    """A graph in which `node`, whose id is "it", follows the node "before"."""
    return {
        "nodes": [{"id": "before", "kind": "noop"}, node],
        "edges": [{"from": "before", "to": "it"}],
        "inputs": {"properties": {"day": {"type": "string"}}},
    }


KINDS = {
    "before": Kind("", {}, {"properties": {"value": {}, "table": {"type": "object"}}}),
    "it": Kind("", SCHEMA, {}),
}


def opened_and_saved(node, kinds=KINDS):
    """The node after its form was opened and saved without a change."""
    definition = graph_with(node)
    form = NodeForm(definition, "it", kinds, submitted(NodeForm(definition, "it", kinds)))
    assert form.is_valid(), form.errors
    return form.node()


@pytest.mark.parametrize("name", [*SCHEMA["properties"], "unknown"])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: json.dumps(value)[:40])
def test_an_untouched_input_does_not_change(name, value):
    node = {"id": "it", "kind": "k", "data": {"inputs": {name: value}}}
    assert opened_and_saved(node) == node


FIXED_RETRY = {"strategy": "FIXED", "backoff_factor": 0.5, "exponent": 3, "max_delay": None}


@pytest.mark.parametrize(
    "members",
    [
        {"label": " x "},
        {"namespace": "n"},
        {"extra": [1]},
        {"position": {"x": 0, "y": -3.5}},
        {"position": None},
        {"data": None},
        {"data": {}},
        {"data": {"unites": {"identifier": "before"}}},
        {"data": {"unites": {"identifier": "before", "strategy": "ALL_DONE"}}},
        {"data": {"unites": {"identifier": "gone"}}},
        {"data": {"retry": {"max_retries": 0}}},
        {"data": {"retry": FIXED_RETRY}},
        {"data": {"timeout": 2.5, "lease": 30, "side_effects": True}},
        {"data": {"side_effects": False}},
        {"data": {"other": {"a": 1}}},
        {"data": {"inputs": {}}},
    ],
)
def test_an_untouched_node_does_not_change(members):
    node = {"id": "it", "kind": "k", **members}
    for kinds in (KINDS, {**KINDS, "it": None}):
        assert opened_and_saved(node, kinds) == node


ALL_SETTINGS = {
    "max_steps": 3,
    "rerun_on_failure": {"times": 1},
    "retry": {"max_retries": 2},
    "lease": 5,
    "indexed_inputs": ["customer.id", 'a["b c"]'],
    "store": {"required_keys": ["k"], "default_values": {"a": 0, "b": ""}},
}


def inputs_schema(properties, **members):
    return {"inputs": {"type": "object", "properties": properties, **members}}


SETTINGS = [
    {},
    {"settings": None},
    {"settings": {}},
    {"inputs": None},
    {"inputs": {}},
    {"inputs": {"type": "object"}},
    {"inputs": {"type": "object", "properties": {}}},
    {"settings": {"failure_policy": "continue"}},
    {"settings": {"failure_policy": "stop", "max_failures": 0}},
    {"settings": {"max_failures": "10%"}},
    {"settings": {"max_failures": None}},
    {"settings": {"indexed_inputs": []}},
    {"settings": {"indexed_inputs": ["not a path", "twice", "twice"]}},
    {"settings": ALL_SETTINGS},
    {"settings": {"store": {"default_values": {}}}},
    {"settings": {"store": {}}},
    {"metadata": {"x": None}, "other": 1},
    inputs_schema(
        {
            "a": {"type": "string", "title": "A", "default": ""},
            "b": {"type": "integer", "default": 0},
            "c": {"default": None},
        },
        required=["b"],
    ),
    inputs_schema(
        {
            "a": {"type": "boolean", "default": False},
            "b": {"type": "array", "default": []},
            "c": {"type": "string", "default": "1"},
        }
    ),
    inputs_schema({"a": {"type": ["string", "null"]}, "b": True}, required=["z"]),
    inputs_schema(
        {"a b": {"type": "string"}, "c": {"enum": [1], "description": "x"}},
        additionalProperties=False,
    ),
]


@pytest.mark.parametrize("members", SETTINGS, ids=lambda members: json.dumps(members)[:60])
def test_untouched_settings_do_not_change(members):
    definition = {"nodes": [], "edges": [], **members}
    form = SettingsForm(definition, submitted(SettingsForm(definition)))
    assert form.is_valid(), form.errors
    assert form.definition() == definition


@pytest.mark.parametrize(
    ("typed", "paths"),
    [
        ("customer.id", ["customer.id"]),
        (' customer.id \r\n\r\n["a b"]\r\n', ["customer.id", '["a b"]']),
        ("", None),
    ],
)
def test_indexed_inputs_are_entered_one_a_line(typed, paths):
    definition = {"nodes": [], "edges": [], "settings": {"indexed_inputs": ["old"], "lease": 5}}
    data = {**submitted(SettingsForm(definition)), "indexed_inputs": typed}
    form = SettingsForm(definition, data)
    assert form.is_valid(), form.errors
    settings = form.definition()["settings"]
    assert settings == ({"lease": 5, "indexed_inputs": paths} if paths else {"lease": 5})


@pytest.mark.parametrize("typed", ["a b", "a..b", "a=1", "x" * 201, "\n".join("abcdefghijk")])
def test_wrong_indexed_inputs_are_refused(typed):
    definition = {"nodes": [], "edges": []}
    data = {**submitted(SettingsForm(definition)), "indexed_inputs": typed}
    assert "indexed_inputs" in SettingsForm(definition, data).errors


def shown_fields(shown):
    """The fields of one input: its value, its reference, and the cells of its rows."""
    return [shown.value, shown.reference, *itertools.chain(*shown.rows)]


def test_the_page_shows_every_field_of_the_form():
    """A field that the page does not show would be submitted empty, and its value lost."""
    form = NodeForm(graph_with({"id": "it", "kind": "k"}), "it", KINDS)
    shown = {"id", "label", "x", "y"} | {field.name for field in form.running_fields}
    for input_field in form.input_fields:
        shown |= {field.name for field in shown_fields(input_field) if field}
    assert shown == set(form.fields)


def filled_in(inputs, **values):
    """The form of a node with these inputs after `values` were typed into it."""
    definition = graph_with({"id": "it", "kind": "k", "data": {"inputs": inputs}})
    untouched = submitted(NodeForm(definition, "it", KINDS))
    return NodeForm(definition, "it", KINDS, {**untouched, **values})


def saved_inputs(inputs, **values):
    """The node's inputs after saving `filled_in`; None if the form has errors."""
    form = filled_in(inputs, **values)
    if not form.is_valid():
        return None
    return (form.node().get("data") or {}).get("inputs")


def test_list_items_can_be_removed_and_added():
    inputs = {"names": ["a", "b"]}
    values = {"in-names-1-0": "", "in-names-2-0": "c", "in-names-3-0": "d"}
    assert saved_inputs(inputs, **values) == {"names": ["a", "c", "d"]}
    form = filled_in(inputs, **values)
    assert [[cell.name for cell in row] for row in form.rows["names"].bound(form)] == [
        [f"in-names-{at}-0"] for at in range(4)
    ]


COUNT = {"function": "count", "column": ""}


def test_a_row_is_added_to_a_table_of_objects():
    new_row = {"in-measures-1-name": "most", "in-measures-1-0": "sum", "in-measures-1-1": "total"}
    assert saved_inputs({"measures": {"m": COUNT}}, **new_row) == {
        "measures": {"m": COUNT, "most": {"function": "sum", "column": "total"}}
    }


def test_clearing_the_name_of_a_row_removes_it():
    form = filled_in({"measures": {"m": COUNT}}, **{"in-measures-0-name": ""})
    assert form.is_valid(), form.errors
    assert "inputs" not in (form.node().get("data") or {})


def test_a_row_is_renamed():
    assert saved_inputs({"measures": {"m": COUNT}}, **{"in-measures-0-name": "n"}) == {
        "measures": {"n": COUNT}
    }


def test_a_cell_of_a_row_may_be_a_reference():
    row = {"in-map-0-name": "x", "in-map-0-0": "${{ before.outputs.value }}"}
    assert saved_inputs({}, **row) == {"map": {"x": "${{ before.outputs.value }}"}}


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"in-measures-1-1": "total"}, "in-measures-1-1", "Enter a name"),
        (
            {"in-measures-1-name": "m", "in-measures-1-0": "sum"},
            "in-measures-1-name",
            "already",
        ),
        ({"in-measures-1-name": "x"}, "in-measures-1-name", "Choose the function"),
        ({"in-measures-1-name": "x", "in-measures-1-0": "no"}, "in-measures-1-0", "valid"),
    ],
)
def test_an_incomplete_row_shows_an_error_beside_its_field(values, field, message):
    form = filled_in({"measures": {"m": {"function": "count", "column": ""}}}, **values)
    assert message in form.errors[field][0]
