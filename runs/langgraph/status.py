"""The status of a LangGraph thread, read from its newest checkpoint and from what its tasks wrote on top of it."""

from collections.abc import Iterable

from django.db.models import QuerySet

from runs.core import statuses
from runs.engine.counters import Ledger
from runs.models import Checkpoint, CheckpointWrite, Run

ERROR, INTERRUPT, RESUME = "__error__", "__interrupt__", "__resume__"


def heard(book: Ledger, checkpoint_id: str, channels: Iterable[str], error: str) -> None:
    """Move the thread's run after a task's writes were stored, if they are ahead; `error` says in words why the task failed, if it did.

    An answer alone takes the thread on, whatever was asked or went wrong before it. Results change only what is said of a thread that stands still.
    """
    own = {ERROR, INTERRUPT, RESUME} & set(channels)
    if book.status == statuses.RUN_CANCELLED or not (own or book.status in (statuses.FAILED, statuses.PAUSED)):
        return
    if Checkpoint.objects.filter(run=book.pk, ns="", checkpoint_id__gt=checkpoint_id).exists():
        return
    if own == {RESUME}:
        _move(book, statuses.RUNNING)
    else:
        judge(book, error=error)


def judge(book: Ledger, even_cancelled: bool = False, error: str = "") -> None:
    """The status as the newest checkpoint tells it; a thread without any is as good as new. A cancelled one stays so until there is new input.

    LangGraph may store what tasks wrote before the checkpoint that they wrote for, and that one after the one before it: what is ahead of the newest counts.
    """
    if book.status == statuses.RUN_CANCELLED and not even_cancelled:
        return
    newest = Checkpoint.objects.filter(run=book.pk, ns="").order_by("-checkpoint_id").first()
    writes = CheckpointWrite.objects.filter(run=book.pk, ns="", checkpoint_id__gte=newest.checkpoint_id if newest else "")
    open_ = _of_open_tasks(writes)
    if ERROR in open_:
        _move(book, statuses.FAILED, error)
    elif INTERRUPT in open_:
        _move(book, statuses.PAUSED)
    elif newest is None:
        _move(book, statuses.RUN_QUEUED)
    else:
        _move(book, statuses.RUNNING if newest.pending else statuses.COMPLETED)


def _of_open_tasks(writes: QuerySet[CheckpointWrite]) -> set[str]:
    """LangGraph's own channels that tasks without a result wrote to: what one that is done asked before, or failed of, is over."""
    rows = list(writes.values_list("checkpoint_id", "task_id", "idx", "channel"))
    done = {row[:2] for row in rows if row[2] >= 0}
    return {channel for *task, index, channel in rows if index < 0 and tuple(task) not in done}


def _move(book: Ledger, status: str, error: str = "") -> None:
    if status in statuses.ACTIVE_RUNS and not book.open:  # the thread goes on
        Run.objects.filter(pk=book.pk).update(archived_at=None)
    book.status = statuses.PAUSED if book.held and status == statuses.RUNNING else status
    book.progress = 100 if status == statuses.COMPLETED else min(book.progress, 99)
    book.error_message = (error or book.error_message or "A task of the thread failed.") if status == statuses.FAILED else ""
