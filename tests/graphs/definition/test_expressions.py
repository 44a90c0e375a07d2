"""Expressions over any data: a value, or EvaluationFailed, and never another error."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.definition.expressions import EvaluationFailed, compiled

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
