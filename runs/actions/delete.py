"""Deleting runs and graphs: their rows, and their files in the storage.

A run is deleted under the lock of its counters, so that no batch writes into it meanwhile. A worker
that still has states of the run drops their outcomes: the fence is gone with the row. A tombstone
of each run stays for some time. It refuses the id to late requests, and it names the folder that
is still to be removed if the process dies between deleting the rows and deleting the files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.files.storage import Storage
from django.db import OperationalError, transaction
from django.db.models import Q, QuerySet

from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import errors
from graphs.models import Graph
from graphs.models.idempotency import forget_answers
from runs.core import db_errors, sql, statuses
from runs.engine import counters
from runs.engine.node_context import run_folder
from runs.models import (
    AnswerDeadline,
    Artifact,
    AuditEntry,
    BulkResult,
    Checkpoint,
    CheckpointBlob,
    CheckpointWrite,
    LogLine,
    NotificationEvent,
    QueueEntry,
    RecurringRerun,
    Run,
    RunDeadline,
    RunInput,
    RunNote,
    RunSlot,
    State,
    Tombstone,
    ToolResult,
)
from statemanager.file_storage import file_storage

DELETE_RIGHT = "delete"
DELETABLE = statuses.ENDED_RUNS
RUN_CHILDREN = (
    State,
    LogLine,
    Artifact,
    RunNote,
    RunSlot,
    RunDeadline,
    AnswerDeadline,
    NotificationEvent,
    RunInput,
    QueueEntry,
    RecurringRerun,
    ToolResult,
    CheckpointWrite,
    CheckpointBlob,
    Checkpoint,
)
TOMBSTONE_AGE = timedelta(days=30)
FILES_WAIT = timedelta(minutes=1)  # before a sweep takes a folder for a forgotten one
LOCK_SECONDS = 3
FOLDERS_AT_ONCE = 200


@sql.statement
def _write_tombstones_statement() -> str:
    """Writes a tombstone for each of these runs.

    The ids are one parameter, so the statement is the same for one run and for a million, and the
    run table is entered by its primary key. An id can have a tombstone already: it was deleted
    and, once the first tombstone had expired, used again.
    """
    return f"""
        INSERT INTO statemanager_runs_tombstone (namespace_id, run_id, run, at, actor, files)
        SELECT namespace_id, run_id, id, {sql.now()}, CAST(%s AS varchar(150)), true
        FROM statemanager_runs_run
        WHERE {sql.among("id", "bigint")}
        ON CONFLICT (namespace_id, run_id) DO UPDATE
        SET run = excluded.run, at = excluded.at, actor = excluded.actor, files = excluded.files
    """


@dataclass(frozen=True)
class KeptRun:
    """A run that was not deleted, and why. `code` is active, permission, locked or gone."""

    run_pk: int
    code: str
    reason: str


def may_delete(caller: Caller, namespace_id: int) -> bool:
    """Whether the caller may delete runs of this namespace. Every door asks this function."""
    return caller.can(DELETE_RIGHT, namespace_id)


def delete_run(run: Run, caller: Caller = SYSTEM, even_active: bool = False) -> None:
    """Delete a run that has ended; with `even_active` an active one, too, which cancels it.

    Raises Forbidden without the right, NotFound if the run is gone, and Conflict if it is active
    or locked.
    """
    if not may_delete(caller, run.namespace_id):
        raise errors.Forbidden(f"{caller.label} may not delete runs in this namespace.")
    kept = try_one_by_one([run.pk], caller, even_active)
    if not kept:
        return
    if kept[0].code == "gone":
        raise errors.NotFound(f"There is no run {run.run_id!r}.")
    if kept[0].code == "permission":
        raise errors.Forbidden(kept[0].reason)
    if kept[0].code == "active":
        raise errors.Conflict(kept[0].reason, allowed=list(statuses.RUN_ACTIONS[run.status]))
    raise errors.Conflict(kept[0].reason)


def delete_runs(pks: Sequence[int], caller: Caller, even_active: bool = False) -> list[KeptRun]:
    """Delete these runs in one transaction. Returns the runs that were kept, with the reasons.

    With `even_active` active runs are cancelled and deleted, too. Raises OperationalError if one of
    the runs stays locked for more than LOCK_SECONDS.
    """
    with transaction.atomic():
        sql.wait_for_locks(LOCK_SECONDS)
        counters_by_run = counters.lock(pks)
        runs = {
            run.pk: run
            for run in Run.objects.filter(pk__in=counters_by_run).only("namespace_id", "run_id")
        }
        kept = [KeptRun(pk, "gone", "It was deleted already.") for pk in pks if pk not in runs]
        deletable = []
        for run in runs.values():
            reason = _reason_to_keep(run, counters_by_run[run.pk], caller, even_active)
            if reason is None:
                deletable.append(run)
            else:
                kept.append(reason)
        if deletable:
            entries = [(run.namespace_id, run.pk, run.run_id) for run in deletable]
            active = {pk for pk, each in counters_by_run.items() if each.status not in DELETABLE}
            cancelled = [entry for entry in entries if entry[1] in active]
            AuditEntry.objects.record_many(caller, "cancel", cancelled)
            AuditEntry.objects.record_many(caller, "delete", entries)
            pks_to_delete = [run.pk for run in deletable]
            _erase(pks_to_delete, Q(run__in=pks_to_delete), Q(pk__in=pks_to_delete), caller)
    return kept


def _reason_to_keep(
    run: Run, run_counters: counters.RunCounters, caller: Caller, even_active: bool
) -> KeptRun | None:
    if not may_delete(caller, run.namespace_id):
        reason = f"{caller.label} may not delete runs of its namespace."
        return KeptRun(run.pk, "permission", reason)
    if run_counters.status in DELETABLE:
        return None
    if not even_active:
        return KeptRun(run.pk, "active", f"The run is {run_counters.status}; cancel it first.")
    if not caller.can("cancel", run.namespace_id):
        reason = f"The run is {run_counters.status}, and {caller.label} may not cancel it."
        return KeptRun(run.pk, "permission", reason)
    return None


def try_one_by_one(pks: Iterable[int], caller: Caller, even_active: bool = False) -> list[KeptRun]:
    """Delete each run in its own transaction, so that one locked run does not keep the others.

    Returns the runs that were kept, with the reasons.
    """
    kept = []
    for pk in sorted(pks):  # the order in which runs are locked everywhere, against deadlocks
        try:
            kept += delete_runs([pk], caller, even_active)
        except OperationalError as error:
            if not db_errors.is_lock_timeout(error):
                raise
            reason = f"Something else locked it for more than {LOCK_SECONDS} s. Try again."
            kept.append(KeptRun(pk, "locked", reason))
    return kept


def delete_graph(graph: Graph, caller: Caller = SYSTEM) -> int:
    """Delete a graph with its versions and all its runs, active ones included.

    Returns the number of runs. Raises Forbidden without the right.
    """
    if not may_delete(caller, graph.namespace_id):
        raise errors.Forbidden(f"{caller.label} may not delete runs in this namespace.")
    with transaction.atomic():
        # From here on no run of the graph can start: its foreign key would need this row's lock.
        list(Graph.objects.lock(graph.pk, against_starts=True))
        pks = list(Run.objects.filter(graph=graph).order_by("pk").values_list("pk", flat=True))
        counters.lock(pks)
        detail = f"{graph} with {len(pks):,} runs"
        AuditEntry.objects.record_global(caller, "delete_graph", detail, graph.namespace_id)
        runs_of_graph = Run.objects.filter(graph=graph).values("pk")
        _erase(pks, Q(run__in=runs_of_graph), Q(graph=graph), caller)
        Graph.objects.filter(pk=graph.pk).update(current=None)
        graph.versions.all().delete()
        graph.delete()
    return len(pks)


def _erase(pks: list[int], children: Q, runs: Q, caller: Caller) -> None:
    """Delete these runs and the rows that belong to them; their files once that is committed.

    `children` is the condition for the rows, `runs` the one for the runs themselves.
    `_raw_delete` deletes in one statement a table. `delete()` would first load every row to see
    what cascades, and what cascades is known here: RUN_CHILDREN.
    """
    sql.send(_write_tombstones_statement(), [caller.label[:150], sql.choices(pks)])
    forget_answers(Run.objects.filter(runs).values("run_id"))
    _blank(Run.objects.filter(runs).values("pk"))
    for model in RUN_CHILDREN:
        model.objects.filter(children)._raw_delete(model.objects.db)
    Run.objects.filter(parent__in=Run.objects.filter(runs).values("pk")).update(parent=None)
    Run.objects.filter(runs)._raw_delete(Run.objects.db)
    transaction.on_commit(lambda: remove_files(pks))


def _blank(runs: QuerySet[Run, dict[str, int]]) -> None:
    """Erase the texts about runs that are being deleted from the rows that outlive them.

    Who did what to which run, and when, stays.
    """
    AuditEntry.objects.filter(run__in=runs).exclude(detail="").update(detail="")
    BulkResult.objects.filter(run__in=runs).update(name="", reason="")


def sweep(now: datetime | None = None) -> int:
    """Remove the files of deletions that were interrupted, and expired tombstones.

    Returns the number of folders whose removal was tried.
    """
    now = now or sql.clock()
    forgotten = list(
        Tombstone.objects.filter(files=True, at__lt=now - FILES_WAIT)
        .order_by("id")
        .values_list("run", flat=True)[:FOLDERS_AT_ONCE]
    )
    remove_files(forgotten)
    Tombstone.objects.filter(files=False, at__lt=now - TOMBSTONE_AGE).delete()
    return len(forgotten)


def remove_files(pks: Sequence[int]) -> None:
    """Remove the folders of these runs from the storage. Folders that are gone are skipped."""
    for first in range(0, len(pks), FOLDERS_AT_ONCE):
        batch = pks[first : first + FOLDERS_AT_ONCE]
        for pk in batch:
            _delete_folder(file_storage, run_folder(pk))
        Tombstone.objects.filter(files=True, run__in=batch).update(files=False)


def _delete_folder(storage: Storage, folder: str) -> None:
    try:
        folders, files = storage.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in files:
        storage.delete(f"{folder}/{name}")
    for name in folders:
        _delete_folder(storage, f"{folder}/{name}")
    storage.delete(folder)
