from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.auth.callers import Caller, caller_of_command
from graphs.definition import errors
from graphs.definition.types import Json, JsonObject
from graphs.models import Graph
from graphs.services import dataset_files, tabular
from runs.engine.new_run import RunOptions
from runs.engine.start_many import MAX_RUNS, start_many
from runs.management.graphs import describe, find_graph
from runs.models import Run


class Command(BaseCommand):
    help = (
        "Start a run of a graph for each row of a CSV or JSON Lines file. The columns are the"
        " inputs of the runs. Up to 10,000 runs start together, or fewer if they are large."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("graph", metavar="NAMESPACE/GRAPH")
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument(
            "--run-id-column",
            metavar="COLUMN",
            help="the column with the ids of the runs; with it, the command can be repeated and"
            " starts only what is missing",
        )
        parser.add_argument(
            "--priority", type=int, help="from -100 to 100 (default: that of the graph)"
        )

    def handle(
        self,
        *args: object,
        graph: str,
        file: Path,
        run_id_column: str | None,
        priority: int | None,
        **options: object,
    ) -> None:
        stored_graph = find_graph(graph)
        caller = caller_of_command()
        started = 0
        try:
            with ExitStack() as stack:
                rows = _rows(file, run_id_column, stack)
                while chunk := list(islice(rows, MAX_RUNS)):
                    requested = [_options(row, run_id_column, priority) for row in chunk]
                    for part in _start(stored_graph, requested, caller):
                        started += part
                        self.stdout.write(f"{started:,} runs are started.")
        except errors.StateManagerError as error:
            raise CommandError(f"{_place(started, run_id_column)}{describe(error)}") from None
        if not started:
            raise CommandError(f"{file} has no rows.")


def _start(graph: Graph, requested: list[RunOptions], caller: Caller) -> Iterator[int]:
    """Start these runs, in parts if they are too large together. Gives the size of each part."""
    try:
        start_many(graph, requested, None, caller, Run.Trigger.COMMAND)
        yield len(requested)
    except errors.TooLarge:
        if len(requested) == 1:
            raise
        half = len(requested) // 2
        yield from _start(graph, requested[:half], caller)
        yield from _start(graph, requested[half:], caller)


def _place(started: int, run_id_column: str | None) -> str:
    """What to know of a problem that comes after rows that were started."""
    if not started:
        return ""
    remedy = "" if run_id_column else " Remove them from the file before you repeat the command."
    return f"The first {started:,} rows were started, and are not counted here.{remedy} "


def _rows(path: Path, run_id_column: str | None, stack: ExitStack) -> Iterator[JsonObject]:
    """The rows of the file, after all of it was read and checked. Raises Malformed.

    Run ids are texts as the file has them: 1.50 is not 1.5.
    """
    sources = stack.enter_context(dataset_files.sources_at(path))
    if len(sources) != 1 or not sources[0].format:
        raise errors.Malformed(f"{path} is no CSV or JSON Lines file.")
    problems = dataset_files.Problems()
    table = dataset_files.check(sources[0], dataset_files.Reading(), stack, problems)
    problems.require_none()
    assert table is not None
    columns = [column for column in table.columns if column["name"] != run_id_column]
    return tabular.read_rows(table.content.from_start(), path.name, table.format, columns)


def _options(row: JsonObject, run_id_column: str | None, priority: int | None) -> RunOptions:
    if run_id_column is None:
        return RunOptions(inputs=row, priority=priority)
    if run_id_column not in row:
        raise errors.Malformed(f"A row has no column {run_id_column!r}.")
    inputs: dict[str, Json] = {name: value for name, value in row.items() if name != run_id_column}
    return RunOptions(run_id=_text(row[run_id_column]), inputs=inputs, priority=priority)


def _text(value: Json) -> str:
    """A run id. Raises Malformed for what is neither a text nor a whole number."""
    if value in (None, ""):
        raise errors.Malformed("A row has no run id.")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise errors.Malformed(f"A run id is a text or a whole number, not {value!r:.50}.")
    return str(value)
