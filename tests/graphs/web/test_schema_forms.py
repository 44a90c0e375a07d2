"""Forms made from schemas: what nobody touched stays, and what was typed is what is stored."""

import pytest

from graphs.web.schema_forms import SchemaForm

ANY = {"any": {}, "text": {"type": "string"}, "number": {"type": "number"}}
ALL = {"properties": {**ANY, "whole": {"type": "integer"}, "yes": {"type": "boolean"}}}
ORIGINAL = {
    "any": "[1]",
    "text": "line 1\nline 2",
    "number": 9007199254740993,
    "whole": 18446744073709551617,
    "yes": False,
}


def sent(form):
    """What a browser sends for a form that nobody touched: lines end with CR and LF."""
    shown = {name: form[name].value() for name in form.fields}
    return {
        form.add_prefix(name): "" if value is None else str(value).replace("\n", "\r\n")
        for name, value in shown.items()
    }


def edited(original, **changes):
    form = SchemaForm(ALL, sent(SchemaForm(ALL, None, original)) | changes, original)
    assert form.is_valid(), form.errors
    return form


def test_untouched_fields_keep_their_values():
    form = edited(ORIGINAL)
    assert (form.value(), form.has_changed()) == (ORIGINAL, False)


@pytest.mark.parametrize(
    "value", ["[1]", "", "text", '"quoted"', "{", 1, 1.0, True, [], {}, None, "a\nb"]
)
def test_any_value_of_any_type_comes_back_as_it_was(value):
    assert repr(edited({"any": value}).value()) == repr({"any": value})


@pytest.mark.parametrize(
    ("name", "typed", "expected"),
    [
        ("number", "5", 5),
        ("number", "5.0", 5.0),
        ("number", "9007199254740993", 9007199254740993),
        ("number", "1e3", 1000.0),
        ("number", "-.5", -0.5),
        ("whole", "12", 12),
        ("whole", "-7", -7),
        ("text", "a\r\nb\rc", "a\nb\nc"),
        ("text", "  blanks  ", "  blanks  "),
        ("any", "true", True),
        ("any", '{"a": 1.50}', {"a": 1.5}),
        ("yes", "true", True),
    ],
)
@pytest.mark.parametrize("original", [None, {"whole": 1}])
def test_a_typed_value_is_stored_as_it_reads(name, typed, expected, original):
    form = SchemaForm(ALL, {name: typed}, original)
    assert form.is_valid(), form.errors
    assert repr(form.value()[name]) == repr(expected)


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("number", "1_000"),
        ("number", "1" * 5000),
        ("whole", "1" * 5000),
        ("number", "١٢"),
        ("number", "nan"),
        ("number", "1e999"),
        ("whole", "1_000"),
        ("whole", "１"),
        ("whole", "1.5"),
        ("any", '{"a": 1, "a": 2}'),
        ("any", "NaN"),
        ("any", "text"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(name, typed):
    form = SchemaForm(ALL, {name: typed})
    assert list(form.errors) == [name]
    assert str(form[name].value()) == typed, "what was typed is shown again"


def test_a_value_that_its_field_cannot_show_is_kept():
    original = {"number": "abc", "whole": [1], "yes": "no", "text": {"a": 1}}
    assert edited(original).value() == original
    short = {"properties": {"text": {"type": "string", "maxLength": 20}}}
    form = SchemaForm(short, None, {"text": "a\nb"})
    assert "<textarea" in str(form["text"])


def test_a_required_field_must_be_filled_even_if_nobody_touched_it():
    schema = {**ALL, "required": ["text"]}
    assert list(SchemaForm(schema, {"text": ""}).errors) == ["text"]
    assert list(SchemaForm(schema, {"text": ""}, {"whole": 1}).errors) == ["text"]
    assert not SchemaForm(schema, {"text": "", "whole": "1"}, {"text": "", "whole": 1}).errors
