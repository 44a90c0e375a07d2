"""Runs as a file: all that match a query, streamed, so that memory stays flat whatever their number."""

import csv
import json
from collections.abc import Callable, Iterator
from typing import Any

from django.db.models import QuerySet

from graphs.definition.payloads import when
from runs.core import statuses
from runs.models import Run

COLUMNS = (
    "run_id", "name", "namespace__name", "graph__name", "status", "progress", "created_at", "started_at", "finished_at", "username", "workspace",
    "trigger", "labels", "success_count", "errored_count", "retried_count", "cancelled_count", "error_message",
)  # fmt: skip
NAMES = tuple(name.removesuffix("__name") for name in COLUMNS)
TIMES = ("created_at", "started_at", "finished_at")
PIECE = 1000
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def rows(runs: QuerySet[Run]) -> Iterator[dict[str, Any]]:
    """The runs, newest first, as plain values."""
    for values in (
        runs.order_by("-created_at", "-id").values_list(*COLUMNS).iterator(chunk_size=PIECE)
    ):
        row = dict(zip(NAMES, values, strict=True))
        row |= {name: when(row[name]) for name in TIMES}
        yield {**row, "result": statuses.RUN_RESULTS[row["status"]]}


def as_csv(runs: QuerySet[Run]) -> Iterator[str]:
    """RFC 4180 with a heading; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
    writer = csv.writer(Echo())
    yield writer.writerow([*NAMES, "result"])
    for row in rows(runs):
        row["labels"] = " ".join(f"{key}={value}" for key, value in row["labels"].items())
        yield writer.writerow([harmless(value) for value in row.values()])


def as_jsonl(runs: QuerySet[Run]) -> Iterator[str]:
    """One JSON object a line."""
    return (f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows(runs))


def harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


FORMATS: dict[str, tuple[Callable[[QuerySet[Run]], Iterator[str]], str]] = {
    "csv": (as_csv, "text/csv; charset=utf-8"),
    "jsonl": (as_jsonl, "application/x-ndjson"),
}


def exported(runs: QuerySet[Run], form: str) -> tuple[Iterator[str], str]:
    """The lines of the file and its type."""
    write, kind = FORMATS[form]
    return write(runs), kind
