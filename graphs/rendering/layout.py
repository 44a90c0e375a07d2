"""Where the nodes of a graph stand in its picture. Pure; `graphs.rendering.svg` makes the picture of it.

Layers by longest path, ordered within a layer by a few barycentre sweeps; long edges bend at places of their own in each layer that they
cross (Sugiyama's method, without his last refinement). Nodes that a person moved stand where they were put.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 176, 48, 56, 22, 16
SWEEPS = 8
FARTHEST = 1_000_000
MOST_BENDS = 10_000  # beyond, the longest edges are drawn straight
Point = tuple[float, float]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Layout:
    """Positions of the nodes' upper left corners, and for each edge the points that it passes; all of it lies within `box` (x, y, width, height)."""

    nodes: Mapping[str, Point]
    edges: Mapping[Pair, Sequence[Point]]
    box: tuple[float, float, float, float]

    @property
    def width(self) -> float:
        return self.box[2]

    @property
    def height(self) -> float:
        return self.box[3]


def drawable(nodes: Sequence[str], edges: Sequence[Pair]) -> list[str]:
    """The nodes in an order in which edges go forward, ties in the order given; where they run in a circle, one of them goes back. Never fails."""
    waits = dict.fromkeys(nodes, 0)
    followers: dict[str, list[str]] = {node: [] for node in nodes}
    for start, end in edges:
        waits[end] += 1
        followers[start].append(end)
    ready, order, left = [node for node in nodes if not waits[node]], [], dict.fromkeys(nodes)
    while left:
        if not ready:
            ready = [next(iter(left))]
        for node in ready:
            left.pop(node, None)
        order += ready
        found = []
        for node in ready:
            for follower in followers[node]:
                waits[follower] -= 1
                if not waits[follower] and follower in left:
                    found.append(follower)
        ready = list(dict.fromkeys(found))
    return order


def positions(nodes: Sequence[Mapping[str, Any]]) -> dict[str, Point]:
    """Where a definition's nodes were put by hand."""
    placed = ((node["id"], node.get("position") or {}) for node in nodes)
    return {
        name: (at["x"], at["y"])
        for name, at in placed
        if all(isinstance(at.get(key), int | float) and abs(at[key]) <= FARTHEST for key in "xy")
    }


def place(
    order: Sequence[str], edges: Sequence[Pair], fixed: Mapping[str, Point] | None = None
) -> Layout:
    """Lay out nodes given in topological order; layers run from left to right. Edges against the order are drawn straight."""
    rank = {node: at for at, node in enumerate(order)}
    forward = [edge for edge in edges if rank[edge[0]] < rank[edge[1]]]
    layer: dict[str, int] = dict.fromkeys(order, 0)
    for start, end in sorted(forward, key=lambda edge: rank[edge[0]]):
        layer[end] = max(layer[end], layer[start] + 1)
    columns: list[list[str]] = [[] for _ in range(max(layer.values(), default=0) + 1)]
    for node in order:
        columns[layer[node]].append(node)
    paths: dict[Pair, list[str]] = {}
    links: list[Pair] = []
    left = MOST_BENDS
    for start, end in sorted(forward, key=lambda edge: layer[edge[1]] - layer[edge[0]]):
        left -= layer[end] - layer[start] - 1
        if left < 0:
            break
        bends = [f"{start}\0{end}\0{at}" for at in range(layer[start] + 1, layer[end])]
        for at, bend in enumerate(bends, start=layer[start] + 1):
            columns[at].append(bend)
        paths[start, end] = [start, *bends, end]
        links += pairwise(paths[start, end])
    _order(columns, links)
    return _positions(
        columns, {pair: paths.get(pair, pair) for pair in edges}, set(order), fixed or {}
    )


def _order(columns: list[list[str]], links: Sequence[tuple[str, str]]) -> None:
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for start, end in links:
        before.setdefault(end, []).append(start)
        after.setdefault(start, []).append(end)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        neighbours, walk = (
            (before, columns[1:]) if forward else (after, list(reversed(columns[:-1])))
        )
        at = {node: row for column in columns for row, node in enumerate(column)}
        for column in walk:
            centre = {
                node: _mean([at[each] for each in neighbours.get(node, [])], at[node])
                for node in column
            }
            column.sort(key=centre.__getitem__)
            at.update({node: row for row, node in enumerate(column)})


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _positions(
    columns: list[list[str]],
    paths: Mapping[Pair, Sequence[str]],
    nodes: set[str],
    fixed: Mapping[str, Point],
) -> Layout:
    tallest = max(map(len, columns), default=1)
    spot: dict[str, Point] = {}
    for at, column in enumerate(columns):
        top = MARGIN + (tallest - len(column)) * (HEIGHT + GAP_Y) / 2
        for row, node in enumerate(column):
            spot[node] = MARGIN + at * (WIDTH + GAP_X), top + row * (HEIGHT + GAP_Y)
    spot |= {node: point for node, point in fixed.items() if node in nodes}
    edges = {}
    for pair, path in paths.items():
        inner = path[1:-1] if pair[0] not in fixed and pair[1] not in fixed else ()
        bends = [
            point
            for node in inner
            for point in (
                (spot[node][0], spot[node][1] + HEIGHT / 2),
                (spot[node][0] + WIDTH, spot[node][1] + HEIGHT / 2),
            )
        ]
        (x1, y1), (x2, y2) = spot[pair[0]], spot[pair[1]]
        edges[pair] = [(x1 + WIDTH, y1 + HEIGHT / 2), *bends, (x2, y2 + HEIGHT / 2)]
    return Layout({node: spot[node] for node in nodes}, edges, _box(list(spot.values())))


def _box(corners: Sequence[Point]) -> tuple[float, float, float, float]:
    if not corners:
        return 0, 0, 2 * MARGIN, 2 * MARGIN
    left, top = min(0, *(x - MARGIN for x, _ in corners)), min(0, *(y - MARGIN for _, y in corners))
    return (
        left,
        top,
        max(x for x, _ in corners) + WIDTH + MARGIN - left,
        max(y for _, y in corners) + HEIGHT + MARGIN - top,
    )
