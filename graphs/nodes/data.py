"""Nodes over tables: read, filter, map, aggregate, join, export, zip. Rows stream; only groups and the right side of a join are held."""

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import Field
from typing_extensions import TypedDict

from graphs.definition import expressions
from graphs.nodes.base import Column, Context, File, NodeFailed, Table, node
from graphs.services import tabular

Expression = Annotated[
    str,
    Field(
        description="A CEL expression over `row`",
        json_schema_extra={"format": "cel"},
        min_length=1,
        max_length=expressions.MAX_LENGTH,
    ),
]
MAX_GROUPS = 200_000
MAX_JOIN_ROWS = 500_000


class TableOutput(TypedDict):
    table: Table
    rows: int


class FileOutput(TypedDict):
    file: File
    rows: int


class ZipOutput(TypedDict):
    file: File
    files: int


def _output(table: Table) -> TableOutput:
    return TableOutput(table=table, rows=table["rows"])


def _tracked(ctx: Context, table: Table) -> Iterator[dict[str, Any]]:
    """The rows of a table, reporting progress on the way."""
    for at, row in enumerate(ctx.rows(table)):
        if at % 2000 == 0:
            ctx.progress(at / max(table["rows"], 1))
        yield row


def _compiled(text: str, where: str) -> expressions.Expression:
    try:
        return expressions.compiled(text)
    except expressions.BadExpression as error:
        raise NodeFailed(f"{where}: {error}") from None


def _evaluated(
    expression: expressions.Expression, rows: Iterable[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Any]]:
    for at, row in enumerate(rows, start=1):
        try:
            yield row, expression.evaluate_with({"row": row})
        except expressions.EvaluationFailed as error:
            raise NodeFailed(f"row {at}: {error}") from None


@node("dataset.read")
def read(ctx: Context, table: str) -> TableOutput:
    """Give a table of the run's dataset to the next nodes."""
    found = ctx.dataset_table(table)
    ctx.log(f"Read {table}: {found['rows']:,} rows")
    return _output(found)


@node("rows.filter")
def filter_rows(ctx: Context, table: Table, where: Expression) -> TableOutput:
    """Keep the rows for which the expression is true, such as `row.dep_delay != null && row.dep_delay > 60`."""
    condition = _compiled(where, "where")

    def kept() -> Iterator[dict[str, Any]]:
        for row, value in _evaluated(condition, _tracked(ctx, table)):
            if not isinstance(value, bool):
                raise NodeFailed(f"where: {where!r} must be true or false; it is {value!r:.60}")
            if value:
                yield row

    return _output(ctx.write_table("filtered", kept(), table["columns"]))


@node("rows.map")
def map_rows(
    ctx: Context, table: Table, columns: dict[str, Expression], keep: bool = False
) -> TableOutput:
    """Compute columns, each by an expression over `row`; with `keep` beside the columns that are there."""
    computed = {name: _compiled(text, f"columns.{name}") for name, text in columns.items()}

    def mapped() -> Iterator[dict[str, Any]]:
        for at, row in enumerate(_tracked(ctx, table), start=1):
            try:
                new = {
                    name: expression.evaluate_with({"row": row})
                    for name, expression in computed.items()
                }
            except expressions.EvaluationFailed as error:
                raise NodeFailed(f"row {at}: {error}") from None
            yield {**row, **new} if keep else new

    kept = [column for column in table["columns"] if keep and column["name"] not in computed]
    return _output(
        ctx.write_table(
            "mapped", mapped(), [*kept, *(Column(name=name, type="any") for name in computed)]
        )
    )


class Measure(TypedDict):
    """One aggregate: a function and, for all but count, the column that it works on."""

    function: Literal["count", "sum", "mean", "min", "max"]
    column: str


class _Group:
    """The running aggregates of one group: rows, and count, sum, minimum and maximum of each column (nulls don't count)."""

    __slots__ = ("rows", "values")

    def __init__(self) -> None:
        self.rows = 0
        self.values: dict[str, list[Any]] = {}

    def add(self, row: Mapping[str, Any], columns: Iterable[str]) -> None:
        self.rows += 1
        for column in columns:
            if (value := row.get(column)) is None:
                continue
            if column not in self.values:
                self.values[column] = [1, value, value, value]
                continue
            seen = self.values[column]
            seen[0] += 1
            seen[1] += value
            seen[2], seen[3] = min(seen[2], value), max(seen[3], value)

    def result(self, measure: Measure) -> Any:
        count, total, least, most = self.values.get(measure["column"], [0, None, None, None])
        if measure["function"] == "count":
            return count if measure["column"] else self.rows
        if measure["function"] == "mean":
            return round(total / count, 6) if count else None
        return {"sum": total, "min": least, "max": most}[measure["function"]]


@node("rows.aggregate")
def aggregate(
    ctx: Context,
    table: Table,
    by: list[str],
    measures: dict[str, Measure],
    order_by: str = "",
    limit: Annotated[int, Field(ge=0)] = 0,
) -> TableOutput:
    """Group by columns and measure each group. `order_by` sorts by a result column ("-name" descending), `limit` keeps the first."""
    groups: dict[tuple[Any, ...], _Group] = {}
    columns = {measure["column"] for measure in measures.values() if measure["column"]}
    for at, row in enumerate(_tracked(ctx, table), start=1):
        key = tuple(row.get(column) for column in by)
        group = groups.get(key)
        if group is None:
            if len(groups) >= MAX_GROUPS:
                raise NodeFailed(f"more than {MAX_GROUPS:,} groups; group by fewer columns")
            group = groups[key] = _Group()
        try:
            group.add(row, columns)
        except TypeError as error:
            raise NodeFailed(f"row {at}: a measure needs numbers: {error}") from None
    results = [
        dict(zip(by, key, strict=True))
        | {name: group.result(measure) for name, measure in measures.items()}
        for key, group in groups.items()
    ]
    if order_by:
        results = _sorted(results, order_by)
    names = [*by, *measures]
    return _output(
        ctx.write_table(
            "aggregated",
            iter(results[:limit] if limit else results),
            [Column(name=name, type="any") for name in names],
        )
    )


def _sorted(rows: list[dict[str, Any]], order_by: str) -> list[dict[str, Any]]:
    """Sorted by one column, nulls last either way."""
    name = order_by.removeprefix("-")
    if rows and name not in rows[0]:
        raise NodeFailed(f"order_by: there is no column {name!r}; there are {', '.join(rows[0])}")
    filled = sorted(
        (row for row in rows if row[name] is not None),
        key=lambda row: row[name],
        reverse=order_by.startswith("-"),
    )
    return filled + [row for row in rows if row[name] is None]


@node("rows.join")
def join(
    ctx: Context,
    left: Table,
    right: Table,
    on: dict[str, str],
    how: Literal["inner", "left"] = "inner",
    prefix: str = "",
) -> TableOutput:
    """Join two tables where the left columns equal the right ones. `on` is {left column: right column}.

    Right columns whose name the left table has are left out, unless `prefix` renames the right columns.
    """
    if right["rows"] > MAX_JOIN_ROWS:
        raise NodeFailed(
            f"the right table has {right['rows']:,} rows; {MAX_JOIN_ROWS:,} fit. Put the larger table on the left"
        )
    by_key: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    taken = {column["name"] for column in left["columns"]}
    names = {
        column["name"]: f"{prefix}{column['name']}"
        for column in right["columns"]
        if column["name"] not in on.values()
    }
    names = {name: new for name, new in names.items() if new not in taken}
    for row in ctx.rows(right):
        by_key.setdefault(tuple(row.get(column) for column in on.values()), []).append(
            {new: row.get(name) for name, new in names.items()}
        )
    nothing = [dict.fromkeys(names.values())] if how == "left" else []

    def joined() -> Iterator[dict[str, Any]]:
        for row in _tracked(ctx, left):
            for other in by_key.get(tuple(row.get(column) for column in on), nothing):
                yield {**row, **other}

    columns = [
        *left["columns"],
        *(
            Column(name=names[column["name"]], type=column["type"])
            for column in right["columns"]
            if column["name"] in names
        ),
    ]
    return _output(ctx.write_table("joined", joined(), columns))


@node("table.export")
def export(
    ctx: Context,
    table: Table,
    name: str,
    format: Literal["csv", "jsonl"] = "csv",
    guard_formulas: bool = True,
) -> FileOutput:
    """Write a table as a file of the run. The guard keeps spreadsheets from running cells that start with = + - or @."""
    columns = [column["name"] for column in table["columns"]]
    file_name = name if name.endswith(f".{format}") else f"{name}.{format}"
    rows = _tracked(ctx, table)
    with ctx.artifact(file_name) as file:
        for chunk in (
            tabular.write_csv(rows, columns, guard_formulas)
            if format == "csv"
            else tabular.write_jsonl(rows)
        ):
            file.write(chunk)
    ctx.emit(table["rows"])
    ctx.log(f"Exported {name}: {table['rows']:,} rows")
    return FileOutput(file=file.file, rows=table["rows"])


@node("zip")
def zip_files(ctx: Context, files: list[File | None], name: str = "export.zip") -> ZipOutput:
    """Put files of the run into one zip; what a branch that didn't run would have made is left out."""
    present = [file for file in files if file]
    with (
        ctx.artifact(name) as target,
        zipfile.ZipFile(cast(Any, _Stream(target)), "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for at, each in enumerate(present):
            ctx.progress(at / max(len(present), 1))
            with (
                ctx.open_file(each["file"]) as source,
                archive.open(each["name"], "w", force_zip64=True) as entry,
            ):
                while chunk := source.read(2**18):
                    entry.write(chunk)
    ctx.log(f"Packed {len(present)} file{'' if len(present) == 1 else 's'} into {name}")
    return ZipOutput(file=target.file, files=len(present))


class _Stream:
    """A write-only file for zipfile, which then needs neither seek nor tell."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def write(self, data: bytes) -> int:
        self._target.write(data)
        return len(data)

    def flush(self) -> None:
        pass
