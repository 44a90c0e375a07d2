"""Topologies of large graphs, and the sets that they consist of."""

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.definition import topology
from graphs.definition.node_set import NodeOrder
from graphs.definition.schema import MAX_NODES
from graphs.models.sized_cache import SizedCache

NODES = [f"n{at}" for at in range(12)]
subsets = st.sets(st.sampled_from(NODES))


@given(a=subsets, b=subsets)
def test_sets_of_nodes_behave_like_sets(a, b):
    order = NodeOrder(NODES)
    first, second = order.set_of(a), order.set_of(b)
    assert first == a
    assert list(first) == sorted(a, key=NODES.index)
    assert len(first) == len(a)
    assert (first & second, first - second, first | second) == (a & b, a - b, a | b)
    assert (first & b, first - b, b & first, b - first) == (a & b, a - b, a & b, b - a)
    assert [node in first for node in NODES] == [node in a for node in NODES]
    assert "elsewhere" not in first
    assert first & {"elsewhere", None} == set()
    assert (hash(first) == hash(second)) or a != b


def drawn(shape, count=MAX_NODES):
    """The nodes and edges of a graph with as many nodes as are allowed."""
    nodes = [f"n{at}" for at in range(count)]
    if shape == "chain":
        return nodes, list(pairwise(nodes))
    if shape == "fan":
        return nodes, [(nodes[0], node) for node in nodes[1:-1]] + [
            (node, nodes[-1]) for node in nodes[1:-1]
        ]
    edges = []  # diamonds, one after the other
    for at in range(0, count - 3, 3):
        top, left, right, bottom = nodes[at : at + 4]
        edges += [(top, left), (top, right), (left, bottom), (right, bottom)]
    return nodes, edges


@pytest.mark.parametrize("shape", ["chain", "fan", "diamonds"])
def test_a_graph_with_as_many_nodes_as_allowed_takes_little_memory(shape):
    nodes, edges = drawn(shape)
    tracemalloc.start()
    try:
        made = topology.build(nodes, edges, {})
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(made.order) == MAX_NODES
    assert kept < 60 * 2**20
    assert peak < 120 * 2**20


def test_the_values_of_a_cache_add_up_to_its_limit():
    cache = SizedCache[str, str](10, len)
    made = []

    def value(key):
        return cache.get(key, lambda: made.append(key) or key)

    assert [value(key) for key in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa")][-1] == "aaaa"
    assert made == ["aaaa", "bbbb", "cccc", "aaaa"]
    assert value("x" * 50) == "x" * 50, "the newest one is kept whatever its size"
    assert len(cache) == 1
