"""Counts the executions whose result was never recorded, for each process.

The nodes `test.count`, `test.tick`, `test.sleep` and others write one line for each execution.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from runs.models import State

# The promised size of a batch. The figures are repeated here, not imported from the engine:
# changing the engine must not change the promise.
BATCH_STATES = 100
BATCH_SECONDS = 0.020


class Execution(NamedTuple):
    state: str
    attempt: str
    process: str
    node: str


def executions(log: Path) -> list[Execution]:
    if not log.exists():
        return []
    return [Execution(*line.split()) for line in log.read_text().splitlines()]


def unrecorded_executions(log: Path) -> dict[str, Counter[str]]:
    """{process: {node: executions}} of the attempts that were never recorded.

    Also asserts that no attempt began twice.
    """
    begun = executions(log)
    times_begun = Counter((execution.state, execution.attempt) for execution in begun)
    begun_twice = [attempt for attempt, times in times_begun.items() if times > 1]
    assert not begun_twice, f"the same attempt was executed twice: {begun_twice}"

    recorded = State.objects.exclude(status="TIMEDOUT").values_list("pk", "attempt")
    last_attempts = {pk.hex: attempt for pk, attempt in recorded}
    unrecorded: dict[str, Counter[str]] = {}
    for execution in begun:
        last_attempt = last_attempts.get(execution.state.replace("-", ""), 0)
        if int(execution.attempt) != last_attempt:
            unrecorded.setdefault(execution.process, Counter())[execution.node] += 1
    return unrecorded


def assert_few_unrecorded(
    log: Path,
    fast: dict[str, float],
    waiting: tuple[str, ...] = (),
    side_effects: tuple[str, ...] = (),
) -> dict[str, Counter[str]]:
    """Return the unrecorded executions, after asserting that no process has more than promised.

    Promised are, at most: one batch of fast nodes, one state of a slow node, one state of each node
    with side effects, and the states that the process waited for. `fast` maps each fast node to the
    seconds that one execution takes at least.
    """
    unrecorded = unrecorded_executions(log)
    for process, nodes in unrecorded.items():
        slow = [node for node in nodes.elements() if node not in fast and node not in waiting]
        assert len(slow) <= 1, f"{process} lost more than one state of slow nodes: {slow}"
        assert all(nodes[node] <= 1 for node in side_effects), (
            f"{process} lost more than one state with side effects: {nodes}"
        )

        batch = [fast[node] for node in nodes.elements() if node in fast]
        assert len(batch) <= BATCH_STATES, f"{process} lost {len(batch)} states of fast nodes"
        # The last state may begin just before the batch's time is over.
        begun_in_time = sum(batch) - max(batch, default=0)
        assert begun_in_time <= BATCH_SECONDS, (
            f"{process} lost {len(batch)} states with {sum(batch):.3f} s of work"
        )
    return unrecorded
