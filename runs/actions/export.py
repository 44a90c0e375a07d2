"""Exporting runs to a file. Rows are streamed, so memory use does not depend on their number."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from django.db.models import DurationField, ExpressionWrapper, F, QuerySet, Value
from django.db.models.functions import Coalesce, NullIf

from graphs.auth.callers import Caller
from graphs.definition import errors, redaction
from graphs.definition.payloads import when
from graphs.definition.types import Json
from graphs.services.csv_files import CsvWriter, harmless
from runs.core import statuses
from runs.models import Run
from runs.queries import orderings
from runs.queries.labels import written

COLUMNS = (
    "run_id",
    "name",
    "namespace__name",
    "graph__name",
    "status",
    "progress",
    "created_at",
    "started_at",
    "finished_at",
    "username",
    "workspace",
    "trigger",
    "labels",
    "success_count",
    "errored_count",
    "retried_count",
    "cancelled_count",
    "error_message",
)
ALL = {column.removesuffix("__name"): column for column in COLUMNS}
# The columns of the list, by the names that it has for them.
LISTED = {
    "id": "run_id",
    "name": "shown_name",
    "status": "status",
    "progress": "progress",
    "time": "created_at",
    "duration": "duration",
    "username": "username",
    "workspace": "workspace",
    "graph": "graph__name",
    "namespace": "namespace__name",
    "node": "current_node",
    "reruns": "rerun_count",
    "trigger": "trigger",
    "labels": "labels",
    "finished": "finished_at",
    "session": "session_id",
    "dataset": "dataset__name",
}
TIMES = ("created_at", "started_at", "finished_at")
# As the list shows it: a run without a name has its id.
_SHOWN_NAME = Coalesce(NullIf("name", Value("")), "run_id")
_DURATION = ExpressionWrapper(F("finished_at") - F("started_at"), DurationField())
ROWS_AT_ONCE = 1000
LINE_END = "\r\n"  # RFC 4180


def exportable(runs: QuerySet[Run], caller: Caller) -> QuerySet[Run]:
    """Those of the runs that the caller may export."""
    condition = caller.where("export")
    return runs if condition is None else runs.filter(condition)


@dataclass(frozen=True)
class View:
    """Which columns of the list an export has, in which order, and the order of its runs.

    Without columns it has those of ALL and the result.
    """

    columns: tuple[str, ...] = ()
    ordering: str = orderings.DEFAULT

    @property
    def names(self) -> list[str]:
        return list(self.columns) or [*ALL, "result"]

    @property
    def fields(self) -> list[str]:
        """What is read of each run, in the order of the names."""
        return [LISTED[name] for name in self.columns] or [*COLUMNS, "status"]


def view_of(params: Mapping[str, Json]) -> View:
    """The view that the parameters of an operation describe.

    `columns` is a list or a text with commas. Raises Malformed for what the list doesn't have.
    """
    columns, ordering = params.get("columns", []), params.get("ordering", orderings.DEFAULT)
    names = columns.split(",") if isinstance(columns, str) else columns
    if not isinstance(names, list) or not all(name in LISTED for name in map(str, names)):
        raise errors.Malformed(f"columns are some of {', '.join(LISTED)}.")
    if not isinstance(ordering, str):
        raise errors.Malformed("`ordering` is a text.")
    orderings.named(ordering)
    return View(tuple(dict.fromkeys(names)), ordering)


def rows(runs: QuerySet[Run], caller: Caller, view: View) -> Iterator[list[Json]]:
    """The values of each run. Errors are hidden without the right to see payloads."""
    ordered = runs.order_by(*orderings.named(view.ordering)).annotate(
        duration=_DURATION, shown_name=_SHOWN_NAME
    )
    stored = ordered.values_list("namespace", *dict.fromkeys(view.fields))
    for namespace, *values in stored.iterator(chunk_size=ROWS_AT_ONCE):
        row = dict(zip(dict.fromkeys(view.fields), values, strict=True))
        row |= {name: when(row[name]) for name in TIMES if name in row}
        if row.get("duration") is not None:
            row["duration"] = row["duration"].total_seconds()
        if row.get("error_message") and not caller.can("payloads", namespace):
            row["error_message"] = redaction.HIDDEN
        shown = [row[field] for field in view.fields]
        if not view.columns:
            shown[-1] = statuses.RUN_RESULTS[row["status"]]
        yield shown


def as_csv(rows: Iterable[list[Json]], names: Sequence[str]) -> Iterator[str]:
    """The lines of a CSV file (RFC 4180) with a heading."""
    writer = CsvWriter(names, LINE_END)
    yield writer.line(names)
    for row in rows:
        yield writer.line([harmless(_cell(value)) for value in row])


def _cell(value: Json) -> Json:
    """Labels as text; other values as they are."""
    if isinstance(value, dict):
        return " ".join(written(key, str(text)) for key, text in value.items())
    return value


def as_jsonl(rows: Iterable[list[Json]], names: Sequence[str]) -> Iterator[str]:
    """The lines of a JSON Lines file."""
    return (f"{_json(row, names)}\n" for row in rows)


def as_json(rows: Iterable[list[Json]], names: Sequence[str]) -> Iterator[str]:
    """The lines of a JSON array, an object in each between those of the brackets."""
    yield "["
    comma = ""
    for row in rows:
        yield f"{comma}\n{_json(row, names)}"
        comma = ","
    yield "\n]\n"


def _json(row: list[Json], names: Sequence[str]) -> str:
    return json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False)


@dataclass(frozen=True)
class Format:
    """A file format. `other_lines` is the number of lines that are not those of a run."""

    label: str
    lines: Callable[[Iterable[list[Json]], Sequence[str]], Iterator[str]]
    content_type: str
    other_lines: int


DEFAULT_FORMAT = "csv"
FORMATS = {
    "csv": Format("CSV", as_csv, "text/csv; charset=utf-8", other_lines=1),
    "jsonl": Format("JSON Lines", as_jsonl, "application/x-ndjson", other_lines=0),
    "json": Format("JSON", as_json, "application/json", other_lines=2),
}


def exported(
    runs: QuerySet[Run], format_name: str, caller: Caller, view: View = View()
) -> tuple[Iterator[str], str]:
    """The lines of the file for the caller, and its content type."""
    file_format = FORMATS[format_name]
    return file_format.lines(rows(runs, caller, view), view.names), file_format.content_type
