"""Topologies of large graphs, and the sets that they consist of."""

import tracemalloc
from itertools import pairwise
from time import process_time

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


def test_joins_that_wait_for_too_many_nodes_together_are_refused():
    nodes = [f"n{at}" for at in range(MAX_NODES)]
    ladder = [*pairwise(nodes), *zip(nodes, nodes[2:], strict=False)][1:]
    with pytest.raises(topology.TooEntangled, match="2,000,000"):
        topology.build(nodes, ladder, {}, max_waiting=topology.MAX_WAITING)
    unites = dict.fromkeys(nodes[1:], nodes[0])
    with pytest.raises(topology.TooEntangled):
        topology.build(nodes, list(pairwise(nodes)), unites, max_waiting=topology.MAX_WAITING)
    for shape in ("chain", "fan", "diamonds"):
        topology.build(*drawn(shape), {}, max_waiting=topology.MAX_WAITING)


def test_common_ancestors_are_found_in_few_steps():
    tree = topology._Tree()
    for above, node in pairwise([topology.ROOT, *(f"n{at}" for at in range(50_000))]):
        tree.add(node, above)
    tree.add("beside", topology.ROOT)
    began = process_time()
    for _ in range(10_000):
        assert tree.common_ancestor("n49999", "beside") == topology.ROOT
        assert tree.common_ancestor("n7", "n49999") == "n7"
    assert process_time() - began < 5


@given(parents=st.lists(st.sets(st.integers(0, 11), max_size=3), min_size=12, max_size=12))
def test_dominators_are_the_nodes_on_every_path(parents):
    """Judged by the definition: without a dominator, no root leads to the node."""
    edges = [(NODES[a], NODES[b]) for b, few in enumerate(parents) for a in sorted(few) if a < b]
    made = topology.build(NODES, edges, {}).dominator

    def dominators(node):
        before = [set(dominators(a)) | {a} for a, b in edges if b == node]
        return set.intersection(*before) if before else set()

    for node in NODES:
        common = dominators(node)
        nearest = max(common, key=lambda other: len(dominators(other)), default=topology.ROOT)
        assert made[node] == nearest


def test_the_values_of_a_cache_add_up_to_its_limit():
    cache = SizedCache[str, str](10, len)
    made = []

    def value(key):
        return cache.get(key, lambda: made.append(key) or key)

    assert [value(key) for key in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa")][-1] == "aaaa"
    assert made == ["aaaa", "bbbb", "cccc", "aaaa"]
    assert value("x" * 50) == "x" * 50, "the newest one is kept whatever its size"
    assert len(cache) == 1
