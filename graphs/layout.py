"""Where the nodes of a graph stand in its picture, and the picture as SVG. Pure.

Layers by longest path, ordered within a layer by a few barycentre sweeps; long edges bend at places of their own in each layer that they
cross (Sugiyama's method, without his last refinement). The SVG carries presentation attributes only, so it looks the same anywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from urllib.parse import quote

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 176, 48, 56, 22, 16
SWEEPS = 8
COLOURS = {"done": "#2e7d32", "failed": "#c62828", "running": "#1565c0", "waiting": "#616161"}
MARKS = {"done": "✔", "failed": "✘", "running": "▶", "waiting": "·"}


@dataclass(frozen=True)
class Look:
    """How a node is drawn: its two lines of text and its state (done, failed, running or waiting)."""

    title: str
    subtitle: str
    state: str = "waiting"


@dataclass(frozen=True)
class Layout:
    """Positions of the nodes' upper left corners, and for each edge the points that it passes."""

    nodes: Mapping[str, tuple[float, float]]
    edges: Mapping[tuple[str, str], Sequence[tuple[float, float]]]
    width: float
    height: float


def place(order: Sequence[str], edges: Sequence[tuple[str, str]]) -> Layout:
    """Lay out nodes given in topological order; layers run from left to right."""
    layer: dict[str, int] = dict.fromkeys(order, 0)
    rank = {node: at for at, node in enumerate(order)}
    for start, end in sorted(edges, key=lambda edge: rank[edge[0]]):
        layer[end] = max(layer[end], layer[start] + 1)
    columns: list[list[str]] = [[] for _ in range(max(layer.values(), default=0) + 1)]
    for node in order:
        columns[layer[node]].append(node)
    paths: dict[tuple[str, str], list[str]] = {}
    links: list[tuple[str, str]] = []
    for start, end in edges:
        bends = [f"{start}\0{end}\0{at}" for at in range(layer[start] + 1, layer[end])]
        for at, bend in enumerate(bends, start=layer[start] + 1):
            columns[at].append(bend)
        paths[start, end] = [start, *bends, end]
        links += pairwise(paths[start, end])
    _order(columns, links)
    return _positions(columns, paths, set(order))


def _order(columns: list[list[str]], links: Sequence[tuple[str, str]]) -> None:
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for start, end in links:
        before.setdefault(end, []).append(start)
        after.setdefault(start, []).append(end)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        neighbours, walk = (before, columns[1:]) if forward else (after, list(reversed(columns[:-1])))
        at = {node: row for column in columns for row, node in enumerate(column)}
        for column in walk:
            centre = {node: _mean([at[each] for each in neighbours.get(node, [])], at[node]) for node in column}
            column.sort(key=centre.__getitem__)
            at.update({node: row for row, node in enumerate(column)})


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _positions(columns: list[list[str]], paths: Mapping[tuple[str, str], Sequence[str]], nodes: set[str]) -> Layout:
    tallest = max(map(len, columns), default=1)
    spot: dict[str, tuple[float, float]] = {}
    for at, column in enumerate(columns):
        top = MARGIN + (tallest - len(column)) * (HEIGHT + GAP_Y) / 2
        for row, node in enumerate(column):
            spot[node] = MARGIN + at * (WIDTH + GAP_X), top + row * (HEIGHT + GAP_Y)
    edges = {}
    for pair, path in paths.items():
        bends = [point for node in path[1:-1] for point in ((spot[node][0], spot[node][1] + HEIGHT / 2), (spot[node][0] + WIDTH, spot[node][1] + HEIGHT / 2))]
        (x1, y1), (x2, y2) = spot[pair[0]], spot[pair[1]]
        edges[pair] = [(x1 + WIDTH, y1 + HEIGHT / 2), *bends, (x2, y2 + HEIGHT / 2)]
    width = 2 * MARGIN + len(columns) * (WIDTH + GAP_X) - GAP_X
    return Layout({node: spot[node] for node in nodes}, edges, width, 2 * MARGIN + tallest * (HEIGHT + GAP_Y) - GAP_Y)


def svg(layout: Layout, looks: Mapping[str, Look], title: str) -> str:
    """The picture. Status is colour, mark and word, never colour alone."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {layout.width:g} {layout.height:g}" width="{layout.width:g}" height="{layout.height:g}"'
        f' role="img" font-family="sans-serif" font-size="12"><title>{escape(title)}</title>',
        f'<rect width="{layout.width:g}" height="{layout.height:g}" fill="#ffffff"/>',
    ]
    parts += [f'<path d="{_curve(points)}" fill="none" stroke="#9e9e9e" stroke-width="1.5"/>' for points in layout.edges.values()]
    parts += [_box(layout.nodes[node], look) for node, look in looks.items()]
    return "\n".join([*parts, "</svg>\n"])


def inline(layout: Layout, looks: Mapping[str, Look], title: str, link: str) -> str:
    """The picture for a page of ours, whose style sheet colours it. Each node leads to `link` with its id; a script may set its class and its second line."""
    parts = [
        f'<svg class="rm-graph" viewBox="0 0 {layout.width:g} {layout.height:g}" width="{layout.width:g}" height="{layout.height:g}" role="group"'
        f' aria-label="{escape(title)}">'
    ]
    parts += [f'<path d="{_curve(points)}"/>' for points in layout.edges.values()]
    parts += [_linked(node, layout.nodes[node], look, link) for node, look in looks.items() if node in layout.nodes]
    return "".join([*parts, "</svg>"])


def _linked(node: str, at: tuple[float, float], look: Look, link: str) -> str:
    x, y = at
    return (
        f'<a href="{escape(link)}{quote(node, safe="")}" class="rm-node rm-{look.state}" data-node="{escape(node)}"'
        f' aria-label="{escape(look.title)}: {look.state}, {escape(look.subtitle)}"><title>{escape(look.title)}: {look.state}</title>'
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x + 10:g}" y="{y + 20:g}">{escape(_short(look.title, 25))}</text>'
        f'<text class="rm-sub" x="{x + 10:g}" y="{y + 37:g}">{MARKS[look.state]} {escape(_short(look.subtitle, 26))}</text></a>'
    )


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Horizontal at each point, bent in between."""
    text = f"M{points[0][0]:g},{points[0][1]:g}"
    for (x1, y1), (x2, y2) in pairwise(points):
        middle = (x1 + x2) / 2
        text += f"C{middle:g},{y1:g} {middle:g},{y2:g} {x2:g},{y2:g}"
    return text


def _box(at: tuple[float, float], look: Look) -> str:
    x, y = at
    colour = COLOURS[look.state]
    return (
        f"<g><title>{escape(look.title)}: {escape(look.state)}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#fafafa" stroke="{colour}" stroke-width="2"/>'
        f'<text x="{x + 10:g}" y="{y + 20:g}" fill="#212121">{escape(_short(look.title, 25))}</text>'
        f'<text x="{x + 10:g}" y="{y + 37:g}" fill="{colour}" font-size="11">{MARKS[look.state]} {escape(_short(look.subtitle, 26))}</text></g>'
    )


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
