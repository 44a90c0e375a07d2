"""Pictures of graphs as SVG: one that looks the same anywhere, one for pages, one to edit. Pure.

The state of a node is shown as a colour, a mark and a word, never as a colour alone.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from urllib.parse import quote, urlencode

from graphs.definition import errors, plan
from graphs.definition.types import Definition
from graphs.rendering import layout as layouts
from graphs.rendering.layout import HEIGHT, WIDTH, Layout, Pair, Point

COLOURS = {"done": "#2e7d32", "failed": "#c62828", "running": "#1565c0", "waiting": "#616161"}
MARKS = {"done": "✔", "failed": "✘", "running": "▶", "waiting": "·", "unknown": "?", "wrong": "⚠"}
MAX_TITLE, MAX_SUBTITLE = 25, 26  # characters that fit into a node
MAX_EDGES = 20_000  # of a picture as a file
MIN_BEND = 60  # how far an edge that leads back swings out, at least

_ARROW_END = ' marker-end="url(#arrow)"'


@dataclass(frozen=True)
class Look:
    """How a node is drawn: two lines of text and a state.

    The state is done, failed, running or waiting; in the editor it may be unknown or wrong, too.
    """

    title: str
    subtitle: str
    state: str = "waiting"


def svg(layout: Layout, looks: Mapping[str, Look], title: str) -> str:
    """A picture that needs no style sheet: all its colours are attributes. Raises TooLarge."""
    if len(layout.edges) > MAX_EDGES:
        raise errors.TooLarge(
            f"A picture has at most {MAX_EDGES:,} edges; this graph has {len(layout.edges):,}."
        )
    x, y, width, height = layout.box
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {_size(layout)}'
        f' role="img" font-family="sans-serif" font-size="12"><title>{escape(title)}</title>',
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="#ffffff"/>',
        _arrow_definition(' fill="#9e9e9e"'),
    ]
    for points in layout.edges.values():
        stroke = 'fill="none" stroke="#9e9e9e" stroke-width="1.5"'
        parts.append(f'<path d="{curve(points)}" {stroke}{_ARROW_END}/>')
    for node, look in looks.items():
        parts.append(_coloured_node(layout.nodes[node], look))
    return "\n".join([*parts, "</svg>\n"])


def of_definition(definition: Definition, title: str) -> str:
    """The picture of a definition without a run; cycles and loose ends are allowed.

    Raises TooLarge.
    """
    looks = {
        node["id"]: Look(node.get("label") or node["id"], node["kind"])
        for node in definition["nodes"]
    }
    return svg(placed(definition), looks, title)


def placed(definition: Definition) -> Layout:
    """The layout of a definition. Nodes that were moved by hand stay where they were put."""
    ids = [node["id"] for node in definition["nodes"]]
    known = set(ids)
    edges: dict[Pair, None] = {}  # in order, each once
    for start, end in plan.edges_of(definition):
        if start in known and end in known and start != end:
            edges[start, end] = None
    pairs = list(edges)
    fixed = layouts.positions(definition["nodes"])
    return layouts.place(layouts.drawable(ids, pairs), pairs, fixed)


def inline(layout: Layout, looks: Mapping[str, Look], title: str, link: str) -> str:
    """A picture for a page, whose style sheet gives it its colours.

    Each node links to `link` followed by its id. A script may change its class and second line.
    """
    parts = [_opening(layout, "rm-graph", title)]
    for points in layout.edges.values():
        parts.append(f'<path d="{curve(points)}"{_ARROW_END}/>')
    for node, look in looks.items():
        if node in layout.nodes:
            body = _styled_node(layout.nodes[node], look)
            parts.append(f"{_node_link(node, look, link)}{body}</a>")
    return "".join([*parts, "</svg>"])


def editable(
    layout: Layout,
    looks: Mapping[str, Look],
    title: str,
    link: str,
    chosen: str = "",
    conditions: Collection[Pair] = (),
) -> str:
    """A picture for the editor: edges link to their forms, and nodes have a port for new edges.

    `link` is a URL with a query, to which the node or the edge is added. `chosen` is the selected
    node, and `conditions` are the edges that have one.
    """
    parts = [_opening(layout, "rm-graph fl-graph", title)]
    for pair, points in layout.edges.items():
        parts.append(_edge_link(pair, points, link, pair in conditions))
    for node, look in looks.items():
        x, y = layout.nodes[node]
        opening = _node_link(node, look, f"{link}&node=", " fl-chosen" if node == chosen else "")
        port = f'<circle class="fl-port" cx="{x + WIDTH:g}" cy="{y + HEIGHT / 2:g}" r="7"/>'
        parts.append(f"{opening}{_styled_node((x, y), look)}{port}</a>")
    return "".join([*parts, "</svg>"])


def curve(points: Sequence[Point]) -> str:
    """The path data of an edge: horizontal at each point, and bent in between."""
    text = f"M{points[0][0]:g},{points[0][1]:g}"
    for (x1, y1), (x2, y2) in pairwise(points):
        reach = (x2 - x1) / 2 if x2 > x1 else max(MIN_BEND, (x1 - x2) / 4)
        text += f"C{x1 + reach:g},{y1:g} {x2 - reach:g},{y2:g} {x2:g},{y2:g}"
    return text


def _opening(layout: Layout, style: str, title: str) -> str:
    return (
        f'<svg class="{style}" {_size(layout)} role="group" aria-label="{escape(title)}">'
        f"{_arrow_definition()}"
    )


def _size(layout: Layout) -> str:
    x, y, width, height = layout.box
    return f'viewBox="{x:g} {y:g} {width:g} {height:g}" width="{width:g}" height="{height:g}"'


def _arrow_definition(colour: str = "") -> str:
    """The head of an edge, which edges refer to as #arrow."""
    marker = (
        '<marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8"'
        ' markerUnits="userSpaceOnUse" orient="auto">'
    )
    head = f'<path class="rm-arrow" d="M0,0L8,4L0,8z"{colour}/>'
    return f"<defs>{marker}{head}</marker></defs>"


def _edge_link(pair: Pair, points: Sequence[Point], link: str, conditional: bool) -> str:
    """An edge of the editor. An invisible wide path makes it easier to hit."""
    start, end = pair
    address = f"{escape(link)}&amp;{escape(urlencode({'start': start, 'end': end}))}"
    style = "fl-edge fl-conditional" if conditional else "fl-edge"
    label = escape(f"{start} leads to {end}{' on a condition' if conditional else ''}")
    path = curve(points)
    return (
        f'<a href="{address}" class="{style}" data-start="{escape(start)}"'
        f' data-end="{escape(end)}" aria-label="{label}"><title>{label}</title>'
        f'<path class="fl-hit" d="{path}"/><path d="{path}"{_ARROW_END}/></a>'
    )


def _node_link(node: str, look: Look, link: str, style: str = "") -> str:
    title = f"{escape(look.title)}: {look.state}"
    return (
        f'<a href="{escape(link)}{quote(node, safe="")}" class="rm-node rm-{look.state}{style}"'
        f' data-node="{escape(node)}" aria-label="{title}, {escape(look.subtitle)}">'
        f"<title>{title}</title>"
    )


def _styled_node(corner: Point, look: Look) -> str:
    x, y = corner
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x + 10:g}" y="{y + 20:g}">{_title(look)}</text>'
        f'<text class="rm-sub" x="{x + 10:g}" y="{y + 37:g}">{_subtitle(look)}</text>'
    )


def _coloured_node(corner: Point, look: Look) -> str:
    x, y = corner
    colour = COLOURS[look.state]
    return (
        f"<g><title>{escape(look.title)}: {escape(look.state)}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#fafafa"'
        f' stroke="{colour}" stroke-width="2"/>'
        f'<text x="{x + 10:g}" y="{y + 20:g}" fill="#212121">{_title(look)}</text>'
        f'<text x="{x + 10:g}" y="{y + 37:g}" fill="{colour}" font-size="11">{_subtitle(look)}'
        "</text></g>"
    )


def _title(look: Look) -> str:
    return escape(_shortened(look.title, MAX_TITLE))


def _subtitle(look: Look) -> str:
    return f"{MARKS[look.state]} {escape(_shortened(look.subtitle, MAX_SUBTITLE))}"


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
