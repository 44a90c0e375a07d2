"""What this parser and the engine's take for an expression is the same, but for the depth."""

import cel
import pytest

from graphs.definition import cel_work
from graphs.definition.cel_syntax import SyntaxProblem, parse

VALID = (
    "1",
    "a.b.c[0]['d'].size() > 0",
    ".a == 1",
    "-a.b + -1 - -2",
    "!!a && !b || c",
    "a ? b : c ? d : e",
    "[1, 2, ]",
    "{'a': 1, b: [2], }",
    "r'a\\' + \"b\\\"c\" + '''d'e''' + b'x' + br'y'",
    "'//' + 'x' // a comment",
    "1u + 0x1F + 1.5e-3 + .5",
    "a in [1] && a.in_ == 2",
    "a.map (\n x , x + 1 ) . filter(y, y > 1)",
    "a.map(x, x > 1, x)",
    "a.exists_one(x, x == 1) && a.existsOne(x, x == 1)",
    "has(a.b) && size(a) % 2 == 1",
    "a.for == 1",
    "timestamp('2020-01-01T00:00:00Z').getFullYear()",
)
INVALID = ("", "1 +", "a b", "(1", "[1", "{'a'}", "a.", "a..b", "'a", "a ? b", "@", "a.f(", "1 2")


@pytest.mark.parametrize("text", VALID)
def test_what_the_engine_reads_is_read(text):
    cel.compile(text)
    parse(text)


@pytest.mark.parametrize("text", INVALID)
def test_what_the_engine_refuses_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        cel.compile(text)
    with pytest.raises(SyntaxProblem):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 51 + "1" + ")" * 51,
        "[" * 51 + "]" * 51,
        "size(" * 51 + "a" + ")" * 51,
        "{1:" * 51 + "1" + "}" * 51,
        "a.all(x," * 51 + "true" + ")" * 51,
        "a" + "[0]" * 201,
        "a" + ".b" * 201,
        "1" + "+1" * 201,
        "1" + "*1/1" * 101,
        "true ? 1 : " * 51 + "1",
        "-(" * 51 + "1" + ")" * 51,
    ],
)
def test_what_would_overflow_the_engines_stack_is_refused(text):
    with pytest.raises(SyntaxProblem, match="nested too deeply"):
        parse(text)


@pytest.mark.parametrize("text", ["-" * 1999 + "1", "true" + "&&true" * 300, "1" + "+1" * 199])
def test_chains_that_the_engine_balances_may_be_long(text):
    cel.compile(text)
    parse(text)


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("a.map(x, x)", 1),
        ("a.map (x, x . map\n(y, y))", 2),
        ("a.map(x, x).map(y, y).map(z, z)", 1),
        ("a.all(x, a.all(y, a.exists(z, z.filter(q, true)[0])))", 4),
        ("'a.map(x, x.map(y, y))'", 0),
        ("f(a.map(x, x)).b[a.map(y, a.map(z, z))]", 2),
    ],
)
def test_loops_inside_each_other_are_counted_in_the_tree(text, loops):
    assert cel_work.nested_loops(parse(text)) == loops
