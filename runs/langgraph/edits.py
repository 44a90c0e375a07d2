"""What people do with single checkpoints of a thread: fork the thread from one, or delete one."""

from collections.abc import Callable
from itertools import islice

from django.db import transaction

from graphs.auth.callers import Caller
from graphs.definition import errors, redaction, uuids
from graphs.definition.differences import MAX_DIFFERENCES, Difference, differences
from runs.actions.delete import DELETE_RIGHT
from runs.engine import counters
from runs.external import documents
from runs.langgraph import prune, threads, viewer
from runs.models import AuditEntry, Checkpoint, Run

MAX_FORKED = 10_000  # checkpoints that a fork copies
MAX_STEM = 160  # characters of a thread's id that the id of its fork keeps


def changes(checkpoint: Checkpoint, payloads: bool) -> list[Difference]:
    """What changed in the values since the checkpoint before this one, secrets hidden.

    Nothing is said to a caller who may not see payloads.
    """
    if not payloads:
        return []
    before = Checkpoint.objects.filter(
        run=checkpoint.run_id, ns=checkpoint.ns, checkpoint_id=checkpoint.parent_checkpoint_id
    ).first()
    former = redaction.shown(viewer.inspected(before)["values"]) if before else {}
    values = redaction.shown(viewer.inspected(checkpoint)["values"])
    return list(islice(differences(former, values), MAX_DIFFERENCES))


def fork(run: Run, checkpoint: Checkpoint, caller: Caller, thread_id: str = "") -> Run:
    """Make a new thread that goes on from this checkpoint, and leave the old one as it is.

    The program of the thread takes it up when it is invoked with the new thread id and no input.
    Raises Forbidden without the right to start runs, Conflict for what is no checkpoint of a
    thread or if the id is taken, and TooLarge for a thread of too many checkpoints, or if it would
    store more than it may.
    """
    caller.require("start", run.namespace_id)
    _require_thread(checkpoint)
    if checkpoint.ns:
        raise errors.Conflict("Fork the thread from a checkpoint of its main namespace.")
    if Checkpoint.objects.filter(run=run).count() > MAX_FORKED:
        raise errors.TooLarge(f"A thread of more than {MAX_FORKED:,} checkpoints isn't forked.")
    target = thread_id or f"{run.run_id[:MAX_STEM]}-{uuids.uuid7()}"
    with transaction.atomic():
        forked = threads.copy_until(run.namespace, run, checkpoint.checkpoint_id, target)
        Run.objects.filter(pk=forked.pk).update(
            parent=run,
            root=run.root or run.pk,
            name=run.name,
            workspace=run.workspace,
            session_id=run.session_id,
            trigger=Run.Trigger.RERUN,
            user=caller.user,
            username=caller.username,
            origin={"how": f"forked from {checkpoint.checkpoint_id}"},
        )
        AuditEntry.objects.record(caller, "fork", forked, f"from {run.run_id}")
    forked.refresh_from_db()
    return forked


def delete_checkpoint(run: Run, checkpoint: Checkpoint, caller: Caller) -> None:
    """Delete a checkpoint of a thread with its writes. The ones after it follow the one before it.

    Raises Forbidden without the right to delete runs, and Conflict for what is no checkpoint of a
    thread or is needed by a later one.
    """
    caller.require(DELETE_RIGHT, run.namespace_id)
    _require_thread(checkpoint)
    with transaction.atomic():
        run_counters = counters.lock([run.pk]).get(run.pk)
        of_thread = Checkpoint.objects.filter(run=run, ns=checkpoint.ns)
        row = of_thread.filter(pk=checkpoint.pk).first()
        if run_counters is None or row is None:
            raise errors.NotFound("The checkpoint has just been deleted.")
        prune.delete_one(run_counters, row)
        of_thread.filter(parent_checkpoint_id=row.checkpoint_id).update(
            parent_checkpoint_id=row.parent_checkpoint_id
        )
        AuditEntry.objects.record(caller, "delete_checkpoint", run, row.checkpoint_id)


def _require_thread(checkpoint: Checkpoint) -> None:
    if checkpoint.ns == documents.NS:
        raise errors.Conflict("This is a document that a program reported, not a checkpoint.")


# What the buttons of the page do.
VERBS: dict[str, Callable[[Run, Checkpoint, Caller], Run | None]] = {
    "fork": fork,
    "delete": delete_checkpoint,
}
