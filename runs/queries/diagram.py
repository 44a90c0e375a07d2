"""The diagram of a run: its graph, with the state and the progress of each node.

It shows the nodes of the graph and not the states, of which there may be any number.
"""

from collections.abc import Iterable
from functools import lru_cache

from graphs.definition import plan
from graphs.models import GraphVersion
from graphs.rendering import layout, surroundings, svg
from runs.core import statuses
from runs.core.node_counts import BAD, DONE, KNOWN
from runs.models import Run

MAX_NODES = 400  # on a page; of a larger graph it shows the neighbourhood of the important nodes
HOPS = 2
MAX_CENTRES = 20

PlacedGraph = tuple[layout.Layout, tuple[str, ...]]  # the layout, and the nodes that it shows


def run_svg(run: Run) -> str:
    """The graph of a run as a complete SVG file. The run must have a version."""
    placed, nodes = _placed(_version(run).pk, None)
    return svg.svg(placed, looks(run, nodes), f"{run}: {run.status}")


def inline_svg(run: Run, link: str) -> str:
    """The graph of a run as SVG for a page. The run must have a version.

    Of a large graph only the surroundings of the current node and the failed ones are shown. Each
    node is a link: `link` followed by the node's name.
    """
    placed, nodes = _placed(_version(run).pk, _shown(run))
    return svg.inline(placed, looks(run, nodes), f"Graph of {run}", link)


def marks(run: Run) -> list[tuple[str, str, str]]:
    """(node, state, second line) of each node that has states, for the script of the page.

    Of a large graph, only of the nodes that the page shows.
    """
    shown = _shown(run)
    nodes = [node for node in run.node_counts if shown is None or node in shown]
    return [
        (node, look.state, f"{svg.MARKS[look.state]} {look.subtitle}")
        for node, look in looks(run, nodes).items()
    ]


def looks(run: Run, nodes: Iterable[str]) -> dict[str, svg.Look]:
    """What each of these nodes looks like. Nodes that the version doesn't have are left out."""
    definitions = {node["id"]: node for node in _version(run).definition["nodes"]}
    looks_by_node = {}
    for node in nodes:
        if node not in definitions:
            continue
        definition = definitions[node]
        counts = run.node_counts.get(node)
        looks_by_node[node] = svg.Look(
            definition.get("label") or node,
            _subtitle(definition["kind"], counts),
            _state(run, counts),
        )
    return looks_by_node


def _version(run: Run) -> GraphVersion:
    assert run.version is not None
    return run.version


@lru_cache(maxsize=64)
def _placed(version_pk: int, shown: frozenset[str] | None) -> PlacedGraph:
    """The layout of a version, or of some of its nodes. Versions never change, so it is cached."""
    version = GraphVersion.objects.get(pk=version_pk)
    nodes = version.plan.order
    edges = plan.edges_of(version.definition)
    if shown is not None:
        nodes = tuple(node for node in nodes if node in shown)
        edges = [(start, end) for start, end in edges if start in shown and end in shown]
    return layout.place(nodes, edges, layout.positions(version.definition["nodes"])), nodes


def _shown(run: Run) -> frozenset[str] | None:
    """The nodes that a page shows; None for all."""
    is_large = len(_version(run).plan.order) > MAX_NODES
    return _neighbourhood(run) if is_large else None


def _neighbourhood(run: Run) -> frozenset[str]:
    """The nodes up to two edges away from the current node and the failed ones.

    If there are none of these, the nodes around the first one.
    """
    shape = _version(run).plan.shape
    failed = [node for node, counts in run.node_counts.items() if counts[BAD]]
    centres = [run.current_node, *failed][:MAX_CENTRES]
    known = [node for node in centres if node in shape.children] or [shape.order[0]]

    def neighbours(node: str) -> Iterable[str]:
        return (*shape.children[node], *shape.parents[node])

    return frozenset(surroundings.nearest(known, neighbours, MAX_NODES, HOPS))


def _state(run: Run, counts: list[int] | None) -> str:
    if counts is None:
        return "waiting"
    if counts[BAD]:
        return "failed"
    if counts[DONE] == counts[KNOWN]:
        return "done"
    # While a run is queued or paused, nothing in it runs.
    return "running" if run.status == statuses.RUNNING else "waiting"


def _subtitle(kind: str, counts: list[int] | None) -> str:
    if counts is None or (counts[KNOWN] <= 1 and not counts[BAD]):
        return kind
    failed = f", {counts[BAD]:,} failed" if counts[BAD] else ""
    return f"{kind} {counts[DONE]:,}/{counts[KNOWN]:,}{failed}"


def forget() -> None:
    """Drop the cached layouts. Tests need it, because ids of versions start again at 1."""
    _placed.cache_clear()
