"""The values of a run's inputs by which it can be searched, written when the run starts.

Which paths those are, the graph's current version declares (`indexed_inputs`). A run of an older
version is indexed by the same paths.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from graphs.definition import value_paths
from graphs.definition.types import Json
from runs.core import sql
from runs.models import Run, RunInput, digest_of

DeclaredPath = tuple[int, int | None, str | None]  # a graph, the key of an IndexedInput, its path


@sql.statement
def declared_statement() -> str:
    """Reads the paths that some graphs declare; one row with NULLs for a graph without any.

    The lock on a graph lasts until its run is committed. Indexing the runs from before a
    declaration waits for it, so no run is missed: it either sees the declaration or is waited for.
    The run's foreign key takes the same lock, but only at the end of the transaction.
    """
    lock = " FOR KEY SHARE OF g" if sql.postgres() else ""
    return f"""
        SELECT g.id, i.id, i.path
        FROM statemanager_graphs_graph g
        LEFT JOIN statemanager_graphs_indexedinput i ON i.graph_id = g.id AND NOT i.dropped
        WHERE {sql.among("g.id", "bigint")} ORDER BY g.id{lock}
    """


def add_to(statements: sql.Statements, run: Run) -> None:
    """Add the reading of the declared paths as the first of these statements.

    The rows that they return are for `store`.
    """
    statements.add(declared_statement(), [sql.choices([run.graph_id])], returns_rows=True)


def declared_by(graphs: Iterable[int | None]) -> list[DeclaredPath]:
    """The paths that these graphs declare. Read before the runs of the graphs are inserted."""
    return sql.run(declared_statement(), [sql.choices(graphs)])


def store(run: Run, declared: Iterable[DeclaredPath] | None = None) -> None:
    """Index a run of a graph that was just inserted. The paths are read if they are not given."""
    store_many([run], declared_by([run.graph_id]) if declared is None else declared)


def store_many(runs: Iterable[Run], declared: Iterable[DeclaredPath]) -> None:
    """Index runs that were just inserted by the paths that their graphs declare."""
    paths: dict[int | None, dict[int, value_paths.Path]] = defaultdict(dict)
    for graph, pk, path in declared:
        if pk and path:
            paths[graph][pk] = value_paths.parse(path)
    rows: list[RunInput] = []
    for run in runs:
        rows += rows_of(run.pk, run.initial_data, paths[run.graph_id])
    RunInput.objects.bulk_create(rows, batch_size=1000)


def rows_of(
    run_pk: int, inputs: Mapping[str, Json], paths: Mapping[int, value_paths.Path]
) -> Sequence[RunInput]:
    """The rows of a run, one for each of these paths at which its inputs have a value."""
    rows = []
    for pk, path in paths.items():
        value = value_paths.value_at(inputs, path)
        if value is not value_paths.MISSING:
            rows.append(RunInput(run_id=run_pk, input_id=pk, digest=digest_of(value)))
    return rows
