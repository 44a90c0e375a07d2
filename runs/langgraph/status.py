"""The status of a LangGraph thread, read from its newest checkpoint and from what its tasks wrote on top of it."""

from collections.abc import Iterable

from django.db.models import QuerySet

from runs.core import statuses
from runs.engine import status_rules
from runs.engine.counters import RunCounters
from runs.models import Checkpoint, CheckpointWrite, Run

ERROR, INTERRUPT, RESUME = "__error__", "__interrupt__", "__resume__"


def heard(
    run_counters: RunCounters, checkpoint_id: str, channels: Iterable[str], error: str
) -> None:
    """Move the thread's run after a task's writes were stored, if they are ahead; `error` says in words why the task failed, if it did.

    An answer alone takes the thread on, whatever was asked or went wrong before it. Results change only what is said of a thread that stands still.
    """
    own = {ERROR, INTERRUPT, RESUME} & set(channels)
    if run_counters.status == statuses.RUN_CANCELLED or not (
        own or run_counters.status in (statuses.FAILED, statuses.PAUSED)
    ):
        return
    if Checkpoint.objects.filter(
        run=run_counters.pk, ns="", checkpoint_id__gt=checkpoint_id
    ).exists():
        return
    if own == {RESUME}:
        _move(run_counters, statuses.RUNNING)
    else:
        judge(run_counters, error=error)


def judge(run_counters: RunCounters, even_cancelled: bool = False, error: str = "") -> None:
    """The status as the newest checkpoint tells it; a thread without any is as good as new. A cancelled one stays so until there is new input.

    LangGraph may store what tasks wrote before the checkpoint that they wrote for, and that one after the one before it: what is ahead of the newest counts.
    """
    if run_counters.status == statuses.RUN_CANCELLED and not even_cancelled:
        return
    newest = (
        Checkpoint.objects.filter(run=run_counters.pk, ns="").order_by("-checkpoint_id").first()
    )
    writes = CheckpointWrite.objects.filter(
        run=run_counters.pk, ns="", checkpoint_id__gte=newest.checkpoint_id if newest else ""
    )
    open_ = _of_open_tasks(writes)
    if ERROR in open_:
        _move(run_counters, statuses.FAILED, error)
    elif INTERRUPT in open_:
        _move(run_counters, statuses.PAUSED)
    elif newest is None:
        _move(run_counters, statuses.RUN_QUEUED)
    else:
        _move(run_counters, statuses.RUNNING if newest.pending else statuses.COMPLETED)


def _of_open_tasks(writes: QuerySet[CheckpointWrite]) -> set[str]:
    """LangGraph's own channels that tasks without a result wrote to: what one that is done asked before, or failed of, is over."""
    rows = list(writes.values_list("checkpoint_id", "task_id", "idx", "channel"))
    done = {row[:2] for row in rows if row[2] >= 0}
    return {channel for *task, index, channel in rows if index < 0 and tuple(task) not in done}


def _move(run_counters: RunCounters, status: str, error: str = "") -> None:
    if status in statuses.ACTIVE_RUNS and not run_counters.open:  # the thread goes on
        Run.objects.filter(pk=run_counters.pk).update(archived_at=None)
    run_counters.status = status_rules.reported_status(status, run_counters.paused)
    run_counters.progress = status_rules.progress(status, 0, run_counters.progress)
    run_counters.error_message = (
        (error or run_counters.error_message or "A task of the thread failed.")
        if status == statuses.FAILED
        else ""
    )
