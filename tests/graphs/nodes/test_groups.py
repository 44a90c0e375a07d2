"""Sums are sums of numbers: a measure never joins texts, and never changes what it compares."""

import pytest

from graphs.nodes.base import NodeFailed
from graphs.nodes.groups import Groups


def measured(function, values, by=()):
    groups = Groups(list(by), {"m": {"function": function, "column": "c"}})
    for value in values:
        groups.add({"c": value, "k": value})
    return groups.results()


@pytest.mark.parametrize("function", ["sum", "mean"])
@pytest.mark.parametrize(
    "values", [["007", "008", "-"], ["a"], [[1], [2]], [True, True], [1, "2"], [None, "1"]]
)
def test_arithmetic_on_anything_but_numbers_fails_and_names_the_column(function, values):
    with pytest.raises(NodeFailed, match="column 'c'"):
        measured(function, values)


@pytest.mark.parametrize("function", ["min", "max"])
@pytest.mark.parametrize("values", [[1, "2"], [True, 1], [[1], [2]], [{}, {}]])
def test_values_without_a_common_order_are_not_compared(function, values):
    with pytest.raises(NodeFailed, match="column 'c'"):
        measured(function, values)


@pytest.mark.parametrize(
    ("function", "values", "result"),
    [
        ("sum", [0.1] * 10_000, 1000.0),
        ("sum", [1e16, 1.0, -1e16], 1.0),
        ("sum", [2**62, 2**62, None], 2**63),
        ("sum", [1, 0.5], 1.5),
        ("sum", [9007199254740993, 1.0], 9007199254740994.0),
        ("sum", [None], None),
        ("mean", [1e-9, 3e-9], 2e-9),
        ("count", ["a", 1, None, [2]], 3),
        ("min", ["b", "a", None], "a"),
        ("max", [2, 10.5, -3], 10.5),
        ("max", ["007", "12E4"], "12E4"),
    ],
)
def test_measures_are_exact(function, values, result):
    assert measured(function, values)[0]["m"] == result


def test_groups_tell_true_from_one():
    groups = measured("count", [True, 1, True], by=["k"])
    assert [(row["k"], row["m"]) for row in groups] == [(True, 2), (1, 1)]
    assert groups[0]["k"] is True


def test_a_sum_that_is_too_large_fails():
    with pytest.raises(NodeFailed, match="too large"):
        measured("sum", [1e308, 1e308])
