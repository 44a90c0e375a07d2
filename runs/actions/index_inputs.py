"""Indexing the inputs of runs from before their graph declared them, and the reverse.

Each batch is a transaction, and its place is stored with the declaration. So the work can end at
any time, and goes on where it was, in whatever process. Doing it twice changes nothing.
"""

from collections.abc import Iterator
from time import monotonic

from django.db import OperationalError, transaction
from django.db.models import Max, Q

from graphs.definition import value_paths
from graphs.models import Graph, IndexedInput
from runs.core import db_errors, sql
from runs.engine import input_index
from runs.models import Run, RunInput

BATCH = 50
TURN_SECONDS = 1.0
_TO_DO = ~Q(indexed_from=0) | Q(dropped=True)


@sql.statement
def _next_runs_statement() -> str:
    """Reads the next runs of a graph, found by the index of its runs.

    The lock is that of a foreign key: it keeps the runs from being deleted, and stops no worker.
    """
    lock = " FOR KEY SHARE" if sql.postgres() else ""
    return f"""
        SELECT id, initial_data FROM statemanager_runs_run
        WHERE graph_id = %s AND id < %s
        ORDER BY id DESC LIMIT %s{lock}
    """


def continue_indexing(seconds: float = TURN_SECONDS) -> None:
    """Index, or delete, until nothing is left or this time is over."""
    deadline = monotonic() + seconds
    for _ in batches():
        if monotonic() >= deadline:
            return


def batches() -> Iterator[int]:
    """Do all that is to be done, a batch at a time. Yields the number of runs of each.

    What another process works on is left to it.
    """
    for pk in IndexedInput.objects.filter(_TO_DO).order_by("pk").values_list("pk", flat=True):
        while (count := _batch(pk)) is not None:
            yield count


def index_again() -> None:
    """Let all runs be indexed again. Until that is done, their inputs can't be searched."""
    IndexedInput.objects.declared().update(indexed_from=None)


def _batch(pk: int) -> int | None:
    """Do a batch of a declaration. Returns the number of runs; None if nothing is left to do.

    Nothing is done either while somebody else has locked what it needs.
    """
    declared = IndexedInput.objects.filter(_TO_DO, pk=pk).first()
    if declared is None:
        return None
    try:
        if declared.dropped:
            return _delete(declared)
        if declared.indexed_from is None:
            return _begin(declared)
        return _index(pk)
    except OperationalError as error:
        if not db_errors.is_lock_timeout(error):
            raise
        return None


@transaction.atomic
def _begin(declared: IndexedInput) -> int:
    """Note the runs that there are. Those that start from now on are indexed as they start."""
    _wait_for_starts(declared)
    newest = Run.objects.filter(graph=declared.graph_id).aggregate(newest=Max("pk"))["newest"]
    not_begun = IndexedInput.objects.filter(pk=declared.pk, indexed_from=None)
    not_begun.update(indexed_from=newest + 1 if newest else 0)
    return 0


@transaction.atomic
def _index(pk: int) -> int | None:
    """Index the next runs, from the newest to the oldest."""
    # The foreign keys of runs that start need the key of this row, so only the rest is locked.
    unlocked = IndexedInput.objects.select_for_update(of=("self",), skip_locked=True, no_key=True)
    declared = unlocked.filter(pk=pk, dropped=False, indexed_from__gt=0).first()
    if declared is None:
        return None
    params = [declared.graph_id, declared.indexed_from, BATCH]
    batch = sql.run(_next_runs_statement(), params)
    paths = {declared.pk: value_paths.parse(declared.path)}
    rows = [
        row for pk, inputs in batch for row in input_index.rows_of(pk, sql.loads(inputs), paths)
    ]
    RunInput.objects.bulk_create(rows, ignore_conflicts=True)
    place = batch[-1][0] if len(batch) == BATCH else 0
    IndexedInput.objects.filter(pk=pk).update(indexed_from=place)
    return len(batch)


def _delete(declared: IndexedInput) -> int:
    """Delete the next values of an input that is declared no more; with the last ones itself."""
    values = RunInput.objects.filter(input=declared.pk)
    pks = list(values.values_list("pk", flat=True)[:BATCH])
    RunInput.objects.filter(pk__in=pks)._raw_delete("default")
    if len(pks) < BATCH:
        with transaction.atomic():
            _wait_for_starts(declared)
            values._raw_delete("default")
            IndexedInput.objects.filter(pk=declared.pk)._raw_delete("default")
    return len(pks)


def _wait_for_starts(declared: IndexedInput) -> None:
    """Wait for the runs of the graph that are just starting, which may not know of the change.

    The graph is locked before its declarations, as publishing does it, against deadlocks.
    """
    list(Graph.objects.lock(declared.graph_id, against_starts=True))
