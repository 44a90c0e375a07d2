"""Exporting runs to a file. Rows are streamed, so memory use does not depend on their number."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from django.db.models import QuerySet

from graphs.auth.callers import Caller
from graphs.definition import redaction
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from graphs.services.csv_files import CsvWriter, harmless
from runs.core import statuses
from runs.models import Run

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
NAMES = tuple(column.removesuffix("__name") for column in COLUMNS)
TIMES = ("created_at", "started_at", "finished_at")
ROWS_AT_ONCE = 1000
LINE_END = "\r\n"  # RFC 4180


def exportable(runs: QuerySet[Run], caller: Caller) -> QuerySet[Run]:
    """Those of the runs that the caller may export."""
    condition = caller.where("export")
    return runs if condition is None else runs.filter(condition)


def rows(runs: QuerySet[Run], caller: Caller) -> Iterator[JsonObject]:
    """The runs as JSON objects, newest first. Errors are hidden without the right to payloads."""
    newest_first = runs.order_by("-created_at", "-id").values_list("namespace", *COLUMNS)
    for namespace, *values in newest_first.iterator(chunk_size=ROWS_AT_ONCE):
        row = dict(zip(NAMES, values, strict=True))
        row |= {name: when(row[name]) for name in TIMES}
        if row["error_message"] and not caller.can("payloads", namespace):
            row["error_message"] = redaction.HIDDEN
        yield {**row, "result": statuses.RUN_RESULTS[row["status"]]}


def as_csv(rows: Iterable[JsonObject]) -> Iterator[str]:
    """The lines of a CSV file (RFC 4180) with a heading."""
    names = [*NAMES, "result"]
    writer = CsvWriter(names, LINE_END)
    yield writer.line(names)
    for row in rows:
        row["labels"] = " ".join(f"{key}={value}" for key, value in row["labels"].items())
        yield writer.line(map(harmless, row.values()))


def as_jsonl(rows: Iterable[JsonObject]) -> Iterator[str]:
    """The lines of a JSON Lines file."""
    return (f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


@dataclass(frozen=True)
class Format:
    """A file format. `heading_lines` is the number of lines before the first run."""

    lines: Callable[[Iterable[JsonObject]], Iterator[str]]
    content_type: str
    heading_lines: int


DEFAULT_FORMAT = "csv"
FORMATS = {
    "csv": Format(as_csv, "text/csv; charset=utf-8", heading_lines=1),
    "jsonl": Format(as_jsonl, "application/x-ndjson", heading_lines=0),
}


def exported(runs: QuerySet[Run], format_name: str, caller: Caller) -> tuple[Iterator[str], str]:
    """The lines of the file for the caller, and its content type."""
    file_format = FORMATS[format_name]
    return file_format.lines(rows(runs, caller)), file_format.content_type
