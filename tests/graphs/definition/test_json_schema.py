"""The budget of tenants' JSON Schemas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.definition import json_schema, schema_weight
from graphs.definition.json_schema import SchemaValidator, trusted_validator


def chain(length, step):
    """Definitions a0 to a<length>, each of which refers to the next one as `step` says."""
    definitions = {f"a{at}": step({"$ref": f"#/$defs/a{at + 1}"}) for at in range(length)}
    return {"$defs": {**definitions, f"a{length}": {"type": "object"}}, "$ref": "#/$defs/a0"}


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"x": value}
    return value


def unevaluated(levels, keyword, rest):
    """A schema in which each level looks once more at what the levels below have evaluated."""
    schema = {"properties": {"a": True}}
    for _ in range(levels):
        schema = {keyword: [schema], rest: False}
    return schema


TWICE = {
    "allOf": lambda ref: {"allOf": [ref, ref]},
    "anyOf and if": lambda ref: {"anyOf": [ref], "if": ref},
    "not": lambda ref: {"not": ref, "oneOf": [ref]},
    "beside": lambda ref: {**ref, "dependentSchemas": {"a": ref}},
}


@pytest.mark.parametrize("step", TWICE.values(), ids=TWICE)
def test_definitions_that_name_each_other_twice_are_refused(step):
    with pytest.raises(ValueError, match="10,000 evaluations"):
        SchemaValidator(chain(26, step))
    assert not list(SchemaValidator(chain(8, step)).iter_errors({})) or step is TWICE["not"]


def test_a_definition_that_names_itself_twice_is_refused_for_deep_values_only():
    twice = {"properties": {"x": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}, "type": "object"}
    validator = SchemaValidator(twice)
    assert not list(validator.iter_errors(nested(6)))
    [problem] = validator.iter_errors(nested(40))
    assert "too many evaluations" in problem.message
    members = {"properties": {"x": {"$ref": "#"}}, "additionalProperties": {"$ref": "#"}}
    assert not list(SchemaValidator(members).iter_errors(nested(3)))
    [problem] = SchemaValidator(members).iter_errors(nested(60))
    assert "too many evaluations" in problem.message


def test_ordinary_recursion_costs_nothing():
    tree = {
        "$defs": {
            "node": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                    "right": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                    "others": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
            }
        },
        "$ref": "#/$defs/node",
    }
    value = {"name": "leaf"}
    for at in range(150):
        value = {"name": str(at), "left": value, "right": None, "others": [{"name": "other"}] * 9}
    validator = SchemaValidator(tree)
    assert not list(validator.iter_errors(value))
    value["left"]["left"].pop("name")
    assert [list(problem.instance_path) for problem in validator.iter_errors(value)] == [["left"]]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "#"}, "without going into the value"),
        ({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, "without"),
        ({"properties": {f"p{at}": {} for at in range(10_001)}}, "10,000 subschemas"),
        ({"properties": {"x": {"pattern": "[ab]{20001}"}}}, "positions"),
        (unevaluated(12, "anyOf", "unevaluatedProperties"), "unevaluated members ask for more"),
        (unevaluated(12, "oneOf", "unevaluatedItems"), "unevaluated members ask for more"),
        ({"$ref": "https://example.org/schema"}, "may not refer to"),
        ({"type": "nothing"}, "nothing"),
    ],
)
def test_schemas_are_refused_with_the_reason(schema, message):
    with pytest.raises(ValueError, match=message):
        SchemaValidator(schema)


def test_references_by_anchor_and_escaped_pointer_are_weighed(monkeypatch):
    monkeypatch.setattr(schema_weight, "MAX_EVALUATIONS", 20)
    heavy = {"allOf": [{"type": "object"}] * 15}
    for schema in (
        {"$defs": {"a": {"$anchor": "big", **heavy}}, "allOf": [{"$ref": "#big"}] * 2},
        {"$defs": {"a/b c~": heavy}, "allOf": [{"$ref": "#/$defs/a~1b%20c~0"}] * 2},
    ):
        with pytest.raises(ValueError, match="20 evaluations"):
            SchemaValidator(schema)


HIDDEN = {
    "in a place without a keyword": lambda parts: {"x": parts, "$ref": "#/x/a0"},
    "in an example": lambda parts: {"examples": [parts], "$ref": "#/examples/0/a0"},
    "by the address of the schema": lambda parts: {
        "$id": "https://example.org/root",
        "$defs": parts,
        "$ref": "root#/$defs/a0",
    },
}


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_what_references_lead_to_is_weighed_wherever_it_is(hidden):
    schema = hidden({"a0": True})
    at = schema["$ref"].removesuffix("a0")
    parts = {f"a{step}": {"allOf": [{"$ref": f"{at}a{step + 1}"}] * 2} for step in range(26)}
    with pytest.raises(ValueError, match="10,000 evaluations"):
        SchemaValidator(hidden({**parts, "a26": {}}))
    assert not list(SchemaValidator(schema).iter_errors(1))


def test_addresses_within_a_schema_are_refused_beside_references():
    parts = {
        f"a{at}": {"$id": f"https://example.org/a{at}", "allOf": [{"$ref": f"a{at + 1}"}] * 2}
        for at in range(26)
    }
    with pytest.raises(ValueError, match="at its root only"):
        SchemaValidator({"$defs": parts, "$ref": "https://example.org/a0"})
    with pytest.raises(ValueError, match="the anchor 'b'"):
        SchemaValidator({"$defs": {"x": {"$anchor": "b"}, "y": {"$anchor": "b"}}, "$ref": "#b"})


LARGE = {
    "subschemas": ({"items": {"allOf": [{"type": "integer"}] * 100}}, [1] * 50_000),
    "an enum": ({"items": {"enum": [{"a": at} for at in range(5_000)]}}, [0] * 50_000),
    "a const": ({"items": {"const": list(range(20_000))}}, [[1]] * 50_000),
    "names": ({"items": {"required": [f"a{at}" for at in range(5_000)]}}, [{}] * 50_000),
    "patterns": ({"patternProperties": {f"^a{at}": {} for at in range(400)}}, {}),
    "a long text": ({"allOf": [{"pattern": f"(x+x+)+{at}"} for at in range(400)]}, "x" * 10**6),
    "fractions": ({"items": {"multipleOf": 1e-300}}, [1e300] * 100_000),
}


@pytest.mark.parametrize(("schema", "value"), LARGE.values(), ids=LARGE)
def test_a_value_that_is_too_large_for_what_its_schema_compares_is_refused(schema, value):
    value = value or {f"b{at}": 1 for at in range(50_000)}
    validator = SchemaValidator(schema)
    [problem] = validator.iter_errors(value)
    assert "more than 5,000,000" in problem.message
    few = value[:1] if isinstance(value, list | str) else {}
    assert all("5,000,000" not in problem.message for problem in validator.iter_errors(few))


@pytest.mark.parametrize("pattern", [r"^(a|a|b?a)*\1$", "^(?=a)b", r"\w{1000}{1000}"])
def test_patterns_that_take_exponential_time_or_much_memory_are_refused(pattern):
    with pytest.raises(ValueError, match=r"regex|pattern"):
        SchemaValidator({"anyOf": [{"pattern": pattern}, {}]})
    with pytest.raises(ValueError, match="500 patterns"):
        SchemaValidator({"allOf": [{"pattern": "a"}] * 501})


def test_the_problems_of_a_value_are_few_and_short():
    every = SchemaValidator({"items": {"type": "string"}})
    assert len(list(every.iter_errors([1] * 1_000))) == json_schema.MAX_PROBLEMS
    schema = {"allOf": [{"type": "integer"}] * 5_000}
    [problem] = SchemaValidator(schema).iter_errors("x" * 10_000)
    assert len(problem.message) == json_schema.MAX_MESSAGE


def test_unevaluated_members_of_a_few_levels_are_fine():
    validator = SchemaValidator(unevaluated(6, "anyOf", "unevaluatedProperties"))
    assert not list(validator.iter_errors({"a": 1}))
    assert list(validator.iter_errors({"b": 1}))


@pytest.mark.parametrize(
    ("pattern", "characters", "is_refused"),
    [
        ("[ab]*a[ab]{2000}c", 200_000, True),
        ("[ab]{2000}c", 200_000, True),
        ("^a|[ab]{2000}c", 200_000, True),
        ("^[a-z0-9-]{1,63}$", 2_000_000, False),
        (r"^\d{4}-\d{2}-\d{2}$", 2_000_000, False),
        ("^[^@]+@[^@]+$", 2_000_000, False),
        ("[ab]*a[ab]{2000}c", 1_000, False),
    ],
)
def test_a_pattern_costs_what_it_may_have_to_read(pattern, characters, is_refused):
    validator = SchemaValidator({"pattern": pattern})
    problems = [problem.message for problem in validator.iter_errors("z" * characters)]
    assert ("too many evaluations" in problems[0]) == is_refused


def test_short_texts_may_be_many():
    pattern = r"^([0-9a-f]{8}-[0-9a-f]{4}|[A-Z]{2}[0-9]{10,40})$"
    rows = [{"id": "0123abcd-0123", "mail": "ann@example.org"}] * 60_000
    members = {"id": {"pattern": pattern}, "mail": {"pattern": r"^[^@\s]+@[^@\s]+\.[a-z]+$"}}
    validator = SchemaValidator({"items": {"properties": members}})
    assert not list(validator.iter_errors(rows))


def test_the_place_of_a_problem_is_short():
    schema = {"additionalProperties": {"items": {"type": "integer"}}}
    problems = list(SchemaValidator(schema).iter_errors({"K" * 500_000: ["x"] * 100}))
    assert {len(problem.instance_path[0]) for problem in problems} == {json_schema.MAX_PLACE}
    deep = {"items": {"$ref": "#"}, "type": "array"}
    value = "x"
    for _ in range(120):
        value = [value]
    [problem] = SchemaValidator(deep).iter_errors(value)
    assert len(problem.instance_path) == json_schema.MAX_PLACES


VALUES = st.recursive(
    st.none() | st.integers(0, 2),
    lambda part: st.dictionaries(st.sampled_from("xy"), part),
    max_leaves=6,
)
SCHEMAS = st.recursive(
    st.sampled_from([{}, {"type": "integer"}, {"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]),
    lambda part: st.one_of(
        st.lists(part, min_size=1, max_size=2).map(lambda parts: {"anyOf": parts}),
        st.dictionaries(st.sampled_from("xy"), part).map(lambda parts: {"properties": parts}),
        part.map(lambda one: {"not": one}),
    ),
    max_leaves=6,
)


@given(a=SCHEMAS, b=SCHEMAS, value=VALUES)
def test_a_schema_within_the_budget_judges_as_the_library_does(a, b, value):
    schema = {"$defs": {"a": {"properties": {"x": a}}, "b": {"items": b}}, "allOf": [a]}
    validator = SchemaValidator(schema)
    judged = [(list(p.instance_path), p.message) for p in validator.iter_errors(value)]
    expected = trusted_validator(schema).iter_errors(value)
    assert judged == [(list(p.instance_path), p.message) for p in expected]
