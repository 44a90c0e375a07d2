"""External runs, and what a run looks like for assertions."""

from typing import Any

from graphs.models import Namespace
from runs.engine.start import RunOptions, start_outside
from runs.models import Run


def by_node(run: Run) -> dict[str, list[str]]:
    """{identifier: statuses}, for assertions."""
    found: dict[str, list[str]] = {}
    for state in run.states.order_by("path", "retry_count", "id"):
        found.setdefault(state.identifier, []).append(state.status)
    return found


def outside(**options: Any) -> Run:
    """A new external run in the namespace alpha; `options` are those of RunOptions."""
    namespace, _ = Namespace.objects.get_or_create(name="alpha")
    return start_outside(namespace, RunOptions(**options))


def outputs(run: Run, identifier: str) -> list[dict[str, Any] | None]:
    """What the states of a node gave, in the order of their paths."""
    return [
        state.outputs
        for state in run.states.filter(identifier=identifier, status="SUCCESS").order_by("path")
    ]
