"""The picture of a run: its graph, with how far each node is."""

from graphs import layout, plan
from runs.models import Run
from runs.tally import BAD, DONE, KNOWN


def run_svg(run: Run) -> str:
    """The graph of a run as SVG, each node with its state and counts. The run must have a version."""
    assert run.version is not None
    definition, shape = run.version.definition, run.version.plan.shape
    titles = {node["id"]: node.get("label") or node["id"] for node in definition["nodes"]}
    kinds = {node["id"]: node["kind"] for node in definition["nodes"]}
    placed = layout.place(shape.order, plan.edges_of(definition))
    looks = {node: layout.Look(titles[node], _subtitle(kinds[node], run.tally.get(node)), _state(run.tally.get(node))) for node in shape.order}
    return layout.svg(placed, looks, f"{run}: {run.status}")


def _state(counts: list[int] | None) -> str:
    if counts is None:
        return "waiting"
    if counts[BAD]:
        return "failed"
    return "done" if counts[DONE] == counts[KNOWN] else "running"


def _subtitle(kind: str, counts: list[int] | None) -> str:
    if counts is None:
        return kind
    failed = f", {counts[BAD]} failed" if counts[BAD] else ""
    return f"{kind} {counts[DONE]}/{counts[KNOWN]}{failed}" if counts[KNOWN] > 1 or counts[BAD] else kind
