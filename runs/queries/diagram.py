"""The picture of a run: its graph, with how far each node is. It shows nodes of the graph, not states, however many of these there are."""

from collections.abc import Iterable
from functools import lru_cache

from graphs.definition import plan
from graphs.models import GraphVersion
from graphs.rendering import layout, svg
from runs.core.node_counts import BAD, DONE, KNOWN
from runs.models import Run

WHOLE = 400  # nodes up to which a page shows the whole picture; beyond, the neighbourhood of what matters
HOPS = 2


def run_svg(run: Run) -> str:
    """The graph of a run as SVG that looks the same anywhere, each node with its state and counts. The run must have a version."""
    placed, shown = _placed(_version(run).pk, None)
    return svg.svg(placed, looks(run, shown), f"{run}: {run.status}")


def inline_svg(run: Run, link: str) -> str:
    """The same for a page: of a large graph only what surrounds the current and the failed nodes. `link` leads to a node's states."""
    order = _version(run).plan.order
    around = None if len(order) <= WHOLE else _neighbourhood(run)
    placed, shown = _placed(_version(run).pk, around)
    return svg.inline(placed, looks(run, shown), f"Graph of {run}", link)


def marks(run: Run) -> list[tuple[str, str, str]]:
    """(node, state, second line) of every node that has states, for a script to draw."""
    return [
        (node, look.state, f"{svg.MARKS[look.state]} {look.subtitle}")
        for node, look in looks(run, run.node_counts).items()
    ]


def looks(run: Run, nodes: Iterable[str]) -> dict[str, svg.Look]:
    definition = {node["id"]: node for node in _version(run).definition["nodes"]}
    found = {}
    for node in nodes:
        if (known := definition.get(node)) is not None:
            counts = run.node_counts.get(node)
            found[node] = svg.Look(
                known.get("label") or node, _subtitle(known["kind"], counts), _state(run, counts)
            )
    return found


def _version(run: Run) -> GraphVersion:
    assert run.version is not None
    return run.version


@lru_cache(maxsize=64)
def _placed(version: int, around: frozenset[str] | None) -> tuple[layout.Layout, tuple[str, ...]]:
    """The layout of a version, or of these nodes of it; versions never change, so each is laid out once a process."""
    found = GraphVersion.objects.get(pk=version)
    order, edges = found.plan.order, plan.edges_of(found.definition)
    if around is not None:
        order = tuple(node for node in order if node in around)
        edges = [(start, end) for start, end in edges if start in around and end in around]
    return layout.place(order, edges, layout.positions(found.definition["nodes"])), order


def _neighbourhood(run: Run) -> frozenset[str]:
    """What is up to two edges away from the current node and the failed ones; else from the first."""
    shape = _version(run).plan.shape
    centre = {node for node, counts in run.node_counts.items() if counts[BAD]} | {run.current_node}
    found = {node for node in list(centre)[:20] if node in shape.children} or {shape.order[0]}
    near = set(found)
    for _ in range(HOPS):
        near = {each for node in near for each in (*shape.children[node], *shape.parents[node])}
        found |= near
        if len(found) > WHOLE:
            break
    return frozenset(sorted(found)[:WHOLE])


def _state(run: Run, counts: list[int] | None) -> str:
    if counts is None:
        return "waiting"
    if counts[BAD]:
        return "failed"
    if counts[DONE] == counts[KNOWN]:
        return "done"
    return "waiting" if run.ended else "running"


def _subtitle(kind: str, counts: list[int] | None) -> str:
    if counts is None:
        return kind
    failed = f", {counts[BAD]:,} failed" if counts[BAD] else ""
    return (
        f"{kind} {counts[DONE]:,}/{counts[KNOWN]:,}{failed}"
        if counts[KNOWN] > 1 or counts[BAD]
        else kind
    )


def forget() -> None:
    """Drop what this process knows of versions (ids begin anew in tests)."""
    _placed.cache_clear()
