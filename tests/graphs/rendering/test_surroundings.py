"""The surroundings of some nodes: the nearest ones, in both directions, up to a limit."""

import pytest

from graphs.rendering.surroundings import nearest

CHAIN = {at: [other for other in (at - 1, at + 1) if 0 <= other < 100] for at in range(100)}
CIRCLE = {"a": ["b", "c"], "b": ["a", "c"], "c": ["a", "b"], "alone": []}


@pytest.mark.parametrize(
    ("centres", "limit", "expected"),
    [
        ([50], 5, {48, 49, 50, 51, 52}),
        ([0], 3, {0, 1, 2}),
        ([0, 99], 4, {0, 1, 98, 99}),
        ([7, 7], 1, {7}),
        ([1, 2, 3], 2, {1, 2}),
        ([], 5, set()),
        ([50], 1000, set(range(100))),
    ],
)
def test_the_nearest_come_first(centres, limit, expected):
    found = nearest(centres, CHAIN.__getitem__, limit)
    assert set(found) == expected
    assert len(found) == len(expected)


def test_hops_limit_the_distance():
    assert set(nearest([50], CHAIN.__getitem__, 1000, hops=2)) == {48, 49, 50, 51, 52}
    assert nearest([50], CHAIN.__getitem__, 1000, hops=0) == [50]


def test_circles_and_lonely_nodes():
    assert set(nearest(["a"], CIRCLE.__getitem__, 10)) == {"a", "b", "c"}
    assert nearest(["alone"], CIRCLE.__getitem__, 10) == ["alone"]
