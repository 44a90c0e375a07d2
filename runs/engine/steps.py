"""Steps: what all attempts and retries of a state share."""

from runs.core import paths
from runs.engine.types import idempotency_key, step_name
from runs.models import Run, State

MAX_ATTEMPTS = 200  # states of a step that are listed


def step_path(run: Run, state: State) -> str:
    """The path of the state as it was while its node ran."""
    node = run.version.plan.nodes.get(state.identifier) if run.version else None
    return paths.step(state.path, node.index) if node else state.path


def step_of(run: Run, state: State) -> str:
    """The name of the step, which is that of `Claimed.step`."""
    return step_name(state.identifier, step_path(run, state))


def key_of(run: Run, state: State) -> str:
    """The idempotency key that the node was given."""
    return idempotency_key(run.namespace.name, run.run_id, step_of(run, state))


def states_of_step(run: Run, state: State) -> list[State]:
    """The states that were made for the same step, in the order of their creation.

    The siblings of a fan-out belong to one step, but only the first of them ran.
    """
    path = step_path(run, state)
    same_node = run.states.filter(identifier=state.identifier, path__gte=path)
    below = same_node.filter(path__lte=paths.last(path)).order_by("pk")
    without_payloads = below.defer("inputs", "outputs", "chosen", "answer", "waiting_for")
    return [
        each
        for each in without_payloads[:MAX_ATTEMPTS]
        if step_path(run, each) == path and (each.path == path or each.path.endswith((":0", ":-")))
    ]
