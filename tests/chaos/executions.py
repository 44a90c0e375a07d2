"""What was executed in vain, by the process that did it, from the lines that `test.count` and its kin leave; and how much of it we promise at most."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from runs.models import State

BATCH_STATES, BATCH_SECONDS = (
    100,
    0.020,
)  # as promised; not as the engine has them, or a change there would change the promise


class Execution(NamedTuple):
    state: str
    attempt: str
    process: str
    node: str


def executions(log: Path) -> list[Execution]:
    return (
        [Execution(*line.split()) for line in log.read_text().splitlines()] if log.exists() else []
    )


def in_vain(log: Path) -> dict[str, Counter[str]]:
    """{process: {node: executions}} of attempts that were never recorded. No attempt begins twice."""
    found = executions(log)
    twice = [
        each
        for each, times in Counter((each.state, each.attempt) for each in found).items()
        if times > 1
    ]
    assert not twice, f"begun again under the same attempt: {twice}"
    last = {
        pk.hex: (attempt, lost)
        for pk, attempt, lost in State.objects.exclude(status="TIMEDOUT").values_list(
            "pk", "attempt", "lost_leases"
        )
    }
    lost: dict[str, Counter[str]] = {}
    for each in found:
        if int(each.attempt) != last.get(each.state.replace("-", ""), (0, 0))[0]:
            lost.setdefault(each.process, Counter())[each.node] += 1
    return lost


def little_in_vain(
    log: Path, fast: dict[str, float], waiting: tuple[str, ...] = (), alone: tuple[str, ...] = ()
) -> dict[str, Counter[str]]:
    """What each process did in vain, which is no more than promised: its slice of fast nodes, whose executions take at least so many seconds, one state of
    a slow node, one of each that stands `alone`, and those that it waited for."""
    lost = in_vain(log)
    for process, nodes in lost.items():
        slow = [node for node in nodes.elements() if node not in fast and node not in waiting]
        assert len(slow) <= 1, f"{process} had more than one state of slow nodes in hand: {slow}"
        assert all(nodes[node] <= 1 for node in alone), (
            f"{process} had more than one state with side effects in hand: {nodes}"
        )
        quick = [fast[node] for node in nodes.elements() if node in fast]
        assert len(quick) <= BATCH_STATES, f"{process} had {len(quick)} states in hand"
        begun_in_time = sum(quick) - max(
            quick, default=0
        )  # the last one may be begun just before the slice is over
        assert begun_in_time <= BATCH_SECONDS, (
            f"{process} had {len(quick)} states with {sum(quick):.3f} s of work in hand"
        )
    return lost
