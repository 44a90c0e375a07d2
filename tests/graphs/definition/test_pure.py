"""Property tests of the modules without a database.

They cover topology, references, retry delays, paths, node counts, payloads and layout.
"""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.definition import payloads, references, retry_delay, topology
from graphs.definition.references import BadReference, Unresolved
from graphs.rendering import layout, svg
from runs.core import node_counts, paths

NAMES = [f"n{at}" for at in range(8)]


@st.composite
def dags(draw):
    """(nodes, edges) of an acyclic graph, the nodes in random order."""
    count = draw(st.integers(1, 8))
    pairs = [(NAMES[a], NAMES[b]) for b in range(count) for a in range(b)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    order = draw(st.permutations(NAMES[:count]))
    return list(order), edges


def reachable(start, edges):
    """The nodes that can be reached from `start` along at least one edge."""
    nodes = set()
    todo = [start]
    while todo:
        at = todo.pop()
        for a, b in edges:
            if a == at and b not in nodes:
                nodes.add(b)
                todo.append(b)
    return nodes


def reachable_without(removed, roots, edges):
    """The nodes that can be reached from the roots once the node `removed` is gone."""
    remaining_edges = [edge for edge in edges if removed not in edge]
    nodes = {root for root in roots if root != removed}
    return nodes.union(*(reachable(root, remaining_edges) for root in nodes))


@given(dags())
@settings(deadline=None)
def test_topology_agrees_with_brute_force(graph):
    nodes, edges = graph
    shape = topology.build(nodes, edges, {})
    rank = {node: at for at, node in enumerate(shape.order)}
    assert sorted(shape.order) == sorted(nodes)
    assert all(rank[a] < rank[b] for a, b in edges)
    roots = [node for node in nodes if not any(b == node for _, b in edges)]
    for node in nodes:
        assert shape.descendants[node] == reachable(node, edges)
        assert shape.ancestors[node] == {
            other for other in nodes if node in reachable(other, edges)
        }
        dominators = [
            other
            for other in shape.ancestors[node]
            if node not in reachable_without(other, roots, edges)
        ]
        nearest = max(dominators, key=rank.__getitem__, default=topology.ROOT)
        assert shape.dominator[node] == nearest
        if shape.is_join(node):
            region = {
                other
                for other in shape.ancestors[node]
                if nearest == topology.ROOT or other in shape.descendants[nearest]
            }
            assert shape.region[node] == region


@given(st.lists(st.sampled_from([(a, b) for a in NAMES[:4] for b in NAMES[:4]]), unique=True))
def test_a_cycle_is_found_and_its_nodes_are_named(edges):
    has_cycle = any(node in reachable(node, edges) for node in NAMES[:4])
    try:
        topology.build(NAMES[:4], edges, {})
        assert not has_cycle
    except topology.Cycle as cycle:
        assert has_cycle
        assert cycle.nodes[0] == cycle.nodes[-1]
        assert all(pair in edges for pair in zip(cycle.nodes, cycle.nodes[1:], strict=False))


names = st.text("abcxyz_- é", min_size=1, max_size=6).map(str.strip).filter(bool)
values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.integers()))


@given(names, names, values)
def test_a_placeholder_keeps_the_type_of_its_value(node, field, value):
    template = f"${{{{ {node}.outputs.{field} }}}}"
    assert references.compiled(template)(lambda _: value) == value
    [reference] = references.find({"deep": [template]})
    assert (reference.source, reference.node, reference.path) == ("node", node, (field,))


@given(names, names, values)
def test_a_placeholder_within_text_becomes_text(node, field, value):
    template = f"<${{{{ {node}.outputs.{field} }}}}>"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    assert references.compiled(template)(lambda _: value) == f"<{text}>"


@given(st.text())
def test_placeholders_in_values_are_not_replaced(text):
    value = "${{ store.secret }}" + text
    assert references.compiled("${{ a.outputs.b }}")(lambda _: value) == value


@pytest.mark.parametrize(
    "text",
    [
        "${{ a.outputs.b",
        "${{ }}",
        "${{ a }}",
        "${{ a.b }}",
        "${{ .outputs.x }}",
        "${{ a.outputs }}",
        "${{ a.outputs. }}",
        "${{{ a.outputs.b }}}",
    ],
)
def test_broken_placeholders_are_refused(text):
    with pytest.raises(BadReference):
        references.parse(text)


def test_a_missing_member_is_named():
    with pytest.raises(Unresolved, match="no 'z' in an object with 'x'"):
        references.dig({"x": 1}, ("z",), "a.outputs.z")


def test_a_path_leads_through_objects_and_lists():
    assert references.dig({"x": [{"y": 7}]}, ("x", "0", "y"), "") == 7


policies = st.builds(
    retry_delay.Policy,
    max_retries=st.integers(0, 10),
    strategy=st.sampled_from(sorted(retry_delay.STRATEGIES)),
    backoff_factor=st.floats(0.001, 1e9),
    exponent=st.floats(0.1, 100),
    max_delay=st.one_of(st.none(), st.floats(0.001, 1e9)),
)


@given(policies, st.integers(1, 10_000), st.integers())
def test_delays_are_bounded_and_grow_as_their_strategy_says(policy, attempt, seed):
    delay = retry_delay.delay(policy, attempt, random.Random(seed))
    assert 0 <= delay <= min(policy.max_delay or retry_delay.FOREVER_MS, retry_delay.FOREVER_MS)
    if (
        "JITTER" not in policy.strategy
        and not policy.max_delay
        and attempt < 5
        and delay < retry_delay.FOREVER_MS
    ):
        factors = {"EXPONENTIAL": policy.exponent ** (attempt - 1), "LINEAR": attempt, "FIXED": 1}
        assert delay == pytest.approx(policy.backoff_factor * factors[policy.strategy])


def test_there_are_nine_retry_strategies():
    assert len(retry_delay.STRATEGIES) == 9


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 200)), max_size=4),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 200)), max_size=4),
)
def test_a_path_covers_the_paths_below_it_also_in_byte_order(first, second):
    def path(parts):
        text = ""
        for index, item in parts:
            text = paths.below(text, index, item)
        return text

    prefix = path(first)
    other = path(second)
    covered = second[: len(first)] == first
    assert (prefix in paths.prefixes(other)) == covered
    assert (prefix.encode() <= other.encode() <= paths.last(prefix).encode()) == covered
    assert paths.step(paths.below(prefix, 7, 3), 7) == prefix


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 9)).map(list),
    )
)
def test_node_counts_can_be_stored_as_text(counts):
    assert node_counts.load(node_counts.dump(counts)) == counts


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_a_payload_is_stored_unchanged_or_refused(value):
    try:
        text = payloads.dump(value)
    except payloads.NotJson as error:
        assert str(error)
    else:
        assert json.loads(text) == value
        text.encode()


@given(dags())
@settings(deadline=None)
def test_layout_keeps_nodes_apart_and_edges_going_right(graph):
    nodes, edges = graph
    order = topology.build(nodes, edges, {}).order
    placed = layout.place(order, edges)
    assert len(set(placed.nodes.values())) == len(nodes)
    assert all(placed.nodes[a][0] < placed.nodes[b][0] for a, b in edges)


@given(dags())
@settings(deadline=None)
def test_the_picture_shows_every_node_and_escapes_labels(graph):
    nodes, edges = graph
    placed = layout.place(topology.build(nodes, edges, {}).order, edges)
    looks = {node: svg.Look(f"<{node}>", "x") for node in nodes}
    picture = svg.svg(placed, looks, "a & b")
    assert picture.count("<g>") == len(nodes)
    assert "<n" not in picture, "a label was not escaped"
