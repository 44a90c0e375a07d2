"""What FlowView does to a definition without the database.

The tests cover edits, merging, suggestions for inputs, warnings, pictures and Mermaid text, also of
definitions that cannot run.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.definition import (
    edits,
    errors,
    input_suggestions,
    lint,
    merge,
    renames,
    validation,
)
from graphs.definition.validation import Kind
from graphs.rendering import layout, mermaid, svg
from graphs.services.undo import steps

IDS = ["a", "b", "c", "d"]
TABLE = {
    "$defs": {
        "Table": {
            "type": "object",
            "title": "Table",
            "properties": {"file": {"type": "string"}, "rows": {"type": "integer"}},
        }
    }
}
TABLE_OUTPUTS = {
    **TABLE,
    "type": "object",
    "properties": {"table": {"$ref": "#/$defs/Table"}, "rows": {"type": "integer"}},
}
TABLE_INPUTS = {
    **TABLE,
    "type": "object",
    "properties": {"table": {"$ref": "#/$defs/Table"}, "where": {"type": "string"}},
    "required": ["table", "where"],
}
TABLE_LIST_INPUTS = {
    **TABLE,
    "type": "object",
    "properties": {
        "files": {
            "type": "array",
            "items": {"anyOf": [{"$ref": "#/$defs/Table"}, {"type": "null"}]},
        }
    },
}
# Members that a hand-written node may have; the first two leave it as it is.
NODE_MEMBERS = [
    {},
    {},
    {"data": None},
    {"data": {}},
    {"data": {"inputs": {}}},
    {"data": {"inputs": {}, "timeout": 3}},
    {"inputs": {"not": "ours"}},
    {"position": None},
]


def node(name, **inputs):
    data = {"data": {"inputs": inputs}} if inputs else {}
    return {"id": name, "kind": "noop", **data}


def edge(start, end, **members):
    return {"from": start, "to": end, **members}


def node_ids(definition):
    return [node["id"] for node in definition["nodes"]]


@st.composite
def definitions(draw):
    """Definitions of up to four nodes, which need not be able to run."""
    ids = draw(st.lists(st.sampled_from(IDS), unique=True))
    values = st.sampled_from([1, "x", "${{ a.outputs.value }}", None])
    inputs = st.dictionaries(st.sampled_from(["p", "q"]), values)
    nodes = [node(name, **draw(inputs)) | draw(st.sampled_from(NODE_MEMBERS)) for name in ids]
    edges = []
    if len(ids) > 1:
        pairs = st.tuples(st.sampled_from(ids), st.sampled_from(ids))
        pairs_of_two_nodes = pairs.filter(lambda pair: pair[0] != pair[1])
        pairs_drawn = draw(st.lists(pairs_of_two_nodes, unique=True, max_size=6))
        edges = [edge(*pair) for pair in pairs_drawn]
    members = [{}, {"settings": {"max_steps": 3}}, {"settings": None}, {"metadata": {}}]
    return {"nodes": nodes, "edges": edges, **draw(st.sampled_from(members))}


def same(first, second):
    return merge.pieces(first) == merge.pieces(second)


@given(definitions())
@settings(deadline=None)
def test_a_definition_taken_apart_and_assembled_is_the_same(base):
    assert merge.same(merge.assembled(merge.pieces(base)), base)


@given(definitions(), definitions())
@settings(deadline=None)
def test_merging_with_an_unchanged_side_gives_the_changed_one(base, changed):
    for mine, theirs in ((changed, base), (base, changed)):
        merged, conflicts = merge.merge(base, mine, theirs)
        assert not conflicts
        assert same(merged, changed)


@given(definitions(), definitions())
@settings(deadline=None)
def test_the_same_change_on_both_sides_is_no_conflict(base, changed):
    _, conflicts = merge.merge(base, changed, changed)
    assert not conflicts


@given(definitions(), definitions(), definitions())
@settings(deadline=None)
def test_merging_does_not_depend_on_which_side_came_first(base, mine, theirs):
    first, conflicts = merge.merge(base, mine, theirs)
    second, swapped_conflicts = merge.merge(base, theirs, mine)
    places = {conflict.place for conflict in conflicts}
    assert places == {conflict.place for conflict in swapped_conflicts}
    assert conflicts or same(first, second)
    assert not validation.shape_problems(first)


def test_deleting_a_node_that_the_other_side_changed_is_a_conflict():
    base = {"nodes": [node("a", p=1), node("b")], "edges": [edge("a", "b")]}
    mine = edits.delete(base, "a").definition
    theirs = {**base, "nodes": [node("a", p=2), node("b")]}
    merged, conflicts = merge.merge(base, mine, theirs)
    assert [conflict.where for conflict in conflicts] == ["a"]
    assert sorted(node_ids(merged)) == ["a", "b"]
    changed = edits.node_of(merged, "a")
    assert changed["data"]["inputs"] == {"p": 2}, "their node is complete"
    merged, _ = merge.merge(base, mine, theirs, prefer_mine=True)
    assert node_ids(merged) == ["b"]


def test_renaming_a_node_renames_every_reference_to_it():
    join = {
        **node("c", text="of ${{ a.outputs.value }} and ${{ ab.outputs.x }}"),
        "data": {"inputs": {"list": ["${{ a.outputs.x.y }}"]}, "unites": {"identifier": "a"}},
    }
    before = {
        "nodes": [
            node("a"),
            node("ab"),
            node("b", t="of ${{a.outputs.v}}, ${{ ab.outputs.a }}, ${{ store.a }}"),
            join,
        ],
        "edges": [edge("a", "b"), edge("ab", "c")],
    }
    after = edits.change(before, "a", {"id": "first", "kind": "noop"}).definition
    assert after["edges"][0] == edge("first", "b")
    assert (
        after["nodes"][2]["data"]["inputs"]["t"]
        == "of ${{ first.outputs.v }}, ${{ ab.outputs.a }}, ${{ store.a }}"
    )
    assert after["nodes"][3]["data"] == {
        "inputs": {"list": ["${{ first.outputs.x.y }}"]},
        "unites": {"identifier": "first"},
    }
    with pytest.raises(errors.Malformed, match="already"):
        edits.change(before, "a", {"id": "b", "kind": "noop"})


def test_renaming_inputs_of_the_run_renames_the_references_to_them_and_nothing_else():
    others = "${{ run.inputs.days }}, ${{ day.outputs.day }}, ${{ store.day }}"

    def graph(text, deep):
        inputs = {"list": [text, {"deep": deep}], "broken": "${{ run.inputs.day", "plain": "day"}
        return {"nodes": [node("day", **inputs), {"id": "b", "kind": "k"}], "edges": []}

    before = graph(
        f"${{{{ run.inputs.day }}}}, ${{{{run.inputs.day.of}}}}, {others}",
        "${{ run.inputs.hour }}",
    )
    after = renames.rename_inputs(before, {"day": "date", "hour": "day"})
    expected = graph(
        f"${{{{ run.inputs.date }}}}, ${{{{ run.inputs.date.of }}}}, {others}",
        "${{ run.inputs.day }}",
    )
    assert after["nodes"] == expected["nodes"]


def test_renaming_inputs_of_the_run_renames_the_indexed_ones():
    def graph(*paths):
        return {"nodes": [node("a")], "edges": [], "settings": {"indexed_inputs": [*paths]}}

    before = graph("day.of", "days", 'hour["a b"]', "not a path", "of.day")
    after = renames.rename_inputs(before, {"day": "date", "hour": "ключ"})
    assert after == graph("date.of", "days", '["ключ"]["a b"]', "not a path", "of.day")


def test_pasted_nodes_get_free_ids_and_existing_nodes_do_not_change():
    before = {"nodes": [node("a"), node("a_2")], "edges": []}
    pasted = {
        "nodes": [node("a"), node("x", v="${{ a.outputs.value }}")],
        "edges": [edge("a", "x")],
    }
    after = edits.paste(before, pasted).definition
    assert node_ids(after) == ["a", "a_2", "a_3", "x"]
    assert after["nodes"][3]["data"]["inputs"] == {"v": "${{ a_3.outputs.value }}"}
    assert after["edges"] == [edge("a_3", "x")]


@pytest.mark.parametrize(
    ("edit", "names"),
    [
        (edits.connect, ("a", "b")),
        (edits.connect, ("a", "a")),
        (edits.connect, ("a", "z")),
        (edits.delete, ("z",)),
    ],
    ids=["edge exists", "edge to itself", "edge to no node", "no node to delete"],
)
def test_an_impossible_edit_is_refused(edit, names):
    definition = {"nodes": [node("a"), node("b")], "edges": [edge("a", "b")]}
    with pytest.raises(errors.Malformed):
        edit(definition, *names)


def test_connecting_fills_the_inputs_that_exactly_one_output_fits():
    kinds = {
        "read": Kind("", {}, TABLE_OUTPUTS),
        "filter": Kind("", TABLE_INPUTS, TABLE_OUTPUTS),
        "pack": Kind("", TABLE_LIST_INPUTS, {}),
    }

    def wire(definition, start, end):
        return input_suggestions.wire(definition, start, end, kinds)

    def connect(definition, start, end):
        return edits.connect(definition, start, end, wire=wire).definition

    unconnected = {"nodes": [node("read"), node("filter"), node("pack")], "edges": []}
    connected = connect(unconnected, "read", "filter")
    assert connected["nodes"][1]["data"]["inputs"] == {"table": "${{ read.outputs.table }}"}
    connected = connect(connect(connected, "filter", "pack"), "read", "pack")
    assert connected["nodes"][2]["data"]["inputs"] == {
        "files": ["${{ filter.outputs.table }}", "${{ read.outputs.table }}"]
    }
    disconnected = edits.disconnect(connected, "read", "filter").definition
    reconnected = connect(disconnected, "read", "filter")
    assert reconnected["nodes"] == connected["nodes"], "inputs that are filled do not change"


def test_outputs_of_earlier_nodes_inputs_of_the_run_and_store_keys_are_suggested():
    kinds = {
        "read": Kind("", {}, TABLE_OUTPUTS),
        "filter": Kind("", TABLE_INPUTS, TABLE_OUTPUTS),
        "late": Kind("", {}, TABLE_OUTPUTS),
        "odd": None,
    }
    store = {"default_values": {"region": "eu"}, "required_keys": ["who"]}
    definition = {
        "nodes": [node("read"), node("filter"), node("late"), node("odd")],
        "edges": [edge("read", "filter"), edge("filter", "late"), edge("odd", "filter")],
        "inputs": {"properties": {"day": {"type": "string"}}},
        "settings": {"store": store},
    }
    offers = input_suggestions.offers(definition, "filter", kinds)
    assert [offer.reference for offer in offers] == [
        "read.outputs.table",
        "read.outputs.rows",
        "run.inputs.day",
        "store.who",
        "store.region",
    ]
    cycle = {**definition, "edges": [*definition["edges"], edge("late", "read")]}
    offers = input_suggestions.offers(cycle, "filter", kinds)
    assert "late.outputs.table" in [offer.reference for offer in offers]


@given(definitions())
@settings(deadline=None)
def test_every_definition_can_be_drawn(definition):
    """Cycles, loose edges and references to nothing do not matter."""
    picture = svg.of_definition(definition, "x")
    assert picture.count("<g>") == len(definition["nodes"])
    assert mermaid.mermaid(definition).count("\n") == 1 + len(definition["nodes"]) + len(
        definition["edges"]
    )
    lint.warnings(definition)


def test_a_placed_node_keeps_its_position():
    nodes = [{**node("a"), "position": {"x": -50, "y": 700}}, node("b")]
    placed = layout.place(["a", "b"], [("a", "b")], layout.positions(nodes))
    assert placed.nodes["a"] == (-50, 700)
    x, y, width, height = placed.box
    assert (x, y) == (-50 - layout.MARGIN, 0)
    assert x + width >= placed.nodes["b"][0] + layout.WIDTH
    assert height >= 700 + layout.HEIGHT


def test_labels_and_conditions_are_escaped_in_mermaid_text():
    definition = {
        "nodes": [{"id": 'end "x]', "kind": "a<b>", "label": 'click "me" | `x`;#'}, node("b")],
        "edges": [edge('end "x]', "b", data={"when": 'a == "b" && c'})],
    }
    text = mermaid.mermaid(definition)
    assert 'n0["click #34;me#34; #124; #96;x#96;#59;#35;<br><small>a#60;b#62;</small>"]' in text
    assert 'n0 -->|"a == #34;b#34; #38;#38; c"| n1' in text


def test_loose_nodes_constant_conditions_and_unused_inputs_are_warned_of():
    definition = {
        "nodes": [node("a"), node("b"), node("c")],
        "edges": [edge("a", "b", data={"when": "true"})],
        "inputs": {"properties": {"day": {}}},
        "settings": {"store": {"default_values": {"k": 1}}},
    }
    warnings = lint.warnings(definition)
    assert [(warning.type, warning.nodeId) for warning in warnings] == [
        ("not_connected", "c"),
        ("constant_condition", "a"),
        ("unused_input", None),
        ("unused_input", None),
    ]


def test_an_id_that_no_reference_can_name_is_warned_of_if_a_node_follows():
    ids = ["a.b", "a}}${{", " a", "x y", "<b>", "ünd", "run", "alone.too"]
    definition = {
        "nodes": [node(name) for name in [*ids, "end"]],
        "edges": [edge(name, "end") for name in ids[:-1]],
    }
    nameless = [
        warning.nodeId for warning in lint.warnings(definition) if warning.type == "nameless"
    ]
    assert nameless == ["a.b", "a}}${{", " a"]


OPEN = {"additionalProperties": {"type": "string"}}
CLOSED = {"additionalProperties": False}


@pytest.mark.parametrize(
    ("inputs", "severity"),
    [
        (None, None),
        ({}, None),
        ({"type": "object"}, None),
        ({"properties": {"typo": True}, **CLOSED}, None),
        ({"properties": {"day": {}}}, "warning"),
        ({"properties": {"day": {}}, **OPEN}, "warning"),
        ({"properties": {"day": {}}, **CLOSED}, "error"),
        (CLOSED, "error"),
        ({"properties": {"day": {}}, "patternProperties": {"^t": {}}, **CLOSED}, None),
    ],
)
def test_a_reference_to_an_undeclared_input_is_an_error_only_in_a_closed_schema(inputs, severity):
    definition = {
        "nodes": [node("a", text="of ${{ run.inputs.typo.part }}", broken="${{")],
        "edges": [],
        "inputs": inputs,
    }
    problems = validation.problems(definition, lambda *_: None)
    unknown = [problem for problem in problems if problem.type == "unknown_reference"]
    warnings = lint.warnings(definition)
    undeclared = [warning for warning in warnings if warning.type == "undeclared_input"]

    severities = [("error", problem.path) for problem in unknown]
    severities += [("warning", warning.path) for warning in undeclared]
    assert severities == ([(severity, "/nodes/0/data/inputs/text")] if severity else [])
    assert all("no input 'typo'" in report.message for report in unknown + undeclared)


CHANGES = [(1, "one", None, False), (2, "two", None, False)]
UNDONE = [*CHANGES, (3, "Undo: two", 1, False)]


def test_the_last_change_is_undone_and_redone():
    assert (steps(UNDONE).undo, steps(UNDONE).redo) == ((0, "one"), (2, "two"))
    assert steps(CHANGES) == steps([*UNDONE, (4, "Redo: two", 2, True)])


def test_a_new_change_ends_the_chance_to_redo():
    changed = steps([*UNDONE, (4, "three", None, False)])
    assert changed.redo is None
    assert changed.undo == (3, "three")


def test_a_change_cannot_be_undone_if_the_revision_before_it_was_deleted():
    assert steps([(7, "seven", None, False)]).undo is None


def test_without_changes_there_is_nothing_to_undo():
    assert json.dumps(steps([]).undo) == "null"
