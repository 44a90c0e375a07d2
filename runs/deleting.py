"""Deleting runs and graphs with all their traces: rows and files. Under the run's lock, so that no slice writes into what goes."""

from collections.abc import Iterable
from typing import Any

from django.core.files.storage import Storage, default_storage
from django.db import transaction
from django.db.models import Q

from graphs import errors
from graphs.models import Graph
from runs import ledger, statuses
from runs.context import run_folder
from runs.models import Artifact, Checkpoint, CheckpointBlob, CheckpointWrite, LogLine, Run, State, ToolResult

TRACES = (State, LogLine, Artifact, ToolResult, CheckpointWrite, CheckpointBlob, Checkpoint)


def delete_run(run: Run) -> None:
    """Delete a run that has ended. Raises Conflict while it is active."""
    with transaction.atomic():
        book = ledger.lock([run.pk]).get(run.pk)
        if book is None:
            raise errors.NotFound(f"There is no run {run.run_id!r}.")
        if book.open:
            raise errors.Conflict(f"The run is {book.status}; cancel it first.", allowed=list(statuses.RUN_ACTIONS[book.status]))
        _erase([run.pk], Q(run=run), Q(pk=run.pk))


def delete_graph(graph: Graph) -> int:
    """Delete a graph with its versions and runs, active ones included: what they still hold is dropped. Says how many runs there were."""
    with transaction.atomic():
        list(Graph.objects.select_for_update().filter(pk=graph.pk))  # nobody starts a run of it from here on
        runs = list(Run.objects.filter(graph=graph).order_by("pk").values_list("pk", flat=True))
        ledger.lock(runs)
        _erase(runs, Q(run__graph=graph), Q(graph=graph))
        Graph.objects.filter(pk=graph.pk).update(current=None)
        graph.versions.all().delete()
        graph.delete()
    return len(runs)


def _erase(runs: list[int], traces: Q, rows: Q) -> None:
    """Delete these runs, which the two conditions name as well: of what they left, and of themselves."""
    for model in TRACES:
        ids: Any = model.objects.filter(traces).values("pk")
        model.objects.filter(pk__in=ids)._raw_delete(model.objects.db)
    Run.objects.filter(parent__in=Run.objects.filter(rows).values("pk")).update(parent=None)
    Run.objects.filter(rows)._raw_delete(Run.objects.db)
    transaction.on_commit(lambda: delete_files(runs))


def delete_files(runs: Iterable[int]) -> None:
    """Remove the folders of these runs from the storage; what is gone already is no error."""
    for pk in runs:
        _delete_folder(default_storage, run_folder(pk))


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
