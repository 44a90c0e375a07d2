"""The status and progress of a run: the only place that decides them.

The engine, external updates, LangGraph threads, manual status changes, partial reruns, recounts
and imports all call these functions.
"""

from graphs.definition.topology import Topology
from runs.core import statuses
from runs.core.node_counts import DONE, KNOWN, NodeCounts


def final_status(
    succeeded: int, failed: int, stopped: bool = False, stop_at_failure: bool = False
) -> str:
    """The status of a run that has nothing left to do.

    `succeeded` and `failed` are numbers of states. `stopped` says that the engine stopped the run
    early; `stop_at_failure` that its graph counts one failure as a failure of the whole.
    """
    if not failed and not stopped:
        return statuses.COMPLETED
    if not succeeded or (failed and stop_at_failure):
        return statuses.FAILED
    return statuses.PARTIAL


def active_status(paused: bool, waiting: int, pending: int) -> str:
    """The status of a run that has `pending` unfinished states, `waiting` of them for a person."""
    return statuses.PAUSED if paused or waiting == pending else statuses.RUNNING


def reported_status(status: str, paused: bool) -> str:
    """The status of an external run whose program reports `status`.

    A run that a person paused stays paused while its program goes on running.
    """
    return statuses.PAUSED if paused and status == statuses.RUNNING else status


def progress(status: str, percent: int, reached: int = 0) -> int:
    """The progress to store for a run, from 0 to 100.

    Completed runs, and no others, have 100. `reached` is the progress that the run had: progress
    never goes back, except for a run that is no longer completed.
    """
    if status == statuses.COMPLETED:
        return 100
    return min(max(reached, percent), 99)


def percent(done: float, total: int) -> int:
    return int(100 * done / max(total, 1))


def percent_of_nodes(
    shape: Topology, node_counts: NodeCounts, ended: bool, running: float = 0.0
) -> int:
    """The mean, over the nodes of a graph, of the share of their known states that succeeded.

    `running` is added for states that report how far they are. Once a run has `ended`, nodes that
    were never reached count as done if a condition skipped them, and not if a failure did.
    """
    done = sum(counts[DONE] / counts[KNOWN] for counts in node_counts.values() if counts[KNOWN])
    skipped = _skipped_by_conditions(shape, node_counts) if ended else 0
    return percent(done + running + skipped, len(shape.order))


def _skipped_by_conditions(shape: Topology, node_counts: NodeCounts) -> int:
    """The number of nodes that were never reached although all before them succeeded."""
    unreached = [shape.ancestors[node] for node in shape.order if node not in node_counts]
    if not unreached:
        return 0
    incomplete = [node for node, counts in node_counts.items() if counts[DONE] < counts[KNOWN]]
    broken = unreached[0].order.set_of(incomplete)
    return sum(not ancestors & broken for ancestors in unreached)
