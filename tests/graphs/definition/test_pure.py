"""Property tests of the pure parts: topology, references, retrying, paths, layout, payloads."""

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
    count = draw(st.integers(1, 8))
    pairs = [(NAMES[a], NAMES[b]) for b in range(count) for a in range(b)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    order = draw(st.permutations(NAMES[:count]))
    return list(order), edges


def reach(start, edges):
    found, todo = set(), [start]
    while todo:
        at = todo.pop()
        for a, b in edges:
            if a == at and b not in found:
                found.add(b)
                todo.append(b)
    return found


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
        assert shape.descendants[node] == reach(node, edges)
        assert shape.ancestors[node] == {other for other in nodes if node in reach(other, edges)}
        above = [
            other
            for other in shape.ancestors[node]
            if node
            not in set().union(
                *(
                    ({root} | reach(root, [e for e in edges if other not in e]))
                    for root in roots
                    if root != other
                ),
                set(),
            )
        ]
        nearest = max(above, key=rank.__getitem__, default=topology.ROOT)
        assert shape.dominator[node] == nearest
        if shape.is_join(node):
            inside = {
                other
                for other in shape.ancestors[node]
                if nearest == topology.ROOT or other in shape.descendants[nearest]
            }
            assert shape.region[node] == inside


@given(st.lists(st.sampled_from([(a, b) for a in NAMES[:4] for b in NAMES[:4]]), unique=True))
def test_cycles_are_found_and_named(edges):
    looped = any(node in reach(node, edges) for node in NAMES[:4])
    try:
        topology.build(NAMES[:4], edges, {})
        assert not looped
    except topology.Cycle as cycle:
        assert looped
        assert cycle.nodes[0] == cycle.nodes[-1]
        assert all(pair in edges for pair in zip(cycle.nodes, cycle.nodes[1:], strict=False))


words = st.text("abcxyz_- é", min_size=1, max_size=6).map(str.strip).filter(bool)


@given(
    words,
    words,
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.integers())),
)
def test_a_lone_placeholder_keeps_the_type_and_text_around_it_makes_text(node, field, value):
    template = f"${{{{ {node}.outputs.{field} }}}}"
    assert references.compiled(template)(lambda _: value) == value
    assert (
        references.compiled(f"<{template}>")(lambda _: value)
        == f"<{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}>"
    )
    [found] = references.find({"deep": [template]})
    assert (found.source, found.node, found.path) == ("node", node, (field,))


@given(st.text())
def test_rendered_values_are_never_parsed_again(text):
    assert (
        references.compiled("${{ a.outputs.b }}")(lambda _: "${{ store.secret }}" + text)
        == "${{ store.secret }}" + text
    )


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


def test_missing_parts_are_named():
    with pytest.raises(Unresolved, match="no 'z' in an object with 'x'"):
        references.dig({"x": 1}, ("z",), "a.outputs.z")
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
def test_delays_are_bounded_and_follow_their_curve(policy, attempt, seed):
    wait = retry_delay.delay(policy, attempt, random.Random(seed))
    assert 0 <= wait <= min(policy.max_delay or retry_delay.FOREVER_MS, retry_delay.FOREVER_MS)
    if (
        "JITTER" not in policy.strategy
        and not policy.max_delay
        and attempt < 5
        and wait < retry_delay.FOREVER_MS
    ):
        curve = {"EXPONENTIAL": policy.exponent ** (attempt - 1), "LINEAR": attempt, "FIXED": 1}[
            policy.strategy
        ]
        assert wait == pytest.approx(policy.backoff_factor * curve)


def test_there_are_nine_strategies():
    assert len(retry_delay.STRATEGIES) == 9


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 200)), max_size=4),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 200)), max_size=4),
)
def test_paths_cover_what_begins_with_them_in_byte_order_too(first, second):
    def path(parts):
        text = ""
        for index, item in parts:
            text = paths.below(text, index, item)
        return text

    prefix, other = path(first), path(second)
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
def test_node_counts_survive_their_text(counts):
    assert node_counts.load(node_counts.dump(counts)) == counts


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_payloads_are_stored_right_or_refused(value):
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
    spots = list(placed.nodes.values())
    assert len(set(spots)) == len(nodes)
    assert all(placed.nodes[a][0] < placed.nodes[b][0] for a, b in edges)
    picture = svg.svg(placed, {node: svg.Look(f"<{node}>", "x") for node in nodes}, "a & b")
    assert picture.count("<g>") == len(nodes)
    assert "<n" not in picture
