"""The context of a run: its plan and what became of its nodes."""

from graphs.definition.types import JsonObject
from runs.core import statuses
from runs.core.node_counts import BAD, DONE, KNOWN
from runs.models import Run


def context_of(run: Run) -> JsonObject:
    """The plan of a run and what became of its nodes; empty while the run is queued."""
    if run.version is None or run.status == statuses.RUN_QUEUED:
        return {}
    plan = run.version.plan
    node_counts = run.node_counts
    started = [node for node in plan.order if node in node_counts]
    failed = [node for node in started if node_counts[node][BAD]]
    broken = set(failed)
    executed = [
        node
        for node in started
        if node not in broken and node_counts[node][DONE] == node_counts[node][KNOWN]
    ]
    skipped = [
        node
        for node in plan.order
        if node not in node_counts and plan.shape.ancestors[node] & broken
    ]
    context: JsonObject = {
        "dataset_id": run.dataset_id,
        "graph_id": str(run.graph_id),
        "plan": list(plan.order),
        "total_steps": len(plan.order),
        "executed_nodes": executed,
        "failed_nodes": failed,
        "skipped_nodes": skipped,
    }
    if run.ended:
        context["total_emitted"] = run.emitted
    return context
