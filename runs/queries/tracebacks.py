"""The tracebacks of states that failed, which the log of the run has."""

from collections.abc import Sequence
from uuid import UUID

from runs.engine.tracebacks import HEADING
from runs.models import LogLine, Run, State

MAX_READ = 50


def of_states(run: Run, failed: Sequence[State]) -> dict[UUID, str]:
    """The tracebacks of these states of the run.

    A state that failed as another one of its node did before has none of its own in the log; it
    gets that of the other one.
    """
    if not failed:
        return {}
    names = {state.identifier for state in failed}
    lines = LogLine.objects.filter(
        run=run, level="error", identifier__in=names, message__contains=HEADING
    )
    newest = list(lines.order_by("-pk")[:MAX_READ])
    found = {}
    for state in failed:
        fitting = [line for line in newest if _fits(line, state)]
        own = [line for line in fitting if line.state == state.pk]
        if fitting:
            found[state.pk] = (own or fitting)[0].message
    return found


def _fits(line: LogLine, state: State) -> bool:
    """Whether the line is of the state's node and names the type of its error."""
    kind = state.error.partition(":")[0]
    return line.identifier == state.identifier and kind in line.message
