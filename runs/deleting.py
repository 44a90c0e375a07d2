"""Deleting runs and graphs with all their traces: rows and files. Under the run's lock, so that no slice writes into what goes."""

from collections.abc import Iterable

from django.core.files.storage import Storage, default_storage
from django.db import transaction

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
        _erase([run.pk])


def delete_graph(graph: Graph) -> int:
    """Delete a graph with its versions and runs, active ones included: what they still hold is dropped. Says how many runs there were."""
    with transaction.atomic():
        runs = list(Run.objects.filter(graph=graph).order_by("pk").values_list("pk", flat=True))
        ledger.lock(runs)
        _erase(runs)
        Graph.objects.filter(pk=graph.pk).update(current=None)
        graph.versions.all().delete()
        graph.delete()
    return len(runs)


def _erase(runs: list[int]) -> None:
    for model in TRACES:
        model.objects.filter(run__in=runs)._raw_delete(model.objects.db)
    Run.objects.filter(parent__in=runs).update(parent=None)
    Run.objects.filter(pk__in=runs)._raw_delete(Run.objects.db)
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
