"""Nodes that make files for people: table.export and zip."""

import zipfile
from collections.abc import Iterator
from typing import Literal

from typing_extensions import TypedDict

from graphs.definition import names
from graphs.nodes.base import Context, File, FileWriter, Table, node
from graphs.nodes.data import with_progress
from graphs.services import tabular
from graphs.services.table_reader import TableRows

COPY_BYTES = 2**18


class FileOutput(TypedDict):
    file: File
    rows: int


class ZipOutput(TypedDict):
    file: File
    files: int


@node("table.export")
def export(
    ctx: Context,
    table: Table,
    name: str,
    format: Literal["csv", "jsonl"] = "csv",
    guard_formulas: bool = True,
) -> FileOutput:
    """Write a table to a file of the run, as CSV or JSON Lines.

    `guard_formulas` puts an apostrophe before CSV cells that a spreadsheet would run as a formula.
    """
    file_name = name if name.endswith(f".{format}") else f"{name}.{format}"
    with ctx.artifact(file_name) as target, ctx.open_table(table) as rows:
        for chunk in tabular.in_chunks(_lines(ctx, table, rows, format, guard_formulas)):
            target.write(chunk)

    ctx.emit(table["rows"])
    ctx.log(f"Exported {name}: {table['rows']:,} rows")
    return FileOutput(file=target.file, rows=table["rows"])


def _lines(
    ctx: Context, table: Table, rows: TableRows, format: str, guard_formulas: bool
) -> Iterator[str]:
    """The lines of the file. Cells of a CSV file are taken over as they are."""
    if format == "jsonl":
        members = rows.json_members(without=())
        return (f"{{{members(raw)}}}\n" for raw, _ in with_progress(ctx, table, rows.pairs(())))
    if rows.format == "csv":
        raws = (raw for raw, _ in with_progress(ctx, table, rows.pairs(())))
        return tabular.csv_lines_of_cells(raws, rows.columns, guard_formulas)
    values = (values for _, values in with_progress(ctx, table, rows.pairs()))
    return tabular.csv_lines(values, table["columns"], guard_formulas)


@node("zip")
def zip_files(ctx: Context, files: list[File | None], name: str = "export.zip") -> ZipOutput:
    """Pack files of the run into one zip file.

    Nulls in the list are skipped, so a branch that didn't run leaves no trace. Files of the same
    name are numbered: report.csv, report (2).csv.
    """
    present = [file for file in files if file]
    with (
        ctx.artifact(name) as target,
        zipfile.ZipFile(_Unseekable(target), "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        taken: set[str] = set()
        for index, file in enumerate(present):
            ctx.progress(index / len(present))
            entry = names.distinct(names.file_name(file["name"]), taken)
            taken.add(names.same_file(entry))
            _add(ctx, archive, file, entry)

    ctx.log(f"Packed {len(present)} file{'' if len(present) == 1 else 's'} into {name}")
    return ZipOutput(file=target.file, files=len(present))


def _add(ctx: Context, archive: zipfile.ZipFile, file: File, name: str) -> None:
    with (
        ctx.open_file(file["file"]) as source,
        archive.open(name, "w", force_zip64=True) as entry,
    ):
        while chunk := source.read(COPY_BYTES):
            entry.write(chunk)


class _Unseekable:
    """A write-only file without `seek` and `tell`, into which zipfile writes as into a pipe."""

    def __init__(self, target: FileWriter) -> None:
        self._target = target

    def write(self, data: bytes) -> int:
        self._target.write(data)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
