"""Expressions over any data: a value, or EvaluationFailed, and never another error."""

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.definition.expressions import BadExpression, EvaluationFailed, compiled, stored

EXPRESSIONS = (
    "outputs.body.rows[0] == 1",
    "outputs[0] == 1",
    "outputs['a'] == 1",
    "outputs.a.b[1] == 2",
    "outputs.size() > 0",
    "outputs > 1",
    "outputs.map(x, x.a)[0] == 1",
    "outputs.filter(x, x > 1)[5] == 1",
    "outputs.exists_one(x, x == x[0])",
    "int(outputs) == 1",
    "double(outputs)[0] == 1.0",
    "string(outputs) == 'x'",
    "outputs.matches('a+')",
    "outputs / 0 == 1",
    "outputs % 0 == 1",
    "-outputs == 1",
    "!outputs",
    "outputs in outputs",
    "outputs ? true : false",
    "9223372036854775807 + outputs > 0",
    "timestamp(outputs) > timestamp('2020-01-01T00:00:00Z')",
    "duration(outputs) == duration('1s')",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda items: (
        st.lists(items, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "body", "rows"]), items, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(text=st.sampled_from(EXPRESSIONS), value=JSON)
def test_an_expression_has_a_value_or_fails_with_its_own_error(text, value):
    try:
        assert compiled(text).is_true(outputs=value) in (True, False)
    except EvaluationFailed as error:
        assert text in str(error)


def test_an_index_beyond_the_end_is_a_failed_evaluation():
    with pytest.raises(EvaluationFailed, match="rows"):
        compiled("outputs.body.rows[0] == 1").is_true(outputs={"body": {"rows": []}})


# --- the work of an evaluation -------------------------------------------------------------------

NUMBERS = list(range(2000))
TEXT = "a" * 300_000
ROWS = [{"id": i, "state": "ok" if i % 50 else "failed", "tags": ["x", "y"]} for i in range(1000)]
DATA = {"numbers": NUMBERS, "text": TEXT, "rows": ROWS, "more": list(range(100_000))}
SECONDS = 15  # of a processor; the budget is about two, on a slow machine under test a few more


@pytest.mark.parametrize(
    "text",
    [
        "d.numbers.all(x, d.numbers.all(y, d.numbers.all(z, z >= 0)))",
        "d.numbers .map (x, d.numbers . map\n(y, d.numbers.map (z, z)))",
        "d.more.map(x, x)",  # the engine copies what it has for each item
        "d.more.filter(x, true)",
        "d.more.map(x, true, x)",
        "d.numbers.all(x, d.more.filter(y, true).size() > 0 || true)",  # || swallows errors
        "d.numbers.all(x, d.more.size() > 0)",  # a dot copies
        "d.numbers.map(x, d.text)",
        "d.numbers.map(x, d.text + d.text)",
        "+".join(["d.text"] * 60),
        "[d.more, d.more, d.more].map(x, [x, x, x, x]).map(x, [x, x, x, x]).map(x, [x, x, x])",
        "d.numbers.all(x, [d.more, d.more][0][0] == 0)",
        "d.text.matches('(a|b)*a(a|b){3000}')",
        "d.numbers.all(x, 'z'.matches('(\\\\w{3}){30}') == false)",
        "d.numbers.all(x, d.text.matches(d.text))",
        "&&".join(["d.more == d.more"] * 100),
    ],
)
def test_what_would_take_too_long_is_a_failed_evaluation(text):
    began = time.thread_time()
    with pytest.raises(EvaluationFailed, match=r"steps with so much data|value of more than"):
        compiled(text).evaluate(d=DATA)
    assert time.thread_time() - began < SECONDS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("d.more.all(x, x >= 0)", True),
        ("d.more.filter(x, x < 3)", [0, 1, 2]),
        ("d.more.map(x, x < 3, x * 2)", [0, 2, 4]),
        ("d.rows.filter(r, r.state == 'failed').size()", 20),
        ("d.rows.map(r, r.id)[999]", 999),
        ("d.rows.filter(r, r.tags.exists(t, t == 'z'))", []),
        ("d.rows.filter(r, r.tags.filter(t, t == 'x').size() == 0).size()", 0),
        ("d.rows.all(r, d.rows[7].tags.exists(x, x == r.tags[0]))", True),
        ("[1, 2].map(x, [x, x + 1]).map(y, y[1]).filter(z, z > 2 ? true : false)", [3]),
        ("d.rows[7].tags + ['z']", ["x", "y", "z"]),
        ("d.rows.all(r, string(r.id).matches('^[0-9]{1,3}$'))", True),
        ("{'a': 1, 'b': 2}.filter(k, k == 'b' || false)", ["b"]),
        ("d.text.matches('b') ? 1 : 2", 2),
    ],
)
def test_ordinary_work_over_much_data_is_done(text, value):
    assert compiled(text).evaluate(d=DATA) == value


def test_loops_inside_each_other_are_refused_however_they_are_written():
    loops = "d.map (a, d.map\n(b, d . map(c, d.map(e, 1))))"
    with pytest.raises(BadExpression, match="nested 3 deep"):
        compiled(loops)
    compiled(".".join(["d", *(f"map({name}, {name})" for name in "abcefg")]))


def test_an_expression_that_was_stored_before_its_limits_fails_when_it_is_evaluated():
    assert stored("d == 1").is_true(d=1)
    with pytest.raises(EvaluationFailed, match="nested too deeply"):
        stored("(" * 100 + "d" + ")" * 100).is_true(d=True)


NAMES = st.sampled_from(["d", "x", "d.a", "d.b", "x.a", "d.rows", "x[0]", "d['a']"])
CONSTANTS = st.sampled_from(["1", "-1", "true", "'a'", "1.5", "null", "[1, 2]", "{'a': [1]}", "2u"])
TREES = st.recursive(
    NAMES | CONSTANTS,
    lambda part: st.one_of(
        st.tuples(
            part, st.sampled_from(["+", "==", "<", "&&", "||", "in", "-", "*", "/"]), part
        ).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.tuples(
            part,
            st.sampled_from(["map", "filter", "all", "exists", "exists_one"]),
            st.sampled_from("xyz"),
            part,
        ).map(lambda p: f"{p[0]}.{p[1]} ({p[2]}, {p[3]})"),
        st.tuples(part, part).map(lambda p: f"{p[0]}.map(x, {p[1]}, [x, x, d])"),
        st.tuples(part, part, part).map(lambda p: f"({p[0]} ? {p[1]} : {p[2]})"),
        st.tuples(part, part).map(lambda p: f"[{p[0]}, {p[1]}, {p[0]}]"),
        st.tuples(part, st.sampled_from(["size", "string", "int", "type", "what"])).map(
            lambda p: f"{p[1]}({p[0]})"
        ),
        st.tuples(part, part).map(lambda p: f"{p[0]}.matches({p[1]})"),
    ),
    max_leaves=12,
)
LARGE = st.sampled_from(
    [NUMBERS, ROWS, {"a": NUMBERS, "b": ROWS}, {"a": TEXT, "rows": ROWS}, "(a|b)*" * 2000, [TEXT]]
)


@settings(max_examples=400, deadline=None)
@given(text=TREES, value=JSON | LARGE)
def test_no_expression_hangs_or_raises_anything_else(text, value):
    began = time.thread_time()
    with contextlib.suppress(BadExpression, EvaluationFailed):
        compiled(text).evaluate(d=value)
    assert time.thread_time() - began < SECONDS


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet="ax.()[]{}?:+-!&|'\"\\, \n0=<mapfilter/", max_size=60) | st.text())
def test_any_text_is_an_expression_or_not(text):
    try:
        compiled(text)
    except BadExpression as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("row.a > 1 && row . b == ''", {"a", "b"}),
        ("has(row.a)", {"a"}),
        ("[1].map(x, x + row.a)", {"a"}),
        ("other.row.a", {"a"}),
        ("rows.a + arrow.b", set()),
        ('row["a"]', None),
        ("row.size() > 1", None),
        ("row.a > 1 && 'b' in row", None),
        ("row.map(k, k)", None),
        ("row", None),
    ],
)
def test_the_members_that_an_expression_can_read(text, members):
    found = compiled(text).members_of("row")
    assert found is None if members is None else found == members


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size(x)", 3),
        ("x.size() + size(x)", 6),
        ("size('size(') + size(x)", 8),
        ("[x, 'é😀'].map(t, size(t))", [3, 2]),
        ("[x, ''].filter(t, size(t) > 0).size()", 1),
        ("size([1]) + size({'a': 1}) + size(b'é')", 4),
        ("size.size()", 2),
        ("size", [1, 2]),
    ],
)
def test_the_size_of_a_text_is_its_number_of_characters(text, expected):
    assert compiled(text).evaluate(x="日本語", size=[1, 2]) == expected


def test_the_size_of_a_number_is_an_error():
    with pytest.raises(EvaluationFailed, match="takes a text"):
        compiled("size(x) > 0").evaluate(x=1)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**30])
def test_integers_that_would_lose_digits_are_refused(value):
    assert compiled("x.n == 5").evaluate(x={"n": 5, "hash": value}, other=value) is True
    for variables in ({"x": value}, {"x": {"deep": [{"y": value}]}}):
        with pytest.raises(EvaluationFailed, match="at most 64 bits"):
            compiled("x == x").evaluate_with(variables)


@pytest.mark.parametrize("value", [2**64 - 1, 2**63, -(2**63), 2**53 + 1])
def test_integers_of_64_bits_keep_their_digits(value):
    assert compiled("x").evaluate(x=value) == value


def test_map_keys_that_are_one_in_json_are_refused():
    with pytest.raises(EvaluationFailed, match="two keys"):
        compiled('[{1: "a", "1": "b"}]').evaluate()
    assert compiled('{"1": "a", "2": {"x": 1}}').evaluate() == {"1": "a", "2": {"x": 1}}
