"""Deleting runs and graphs with all their traces: rows and files. Under the runs' locks, so that no slice writes into what goes.

What a worker still holds of a deleted run is dropped: its fence is gone with its row. Of each run a tombstone stays for a while, so that no late
request brings its id back, and so that files are removed even if the process is killed between the rows and the folder.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.files.storage import Storage, default_storage
from django.db import OperationalError, connection, transaction
from django.db.models import DateTimeField, F, Q, TextField, Value
from django.utils import timezone

from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import errors
from graphs.models import Graph
from graphs.models.idempotency import forget_answers
from runs.core import sql, statuses
from runs.engine import counters
from runs.engine.node_context import run_folder
from runs.models import (
    Artifact,
    AuditEntry,
    Checkpoint,
    CheckpointBlob,
    CheckpointWrite,
    LogLine,
    Run,
    State,
    Tombstone,
    ToolResult,
)

RUN_CHILDREN = (State, LogLine, Artifact, ToolResult, CheckpointWrite, CheckpointBlob, Checkpoint)
TOMBSTONES_STAND = timedelta(days=30)
FILES_WAIT = timedelta(minutes=1)
LOCK_SECONDS = 3
FOLDERS = 200


@dataclass(frozen=True)
class Kept:
    """A run that was not deleted, and why: `code` is active, permission, locked or gone."""

    pk: int
    code: str
    reason: str


def delete_run(run: Run, caller: Caller = SYSTEM) -> None:
    """Delete a run that has ended. Raises Conflict while it is active, NotFound when it is gone."""
    caller.require("delete", run.namespace_id)
    if kept := try_one_by_one([run.pk], caller):
        if kept[0].code == "gone":
            raise errors.NotFound(f"There is no run {run.run_id!r}.")
        allowed = (
            {"allowed": list(statuses.RUN_ACTIONS[run.status])} if kept[0].code == "active" else {}
        )
        raise errors.Conflict(kept[0].reason, **allowed)


def delete_runs(pks: Sequence[int], caller: Caller, even_active: bool = False) -> list[Kept]:
    """Delete these runs in one transaction, and say which were kept. With `even_active` those that still run go, too."""
    with transaction.atomic():
        sql.wait_for_locks(LOCK_SECONDS)
        counters_by_run = counters.lock(pks)
        named = {
            pk: (namespace, run_id)
            for pk, namespace, run_id in Run.objects.filter(pk__in=counters_by_run).values_list(
                "pk", "namespace_id", "run_id"
            )
        }
        kept = [Kept(pk, "gone", "It was deleted already.") for pk in pks if pk not in named]
        for pk, (namespace, _) in named.items():
            if not caller.can("delete", namespace):
                kept.append(
                    Kept(pk, "permission", f"{caller.label} may not delete runs of its namespace.")
                )
            elif counters_by_run[pk].open and not even_active:
                kept.append(
                    Kept(pk, "active", f"The run is {counters_by_run[pk].status}; cancel it first.")
                )
        spared = {each.pk for each in kept}
        gone = [pk for pk in named if pk not in spared]
        if gone:
            AuditEntry.objects.record_many(
                caller, "delete", [(named[pk][0], pk, named[pk][1]) for pk in gone]
            )
            _erase(gone, Q(run__in=gone), Q(pk__in=gone), caller)
    return kept


def try_one_by_one(pks: Iterable[int], caller: Caller, even_active: bool = False) -> list[Kept]:
    """The same, each in a transaction of its own, for when one of them is locked by somebody else."""
    kept = []
    for pk in sorted(pks):  # in one order, should the caller hold all of them in one transaction
        try:
            kept += delete_runs([pk], caller, even_active)
        except OperationalError as error:
            if not sql.is_lock_timeout(error):
                raise
            kept.append(
                Kept(pk, "locked", f"Something else held it for more than {LOCK_SECONDS} s.")
            )
    return kept


def delete_graph(graph: Graph, caller: Caller = SYSTEM) -> int:
    """Delete a graph with its versions and runs, active ones included: what they still hold is dropped. Says how many runs there were."""
    caller.require("delete", graph.namespace_id)
    with transaction.atomic():
        list(
            Graph.objects.select_for_update().filter(pk=graph.pk)
        )  # nobody starts a run of it from here on
        runs = list(Run.objects.filter(graph=graph).order_by("pk").values_list("pk", flat=True))
        counters.lock(runs)
        AuditEntry.objects.record_global(caller, "delete_graph", f"{graph} with {len(runs):,} runs")
        _erase(
            runs, Q(run__in=Run.objects.filter(graph=graph).values("pk")), Q(graph=graph), caller
        )
        Graph.objects.filter(pk=graph.pk).update(current=None)
        graph.versions.all().delete()
        graph.delete()
    return len(runs)


def _erase(runs: list[int], traces: Q, rows: Q, caller: Caller) -> None:
    """Delete these runs, which the two conditions name as well: of what they left, and of themselves."""
    _bury(Run.objects.filter(rows), caller)
    forget_answers(Run.objects.filter(rows).values("run_id"))
    for model in RUN_CHILDREN:
        model.objects.filter(traces)._raw_delete(model.objects.db)
    Run.objects.filter(parent__in=Run.objects.filter(rows).values("pk")).update(parent=None)
    Run.objects.filter(rows)._raw_delete(Run.objects.db)
    transaction.on_commit(lambda: remove_files(runs))


def _bury(runs: Any, caller: Caller) -> None:
    """A tombstone for each of these runs, in one statement."""
    values = {
        "at_": Value(timezone.now(), DateTimeField()),
        "actor_": Value(caller.label[:150], TextField()),
        "files_": Value(True),
    }
    chosen = (
        runs.annotate(pk_=F("pk"), **values)
        .values_list("namespace_id", "run_id", "pk_", "at_", "actor_", "files_")
        .order_by()
    )
    select, params = chosen.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO statemanager_runs_tombstone (namespace_id, run_id, run, at, actor, files) {select} "
            "ON CONFLICT (namespace_id, run_id) DO UPDATE SET run = excluded.run, at = excluded.at, actor = excluded.actor, files = excluded.files",
            params,
        )


def sweep(now: Any = None) -> int:
    """Remove the files that a killed deletion left, and tombstones that have stood long enough; how many folders were looked at."""
    now = now or timezone.now()
    left = list(
        Tombstone.objects.filter(files=True, at__lt=now - FILES_WAIT)
        .order_by("id")
        .values_list("run", flat=True)[:FOLDERS]
    )
    remove_files(left)
    Tombstone.objects.filter(files=False, at__lt=now - TOMBSTONES_STAND).delete()
    return len(left)


def remove_files(runs: Sequence[int]) -> None:
    """Remove the folders of these runs from the storage; what is gone already is no error."""
    for at in range(0, len(runs), FOLDERS):
        batch = runs[at : at + FOLDERS]
        for pk in batch:
            _delete_folder(default_storage, run_folder(pk))
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
