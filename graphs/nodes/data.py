"""Nodes that read and transform tables: dataset.read and the rows.* nodes.

Rows are streamed from file to file. Only two things stay in memory: the groups of an aggregation
and the right table of a join (`joins`). Both have a limit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from graphs.definition import expressions
from graphs.definition.types import Json, JsonObject
from graphs.nodes.base import STOPPED, Column, Context, NodeFailed, Table, node
from graphs.nodes.groups import Groups, Measure
from graphs.services import tabular
from graphs.services.table_reader import Raw, TableRows

Expression = Annotated[
    str,
    Field(
        description="A CEL expression over `row`, such as `row.delay > 60`.",
        json_schema_extra={"format": "cel"},
        min_length=1,
        max_length=expressions.MAX_LENGTH,
    ),
]
MAX_REMEMBERED = 10_000  # values of one expression
ROWS_PER_PROGRESS = 2000
Row = TypeVar("Row")


class TableOutput(TypedDict):
    table: Table
    rows: int


def output(table: Table) -> TableOutput:
    return TableOutput(table=table, rows=table["rows"])


def with_progress(ctx: Context, table: Table, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows of a table. Reports the share of the rows that were read as progress."""
    for index, row in enumerate(rows):
        if index % ROWS_PER_PROGRESS == 0:
            if ctx.cancelled:
                raise NodeFailed(STOPPED)
            ctx.progress(index / max(table["rows"], 1))
        yield row


def _compiled(text: str, input_name: str) -> expressions.Expression:
    try:
        return expressions.compiled(text)
    except expressions.BadExpression as error:
        raise NodeFailed(f"{input_name}: {error}") from None


class _Evaluator:
    """Evaluates an expression for the rows of a table.

    `finish` makes the result of a value. Results for the first cells that it sees are remembered,
    because most columns have few values.
    """

    def __init__(self, expression: expressions.Expression, finish: Callable[[Json], Json]) -> None:
        self._expression = expression
        self._finish = finish
        self.wanted = expression.members_of("row")
        self._memory: dict[object, Json] = {}
        self._key: Callable[[Raw], object] | None = None

    def prepare(self, rows: TableRows) -> None:
        self._key = None if self.wanted is None else rows.key_maker(self.wanted)

    def result(self, raw: Raw, values: JsonObject, number: int) -> Json:
        """The result for the row with this number, from 1."""
        if self._key is None:
            return self._finish(self._evaluated(values, number))
        key = self._key(raw)
        if key in self._memory:
            return self._memory[key]
        result = self._finish(self._evaluated(values, number))
        if len(self._memory) < MAX_REMEMBERED:
            self._memory[key] = result
        return result

    def _evaluated(self, values: JsonObject, number: int) -> Json:
        row = values
        if self.wanted is not None and len(self.wanted) != len(values):
            row = {name: values[name] for name in self.wanted if name in values}
        try:
            return self._expression.evaluate_with({"row": row})
        except expressions.EvaluationFailed as error:
            raise NodeFailed(f"row {number}: {error}") from None


@node("dataset.read")
def read(ctx: Context, table: str) -> TableOutput:
    """Read a table of the run's dataset."""
    source = ctx.dataset_table(table)
    ctx.log(f"Read {table}: {source['rows']:,} rows")
    return output(source)


@node("rows.filter")
def filter_rows(ctx: Context, table: Table, where: Expression) -> TableOutput:
    """Keep only the rows for which an expression is true.

    Example: `row.dep_delay != null && row.dep_delay > 60`.
    """

    def checked(matches: Json) -> bool:
        if not isinstance(matches, bool):
            raise NodeFailed(f"where: {where!r} must be true or false; it is {matches!r:.60}")
        return matches

    condition = _Evaluator(_compiled(where, "where"), checked)

    def matching_lines(rows: TableRows) -> Iterator[str]:
        condition.prepare(rows)
        pairs = with_progress(ctx, table, rows.pairs(condition.wanted))
        for number, (raw, values) in enumerate(pairs, start=1):
            if condition.result(raw, values, number):
                yield rows.line(raw)

    with ctx.open_table(table) as rows:
        filtered = ctx.write_lines(
            "filtered", rows.format, matching_lines(rows), table["columns"], rows.heading()
        )
    return output(filtered)


@node("rows.map")
def map_rows(
    ctx: Context, table: Table, columns: dict[str, Expression], keep: bool = False
) -> TableOutput:
    """Compute columns, each with an expression over `row`.

    The result has the computed columns only. With `keep` it also has the columns of the table; a
    computed column replaces the one of the same name.
    """
    computed = {
        name: _Evaluator(_compiled(text, f"columns.{name}"), _member(name))
        for name, text in columns.items()
    }

    def mapped_lines(rows: TableRows) -> Iterator[str]:
        evaluators = list(computed.values())
        for evaluator in evaluators:
            evaluator.prepare(rows)
        kept = rows.json_members(without=computed) if keep else None
        pairs = with_progress(ctx, table, rows.pairs(_wanted(computed.values())))
        for number, (raw, values) in enumerate(pairs, start=1):
            members = [made.result(raw, values, number) for made in evaluators]
            if kept and (taken_over := kept(raw)):
                members.insert(0, taken_over)
            yield f"{{{','.join(members)}}}\n"

    with ctx.open_table(table) as rows:
        mapped = ctx.write_lines(
            "mapped", "jsonl", mapped_lines(rows), _mapped_columns(table, columns, keep)
        )
    return output(mapped)


def _member(name: str) -> Callable[[Json], str]:
    """A function that writes a value as a member of an object."""
    start = f"{tabular.to_json(name)}:"
    return lambda value: start + tabular.to_json(value)


def _wanted(evaluators: Iterable[_Evaluator]) -> set[str] | None:
    """The columns that any of the expressions reads; None for all."""
    wanted: set[str] = set()
    for evaluator in evaluators:
        if evaluator.wanted is None:
            return None
        wanted |= evaluator.wanted
    return wanted


def _mapped_columns(table: Table, columns: Mapping[str, str], keep: bool) -> list[Column]:
    """The columns of the result. A column that is only renamed has the type that it had."""
    known = {f"row.{column['name']}": column for column in table["columns"]}
    kept = [column for column in table["columns"] if keep and column["name"] not in columns]
    new: list[Column] = [
        {**known[text.strip()], "name": name}
        if text.strip() in known
        else Column(name=name, type="any")
        for name, text in columns.items()
    ]
    return [*kept, *new]


@node("rows.aggregate")
def aggregate(
    ctx: Context,
    table: Table,
    by: list[str],
    measures: dict[str, Measure],
    order_by: str = "",
    limit: Annotated[int, Field(ge=0)] = 0,
) -> TableOutput:
    """Group the rows by columns and compute measures for each group.

    A measure is a function (count, sum, mean, min, max) of a column; nulls don't count. Sums and
    means are for columns of numbers. `order_by` sorts by a column of the result, descending with a
    leading minus ("-mean"), nulls last. `limit` keeps only the first rows of the result; 0 keeps
    all.
    """
    require_columns(table, by, "by")
    require_columns(
        table, [each["column"] for each in measures.values() if each["column"]], "measures"
    )
    if both := [name for name in measures if name in by]:
        raise NodeFailed(
            f"measures: {both[0]!r} is a column by which rows are grouped; choose another name"
        )
    groups = Groups(by, measures)
    with ctx.open_table(table) as rows:
        pairs = with_progress(ctx, table, rows.pairs(groups.columns))
        for number, (_, values) in enumerate(pairs, start=1):
            try:
                groups.add(values)
            except NodeFailed as error:
                raise NodeFailed(f"row {number}: {error}") from None
    results = groups.results()
    if order_by:
        results = _ordered(results, order_by)
    if limit:
        results = results[:limit]
    columns = _aggregated_columns(table, by, measures)
    return output(ctx.write_table("aggregated", iter(results), columns))


def require_columns(table: Table, names: Iterable[str], input_name: str) -> None:
    """Raises NodeFailed for a column that the table doesn't have."""
    known = [column["name"] for column in table["columns"]]
    for name in names:
        if name not in known:
            listed = ", ".join(known[:20]) or "none"
            raise NodeFailed(f"{input_name}: there is no column {name!r}; the columns are {listed}")


def _aggregated_columns(
    table: Table, by: list[str], measures: Mapping[str, Measure]
) -> list[Column]:
    """The columns of the result. Values that were taken over have the type that they had."""
    known = {column["name"]: column for column in table["columns"]}
    source = {name: name for name in by}
    for name, measure in measures.items():
        source[name] = measure["column"] if measure["function"] in ("min", "max") else ""
    return [
        {**known[column], "name": name} if column in known else Column(name=name, type="any")
        for name, column in source.items()
    ]


def _ordered(rows: list[JsonObject], order_by: str) -> list[JsonObject]:
    """The rows sorted by one column. Nulls come last in both directions."""
    name = order_by.removeprefix("-")
    if rows and name not in rows[0]:
        raise NodeFailed(f"order_by: there is no column {name!r}; choose from {', '.join(rows[0])}")
    with_value = [row for row in rows if row[name] is not None]
    try:
        with_value.sort(key=lambda row: row[name], reverse=order_by.startswith("-"))
    except TypeError:
        raise NodeFailed(f"order_by: the values of {name!r} have no common order") from None
    return with_value + [row for row in rows if row[name] is None]
