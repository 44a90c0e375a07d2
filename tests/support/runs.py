"""What a run looks like, for assertions."""

from runs.models import Run


def by_node(run: Run) -> dict[str, list[str]]:
    """{identifier: statuses}, for assertions."""
    found: dict[str, list[str]] = {}
    for state in run.states.order_by("path", "retry_count", "id"):
        found.setdefault(state.identifier, []).append(state.status)
    return found
