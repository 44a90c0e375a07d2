"""The status of a LangGraph thread.

It is read from the thread's newest checkpoint and from what tasks wrote on top of it. LangGraph may
store writes before the checkpoint that they belong to, and a checkpoint before the one that
precedes it. Whatever is ahead of the newest checkpoint therefore counts, too.
"""

from collections.abc import Collection, Iterable, Mapping

from django.db.models import QuerySet

from runs.core import statuses
from runs.engine import status_rules
from runs.engine.counters import RunCounters
from runs.models import Checkpoint, CheckpointWrite, Run

# LangGraph's names of channels.
ERROR, INTERRUPT, RESUME = "__error__", "__interrupt__", "__resume__"
START, TASKS = "__start__", "__pregel_tasks"
BRANCH_PREFIX, JOIN_PREFIX = "branch:to:", "join:"


def update(run_counters: RunCounters, even_cancelled: bool = False, error: str = "") -> None:
    """Set the run's status to that of its newest checkpoint; without one the run is queued again.

    A cancelled run stays cancelled unless `even_cancelled`, which new input calls for. `error` is
    the message of the task that has just failed, if one has.
    """
    if run_counters.status == statuses.RUN_CANCELLED and not even_cancelled:
        return
    newest = (
        Checkpoint.objects.filter(run=run_counters.pk, ns="").order_by("-checkpoint_id").first()
    )
    writes = CheckpointWrite.objects.filter(
        run=run_counters.pk, ns="", checkpoint_id__gte=newest.checkpoint_id if newest else ""
    )
    channels = _channels_of_open_tasks(writes)
    if ERROR in channels:
        _move(run_counters, statuses.FAILED, error)
    elif INTERRUPT in channels:
        _move(run_counters, statuses.PAUSED)
    elif newest is None:
        _move(run_counters, statuses.RUN_QUEUED)
    else:
        _move(run_counters, statuses.RUNNING if newest.pending else statuses.COMPLETED)


def update_after_writes(
    run_counters: RunCounters, checkpoint_id: str, channels: Iterable[str], error: str
) -> None:
    """Set the run's status after a task's writes on top of a checkpoint were stored.

    `channels` are those that the task wrote to, `error` is its message if it failed. Writes behind
    the newest checkpoint change nothing. An answer alone makes the thread run again, whatever was
    asked or failed before. Ordinary results matter only to a thread that is failed or paused.
    """
    control = {ERROR, INTERRUPT, RESUME} & set(channels)
    is_stopped = run_counters.status in (*statuses.UNSUCCESSFUL, statuses.PAUSED)
    if run_counters.status == statuses.RUN_CANCELLED or not (control or is_stopped):
        return
    if is_behind(run_counters.pk, checkpoint_id):
        return
    if control == {RESUME}:
        _move(run_counters, statuses.RUNNING)
    else:
        update(run_counters, error=error)


def is_behind(run: int, checkpoint_id: str) -> bool:
    """Return whether the run's main namespace has a newer checkpoint; ids sort by time."""
    return Checkpoint.objects.filter(run=run, ns="", checkpoint_id__gt=checkpoint_id).exists()


def _channels_of_open_tasks(writes: QuerySet[CheckpointWrite]) -> set[str]:
    """Return the control channels of tasks that have no result yet.

    The errors and questions of a task that has a result are over.
    """
    rows = list(writes.values_list("checkpoint_id", "task_id", "idx", "channel"))
    with_result = {
        (checkpoint_id, task_id) for checkpoint_id, task_id, index, _ in rows if index >= 0
    }
    return {
        channel
        for checkpoint_id, task_id, index, channel in rows
        if index < 0 and (checkpoint_id, task_id) not in with_result
    }


def _move(run_counters: RunCounters, status: str, error: str = "") -> None:
    if status in statuses.ACTIVE_RUNS and not run_counters.open:
        Run.objects.filter(pk=run_counters.pk).update(archived_at=None)
    run_counters.status = status_rules.reported_status(status, run_counters.paused)
    run_counters.progress = status_rules.progress(status, 0, run_counters.progress)
    if status == statuses.FAILED:
        message = error or run_counters.error_message
        run_counters.error_message = message or "A task of the thread failed."
    else:
        run_counters.error_message = ""


# --- the nodes that run next --------------------------------------------------------------------


def pending_nodes(channel_values: Mapping[str, object]) -> list[str]:
    """Return the nodes that run next: those whose channels have a value for them."""
    branches = [
        channel.removeprefix(BRANCH_PREFIX)
        for channel in channel_values
        if channel.startswith(BRANCH_PREFIX)
    ]
    joins = [
        channel.rpartition(":")[2]
        for channel, value in channel_values.items()
        if channel.startswith(JOIN_PREFIX) and _is_complete(channel, value)
    ]
    nodes = branches + joins
    if START in channel_values:
        nodes.append(START)
    if channel_values.get(TASKS):
        nodes.append(TASKS)
    return nodes


def _is_complete(channel: str, value: object) -> bool:
    """Return whether a join has everything that it waits for.

    The channel `join:a+b:c` makes the node c wait for a and b. Its value is the set of those that
    are done or, if c is deferred, a pair of that set and whether c may run.
    """
    done = value[0] if isinstance(value, tuple | list) and value else value
    awaited = channel.removeprefix(JOIN_PREFIX).rpartition(":")[0]
    # Names may contain "+", so the lengths are compared, not the names.
    return isinstance(done, Collection) and len("+".join(done)) == len(awaited)
