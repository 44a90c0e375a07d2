"""Pictures of graphs as SVG: one that looks the same anywhere, one for pages, one to edit. Pure. Status is colour, mark and word, never colour alone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any
from urllib.parse import quote, urlencode

from graphs.definition import plan
from graphs.rendering import layout as layouts
from graphs.rendering.layout import HEIGHT, WIDTH, Layout, Point

COLOURS = {"done": "#2e7d32", "failed": "#c62828", "running": "#1565c0", "waiting": "#616161"}
ARROW = ' marker-end="url(#arrow)"'
MARKS = {"done": "✔", "failed": "✘", "running": "▶", "waiting": "·", "unknown": "?", "wrong": "⚠"}


@dataclass(frozen=True)
class Look:
    """How a node is drawn: its two lines of text and its state (done, failed, running or waiting; in the editor also unknown and wrong)."""

    title: str
    subtitle: str
    state: str = "waiting"


def svg(layout: Layout, looks: Mapping[str, Look], title: str) -> str:
    """The picture with presentation attributes only."""
    x, y, width, height = layout.box
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{x:g} {y:g} {width:g} {height:g}" width="{width:g}" height="{height:g}"'
        f' role="img" font-family="sans-serif" font-size="12"><title>{escape(title)}</title>',
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="#ffffff"/>',
    ]
    parts.append(_arrow(' fill="#9e9e9e"'))
    parts += [
        f'<path d="{curve(points)}" fill="none" stroke="#9e9e9e" stroke-width="1.5"{ARROW}/>'
        for points in layout.edges.values()
    ]
    parts += [_box(layout.nodes[node], look) for node, look in looks.items()]
    return "\n".join([*parts, "</svg>\n"])


def of_definition(definition: Mapping[str, Any], title: str) -> str:
    """The picture of a definition by itself, circles and loose ends included."""
    looks = {
        node["id"]: Look(node.get("label") or node["id"], node["kind"])
        for node in definition["nodes"]
    }
    return svg(placed(definition), looks, title)


def placed(definition: Mapping[str, Any]) -> Layout:
    """Where a definition's nodes stand, those that were moved by hand where they were put."""
    ids = [node["id"] for node in definition["nodes"]]
    known = set(ids)
    edges = list(
        dict.fromkeys(
            edge
            for edge in plan.edges_of(definition)
            if edge[0] in known and edge[1] in known and edge[0] != edge[1]
        )
    )
    return layouts.place(
        layouts.drawable(ids, edges), edges, layouts.positions(definition["nodes"])
    )


def inline(layout: Layout, looks: Mapping[str, Look], title: str, link: str) -> str:
    """The picture for a page of ours, whose style sheet colours it. Each node leads to `link` with its id; a script may set its class and its second line."""
    parts = [_opened(layout, "rm-graph", title)]
    parts += [f'<path d="{curve(points)}"{ARROW}/>' for points in layout.edges.values()]
    parts += [
        f"{_link(node, look, link)}{_inside(layout.nodes[node], look)}</a>"
        for node, look in looks.items()
        if node in layout.nodes
    ]
    return "".join([*parts, "</svg>"])


def editable(
    layout: Layout,
    looks: Mapping[str, Look],
    title: str,
    link: str,
    chosen: str = "",
    conditions: Collection[tuple[str, str]] = (),
) -> str:
    """The same to edit: edges lead to their form, nodes carry a port from which a script draws new edges. `link` is a query that wants its last value."""
    parts = [_opened(layout, "rm-graph fl-graph", title)]
    for (start, end), points in layout.edges.items():
        d, words = (
            curve(points),
            f"{start} leads to {end}" + (" on a condition" if (start, end) in conditions else ""),
        )
        dashed = " fl-conditional" if (start, end) in conditions else ""
        parts.append(
            f'<a href="{escape(link)}&amp;{escape(urlencode({"start": start, "end": end}))}" class="fl-edge{dashed}"'
            f' data-start="{escape(start)}" data-end="{escape(end)}" aria-label="{escape(words)}">'
            f'<title>{escape(words)}</title><path class="fl-hit" d="{d}"/><path d="{d}"{ARROW}/></a>'
        )
    for node, look in looks.items():
        x, y = layout.nodes[node]
        parts.append(
            f"{_link(node, look, f'{link}&node=', ' fl-chosen' if node == chosen else '')}{_inside((x, y), look)}"
            f'<circle class="fl-port" cx="{x + WIDTH:g}" cy="{y + HEIGHT / 2:g}" r="7"/></a>'
        )
    return "".join([*parts, "</svg>"])


def _opened(layout: Layout, style: str, title: str) -> str:
    x, y, width, height = layout.box
    box = f'viewBox="{x:g} {y:g} {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return f'<svg class="{style}" {box} role="group" aria-label="{escape(title)}">{_arrow()}'


def _arrow(colour: str = "") -> str:
    """What the end of an edge looks like."""
    shape = '<marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
    return f'<defs>{shape}<path class="rm-arrow" d="M0,0L8,4L0,8z"{colour}/></marker></defs>'


def _link(node: str, look: Look, link: str, more: str = "") -> str:
    return (
        f'<a href="{escape(link)}{quote(node, safe="")}" class="rm-node rm-{look.state}{more}" data-node="{escape(node)}"'
        f' aria-label="{escape(look.title)}: {look.state}, {escape(look.subtitle)}"><title>{escape(look.title)}: {look.state}</title>'
    )


def _inside(at: Point, look: Look) -> str:
    x, y = at
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x + 10:g}" y="{y + 20:g}">{escape(_short(look.title, 25))}</text>'
        f'<text class="rm-sub" x="{x + 10:g}" y="{y + 37:g}">{MARKS[look.state]} {escape(_short(look.subtitle, 26))}</text>'
    )


def curve(points: Sequence[Point]) -> str:
    """Horizontal at each point, bent in between."""
    text = f"M{points[0][0]:g},{points[0][1]:g}"
    for (x1, y1), (x2, y2) in pairwise(points):
        reach = (x2 - x1) / 2 if x2 > x1 else max(60, (x1 - x2) / 4)
        text += f"C{x1 + reach:g},{y1:g} {x2 - reach:g},{y2:g} {x2:g},{y2:g}"
    return text


def _box(at: Point, look: Look) -> str:
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
