"""Starts external runs, and summarizes runs for assertions."""

from typing import Any

from graphs.models import Namespace
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside
from runs.models import Run


def by_node(run: Run) -> dict[str, list[str]]:
    """{identifier: statuses of its states}."""
    statuses: dict[str, list[str]] = {}
    for state in run.states.order_by("path", "retry_count", "id"):
        statuses.setdefault(state.identifier, []).append(state.status)
    return statuses


def outside(**options: Any) -> Run:
    """Start an external run in the namespace alpha; `options` are those of RunOptions."""
    namespace, _ = Namespace.objects.get_or_create(name="alpha")
    return start_outside(namespace, RunOptions(**options))


def outputs(run: Run, identifier: str) -> list[dict[str, Any] | None]:
    """The outputs of a node's successful states, in the order of their paths."""
    return [
        state.outputs
        for state in run.states.filter(identifier=identifier, status="SUCCESS").order_by("path")
    ]
