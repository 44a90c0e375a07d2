"""The pure parts of drawing: editing, merging, what is offered, pictures of what can't run, Mermaid."""

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
GIVES = {
    **TABLE,
    "type": "object",
    "properties": {"table": {"$ref": "#/$defs/Table"}, "rows": {"type": "integer"}},
}
TAKES = {
    **TABLE,
    "type": "object",
    "properties": {"table": {"$ref": "#/$defs/Table"}, "where": {"type": "string"}},
    "required": ["table", "where"],
}
PACKS = {
    **TABLE,
    "type": "object",
    "properties": {
        "files": {
            "type": "array",
            "items": {"anyOf": [{"$ref": "#/$defs/Table"}, {"type": "null"}]},
        }
    },
}


ODD = [
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
    return {"id": name, "kind": "noop", **({"data": {"inputs": inputs}} if inputs else {})}


def edge(start, end, **more):
    return {"from": start, "to": end, **more}


@st.composite
def definitions(draw):
    ids = draw(st.lists(st.sampled_from(IDS), unique=True))
    values = st.sampled_from([1, "x", "${{ a.outputs.value }}", None])
    nodes = [
        node(each, **draw(st.dictionaries(st.sampled_from(["p", "q"]), values)))
        | draw(st.sampled_from(ODD))
        for each in ids
    ]
    pairs = st.tuples(st.sampled_from(ids), st.sampled_from(ids)).filter(
        lambda pair: pair[0] != pair[1]
    )
    edges = (
        [edge(*pair) for pair in draw(st.lists(pairs, unique=True, max_size=6))]
        if len(ids) > 1
        else []
    )
    return {
        "nodes": nodes,
        "edges": edges,
        **draw(
            st.sampled_from(
                [{}, {"settings": {"max_steps": 3}}, {"settings": None}, {"metadata": {}}]
            )
        ),
    }


def same(one, other):
    return merge.pieces(one) == merge.pieces(other)


@given(definitions(), definitions(), definitions())
@settings(deadline=None)
def test_merging_keeps_the_laws_of_merging(base, mine, theirs):
    assert merge.same(merge.assembled(merge.pieces(base)), base), "taken apart and put together"
    merged, conflicts = merge.merge(base, mine, base)
    assert not conflicts
    assert same(merged, mine), "only I changed it"
    merged, conflicts = merge.merge(base, base, theirs)
    assert not conflicts
    assert same(merged, theirs), "only they changed it"
    merged, conflicts = merge.merge(base, mine, mine)
    assert not conflicts, "both did the same"
    one, found = merge.merge(base, mine, theirs)
    other, also = merge.merge(base, theirs, mine)
    assert {conflict.place for conflict in found} == {conflict.place for conflict in also}
    assert found or same(one, other), "without a conflict it doesn't matter who came first"
    assert not validation.shape_problems(one)


def test_one_deletes_what_the_other_changes():
    base = {"nodes": [node("a", p=1), node("b")], "edges": [edge("a", "b")]}
    mine, theirs = (
        edits.delete(base, "a").definition,
        {**base, "nodes": [node("a", p=2), node("b")]},
    )
    kept, conflicts = merge.merge(base, mine, theirs)
    assert [conflict.where for conflict in conflicts] == ["a"]
    assert [each["id"] for each in kept["nodes"]] == ["b", "a"] or [
        each["id"] for each in kept["nodes"]
    ] == ["a", "b"]
    assert next(each for each in kept["nodes"] if each["id"] == "a")["data"]["inputs"] == {
        "p": 2
    }, "theirs is whole"
    gone, _ = merge.merge(base, mine, theirs, prefer_mine=True)
    assert [each["id"] for each in gone["nodes"]] == ["b"]


def test_renaming_takes_all_that_refers_to_it_along():
    uniting = {
        **node("c", text="of ${{ a.outputs.value }} and ${{ ab.outputs.x }}"),
        "data": {"inputs": {"list": ["${{ a.outputs.x.y }}"]}, "unites": {"identifier": "a"}},
    }
    was = {
        "nodes": [
            node("a"),
            node("ab"),
            node("b", t="of ${{a.outputs.v}}, ${{ ab.outputs.a }}, ${{ store.a }}"),
            uniting,
        ],
        "edges": [edge("a", "b"), edge("ab", "c")],
    }
    now = edits.change(was, "a", {"id": "first", "kind": "noop"}).definition
    assert now["edges"][0] == edge("first", "b")
    assert (
        now["nodes"][2]["data"]["inputs"]["t"]
        == "of ${{ first.outputs.v }}, ${{ ab.outputs.a }}, ${{ store.a }}"
    )
    assert now["nodes"][3]["data"] == {
        "inputs": {"list": ["${{ first.outputs.x.y }}"]},
        "unites": {"identifier": "first"},
    }
    with pytest.raises(errors.Malformed, match="already"):
        edits.change(was, "a", {"id": "b", "kind": "noop"})


def test_renaming_inputs_of_the_run_takes_references_along_and_nothing_else():
    text = "${{ run.inputs.day }}, ${{run.inputs.day.of}}, ${{ run.inputs.days }}, ${{ day.outputs.day }}, ${{ store.day }}"
    was = {
        "nodes": [
            node(
                "day",
                list=[text, {"deep": "${{ run.inputs.hour }}"}],
                broken="${{ run.inputs.day",
                plain="day",
            ),
            {"id": "b", "kind": "k"},
        ],
        "edges": [],
    }
    now = renames.rename_inputs(was, {"day": "date", "hour": "day"})
    moved = "${{ run.inputs.date }}, ${{ run.inputs.date.of }}, ${{ run.inputs.days }}, ${{ day.outputs.day }}, ${{ store.day }}"
    assert now["nodes"] == [
        node(
            "day",
            list=[moved, {"deep": "${{ run.inputs.day }}"}],
            broken="${{ run.inputs.day",
            plain="day",
        ),
        {"id": "b", "kind": "k"},
    ]


def test_pasting_gives_taken_ids_numbers_and_changes_nothing_that_was_there():
    was = {"nodes": [node("a"), node("a_2")], "edges": []}
    pasted = {
        "nodes": [node("a"), node("x", v="${{ a.outputs.value }}")],
        "edges": [edge("a", "x")],
    }
    now = edits.paste(was, pasted).definition
    assert [each["id"] for each in now["nodes"]] == ["a", "a_2", "a_3", "x"]
    assert now["nodes"][3]["data"]["inputs"] == {"v": "${{ a_3.outputs.value }}"}
    assert now["edges"] == [edge("a_3", "x")]


def test_what_is_refused():
    was = {"nodes": [node("a"), node("b")], "edges": [edge("a", "b")]}
    for change in (
        lambda: edits.connect(was, "a", "b"), lambda: edits.connect(was, "a", "a"), lambda: edits.connect(was, "a", "z"), lambda: edits.delete(was, "z")
    ):  # fmt: skip
        with pytest.raises(errors.Malformed):
            change()


def test_connecting_fills_what_just_one_output_fits():
    kinds = {
        "read": Kind("", {}, GIVES),
        "filter": Kind("", TAKES, GIVES),
        "pack": Kind("", PACKS, {}),
    }
    was = {"nodes": [node("read"), node("filter"), node("pack")], "edges": []}

    def wire(definition, start, end):
        return input_suggestions.wire(definition, start, end, kinds)

    now = edits.connect(was, "read", "filter", wire=wire).definition
    assert now["nodes"][1]["data"]["inputs"] == {"table": "${{ read.outputs.table }}"}
    now = edits.connect(
        edits.connect(now, "filter", "pack", wire=wire).definition, "read", "pack", wire=wire
    ).definition
    assert now["nodes"][2]["data"]["inputs"] == {
        "files": ["${{ filter.outputs.table }}", "${{ read.outputs.table }}"]
    }
    again = edits.connect(
        edits.disconnect(now, "read", "filter").definition, "read", "filter", wire=wire
    ).definition
    assert again["nodes"] == now["nodes"], "what is filled stays"


def test_offers_are_outputs_of_nodes_before_and_inputs_of_the_run():
    kinds = {
        "read": Kind("", {}, GIVES),
        "filter": Kind("", TAKES, GIVES),
        "late": Kind("", {}, GIVES),
        "odd": None,
    }
    was = {
        "nodes": [node("read"), node("filter"), node("late"), node("odd")], "edges": [edge("read", "filter"), edge("filter", "late"), edge("odd", "filter")],
        "inputs": {"properties": {"day": {"type": "string"}}}, "settings": {"store": {"default_values": {"region": "eu"}, "required_keys": ["who"]}},
    }  # fmt: skip
    offered = [offer.reference for offer in input_suggestions.offers(was, "filter", kinds)]
    assert offered == [
        "read.outputs.table",
        "read.outputs.rows",
        "run.inputs.day",
        "store.who",
        "store.region",
    ]
    circle = {**was, "edges": [*was["edges"], edge("late", "read")]}
    assert "late.outputs.table" in [
        offer.reference for offer in input_suggestions.offers(circle, "filter", kinds)
    ]


@given(definitions())
@settings(deadline=None)
def test_whatever_can_be_drawn_is_drawn(definition):
    """Circles, loose ends and references to nothing too."""
    picture = svg.of_definition(definition, "x")
    assert picture.count("<g>") == len(definition["nodes"])
    assert mermaid.mermaid(definition).count("\n") == 1 + len(definition["nodes"]) + len(
        definition["edges"]
    )
    lint.warnings(definition)


def test_nodes_stand_where_they_were_put():
    nodes = [{**node("a"), "position": {"x": -50, "y": 700}}, node("b")]
    placed = layout.place(["a", "b"], [("a", "b")], layout.positions(nodes))
    assert placed.nodes["a"] == (-50, 700)
    x, y, width, height = placed.box
    assert (x, y) == (-50 - layout.MARGIN, 0)
    assert x + width >= placed.nodes["b"][0] + layout.WIDTH
    assert height >= 700 + layout.HEIGHT


def test_mermaid_text_has_no_syntax_in_its_texts():
    nasty = {
        "nodes": [{"id": 'end "x]', "kind": "a<b>", "label": 'click "me" | `x`;#'}, node("b")],
        "edges": [edge('end "x]', "b", data={"when": 'a == "b" && c'})],
    }
    text = mermaid.mermaid(nasty)
    assert 'n0["click #34;me#34; #124; #96;x#96;#59;#35;<br><small>a#60;b#62;</small>"]' in text
    assert 'n0 -->|"a == #34;b#34; #38;#38; c"| n1' in text


def test_warnings():
    found = lint.warnings({
        "nodes": [node("a"), node("b"), node("c")], "edges": [edge("a", "b", data={"when": "true"})],
        "inputs": {"properties": {"day": {}}}, "settings": {"store": {"default_values": {"k": 1}}},
    })  # fmt: skip
    assert [(each.type, each.nodeId) for each in found] == [
        ("not_connected", "c"),
        ("constant_condition", "a"),
        ("unused_input", None),
        ("unused_input", None),
    ]


def test_an_id_that_no_reference_can_name_is_warned_of_where_something_follows():
    ids = ["a.b", "a}}${{", " a", "x y", "<b>", "ünd", "run", "alone.too"]
    definition = {
        "nodes": [node(name) for name in [*ids, "end"]],
        "edges": [edge(name, "end") for name in ids[:-1]],
    }
    assert [each.nodeId for each in lint.warnings(definition) if each.type == "nameless"] == [
        "a.b",
        "a}}${{",
        " a",
    ]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (None, ""), ({}, ""), ({"type": "object"}, ""), ({"properties": {"typo": True}, "additionalProperties": False}, ""),
        ({"properties": {"day": {}}}, "warning"), ({"properties": {"day": {}}, "additionalProperties": {"type": "string"}}, "warning"),
        ({"properties": {"day": {}}, "additionalProperties": False}, "error"), ({"additionalProperties": False}, "error"),
        ({"properties": {"day": {}}, "patternProperties": {"^t": {}}, "additionalProperties": False}, ""),
    ],
)  # fmt: skip
def test_a_reference_to_an_input_that_the_graph_does_not_declare(inputs, expected):
    definition = {
        "nodes": [node("a", text="of ${{ run.inputs.typo.part }}", broken="${{")],
        "edges": [],
        "inputs": inputs,
    }
    wrong = [
        each
        for each in validation.problems(definition, lambda *_: None)
        if each.type == "unknown_reference"
    ]
    warned = [each for each in lint.warnings(definition) if each.type == "undeclared_input"]
    assert [("error", each.path) for each in wrong] + [
        ("warning", each.path) for each in warned
    ] == ([(expected, "/nodes/0/data/inputs/text")] if expected else [])
    assert all("no input 'typo'" in each.message for each in wrong + warned)


def test_undo_and_redo_are_a_stack_and_a_change_forgets_what_was_undone():
    log = [(1, "one", None, False), (2, "two", None, False)]
    assert steps(log) == steps([*log, (3, "Undo: two", 1, False), (4, "Redo: two", 2, True)])
    undone = [*log, (3, "Undo: two", 1, False)]
    assert (steps(undone).undo, steps(undone).redo) == ((0, "one"), (2, "two"))
    assert steps([*undone, (4, "three", None, False)]).redo is None
    assert steps([*undone, (4, "three", None, False)]).undo == (3, "three")
    assert steps([(7, "seven", None, False)]).undo is None, "what was before it is no longer kept"
    assert json.dumps(steps([]).undo) == "null"
