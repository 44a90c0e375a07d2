"""Where the nodes of a graph are drawn. Pure; `graphs.rendering.svg` draws them.

The method is Sugiyama's, without its last refinement: layers by longest path, ordered within a
layer by a few barycentre sweeps. A long edge bends in each layer that it crosses. Nodes that were
moved by hand stay where they were put.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeGuard

from graphs.definition.types import NodeDefinition

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 176, 48, 56, 22, 16
SWEEPS = 8
MAX_COORDINATE = 1_000_000
MAX_BENDS = 10_000  # beyond this number, the longest edges are drawn straight

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # x, y, width, height
Pair = tuple[str, str]


@dataclass(frozen=True)
class Layout:
    """The upper left corners of the nodes, and the points that each edge passes.

    All of them lie within `box`.
    """

    nodes: Mapping[str, Point]
    edges: Mapping[Pair, Sequence[Point]]
    box: Box

    @property
    def width(self) -> float:
        return self.box[2]

    @property
    def height(self) -> float:
        return self.box[3]


def drawable(nodes: Sequence[str], edges: Sequence[Pair]) -> list[str]:
    """The nodes in an order in which edges lead forward, otherwise in the given order.

    In a cycle, one edge leads back. This never fails.
    """
    waits = dict.fromkeys(nodes, 0)
    followers: dict[str, list[str]] = {node: [] for node in nodes}
    for start, end in edges:
        waits[end] += 1
        followers[start].append(end)

    order: list[str] = []
    remaining = dict.fromkeys(nodes)
    ready = [node for node in nodes if not waits[node]]
    while remaining:
        if not ready:  # only cycles remain
            ready = [next(iter(remaining))]
        for node in ready:
            remaining.pop(node, None)
        order += ready
        ready = _next_ready(ready, followers, waits, remaining)
    return order


def _next_ready(
    done: Sequence[str],
    followers: Mapping[str, Sequence[str]],
    waits: dict[str, int],
    remaining: Mapping[str, None],
) -> list[str]:
    """Count the nodes that are done off `waits`; the nodes that wait for nothing more."""
    ready = []
    for node in done:
        for follower in followers[node]:
            waits[follower] -= 1
            if not waits[follower] and follower in remaining:
                ready.append(follower)
    return list(dict.fromkeys(ready))


def positions(nodes: Sequence[NodeDefinition]) -> dict[str, Point]:
    """The positions of the nodes that were put somewhere by hand."""
    placed: dict[str, Point] = {}
    for node in nodes:
        position = node.get("position") or {}
        x, y = position.get("x"), position.get("y")
        if _is_coordinate(x) and _is_coordinate(y):
            placed[node["id"]] = (x, y)
    return placed


def _is_coordinate(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and abs(value) <= MAX_COORDINATE


def place(
    order: Sequence[str], edges: Sequence[Pair], fixed: Mapping[str, Point] | None = None
) -> Layout:
    """Lay out nodes in topological order, with layers from left to right.

    Edges against the order are drawn straight. `fixed` are the positions of nodes that were put
    somewhere by hand.
    """
    rank = {node: at for at, node in enumerate(order)}
    forward = [edge for edge in edges if rank[edge[0]] < rank[edge[1]]]
    layer: dict[str, int] = dict.fromkeys(order, 0)
    for start, end in sorted(forward, key=lambda edge: rank[edge[0]]):
        layer[end] = max(layer[end], layer[start] + 1)

    columns: list[list[str]] = [[] for _ in range(max(layer.values(), default=0) + 1)]
    for node in order:
        columns[layer[node]].append(node)
    paths = _bend(forward, layer, columns)
    _order(columns, [link for path in paths.values() for link in pairwise(path)])
    all_paths = {pair: paths.get(pair, pair) for pair in edges}
    return _positions(columns, all_paths, set(order), fixed or {})


def _bend(
    edges: Sequence[Pair], layer: Mapping[str, int], columns: list[list[str]]
) -> dict[Pair, list[str]]:
    """The path of each edge through the layers, with the bends added to the columns.

    Edges beyond MAX_BENDS get no path.
    """
    paths: dict[Pair, list[str]] = {}
    bends_left = MAX_BENDS
    for start, end in sorted(edges, key=lambda edge: layer[edge[1]] - layer[edge[0]]):
        crossed = range(layer[start] + 1, layer[end])
        bends_left -= len(crossed)
        if bends_left < 0:
            break
        bends = [f"{start}\0{end}\0{at}" for at in crossed]
        for at, bend in zip(crossed, bends, strict=True):
            columns[at].append(bend)
        paths[start, end] = [start, *bends, end]
    return paths


def _order(columns: list[list[str]], links: Sequence[Pair]) -> None:
    """Sort each column so that linked nodes of neighbouring columns are near each other."""
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for start, end in links:
        before.setdefault(end, []).append(start)
        after.setdefault(start, []).append(end)
    for sweep in range(SWEEPS):
        if sweep % 2 == 0:
            _sweep(columns, columns[1:], before)
        else:
            _sweep(columns, list(reversed(columns[:-1])), after)


def _sweep(
    columns: list[list[str]], walk: Sequence[list[str]], neighbours: Mapping[str, Sequence[str]]
) -> None:
    rows = {node: row for column in columns for row, node in enumerate(column)}
    for column in walk:
        centres = {
            node: _mean([rows[other] for other in neighbours.get(node, ())], rows[node])
            for node in column
        }
        column.sort(key=centres.__getitem__)
        rows.update({node: row for row, node in enumerate(column)})


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _positions(
    columns: list[list[str]],
    paths: Mapping[Pair, Sequence[str]],
    nodes: set[str],
    fixed: Mapping[str, Point],
) -> Layout:
    corners = _corners(columns)
    corners |= {node: point for node, point in fixed.items() if node in nodes}
    edges = {}
    for pair, path in paths.items():
        # The bends of an edge belong to the layers; those of a moved node lead the wrong way.
        is_moved = pair[0] in fixed or pair[1] in fixed
        edges[pair] = _points([pair[0], pair[1]] if is_moved else path, corners)
    box = _box(list(corners.values()))
    return Layout({node: corners[node] for node in nodes}, edges, box)


def _corners(columns: list[list[str]]) -> dict[str, Point]:
    """The upper left corners of nodes and bends, with the columns centred vertically."""
    tallest = max(map(len, columns), default=1)
    corners: dict[str, Point] = {}
    for at, column in enumerate(columns):
        left = MARGIN + at * (WIDTH + GAP_X)
        top = MARGIN + (tallest - len(column)) * (HEIGHT + GAP_Y) / 2
        for row, node in enumerate(column):
            corners[node] = left, top + row * (HEIGHT + GAP_Y)
    return corners


def _points(path: Sequence[str], corners: Mapping[str, Point]) -> list[Point]:
    """From the right side of the first node, through the bends, to the left side of the last."""
    start, *bends, end = (corners[name] for name in path)
    points = [_right_side(start)]
    for bend in bends:
        points += [_left_side(bend), _right_side(bend)]
    return [*points, _left_side(end)]


def _left_side(corner: Point) -> Point:
    return corner[0], corner[1] + HEIGHT / 2


def _right_side(corner: Point) -> Point:
    return corner[0] + WIDTH, corner[1] + HEIGHT / 2


def _box(corners: Sequence[Point]) -> Box:
    if not corners:
        return 0, 0, 2 * MARGIN, 2 * MARGIN
    left = min(0, *(x - MARGIN for x, _ in corners))
    top = min(0, *(y - MARGIN for _, y in corners))
    width = max(x for x, _ in corners) + WIDTH + MARGIN - left
    height = max(y for _, y in corners) + HEIGHT + MARGIN - top
    return left, top, width, height
