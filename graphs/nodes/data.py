"""Nodes that read and transform tables: dataset.read and the rows.* nodes.

Rows are streamed from file to file. Only two things stay in memory: the groups of an aggregation
and the right table of a join. Both have a limit.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from graphs.definition import expressions
from graphs.definition.types import Json, JsonObject
from graphs.nodes.base import Column, Context, NodeFailed, Table, node
from graphs.nodes.groups import KINDS, Groups, Key, Measure, key_of, values_of

Expression = Annotated[
    str,
    Field(
        description="A CEL expression over `row`, such as `row.delay > 60`.",
        json_schema_extra={"format": "cel"},
        min_length=1,
        max_length=expressions.MAX_LENGTH,
    ),
]
MAX_JOIN_ROWS = 500_000
ROWS_PER_PROGRESS = 2000


class TableOutput(TypedDict):
    table: Table
    rows: int


def _output(table: Table) -> TableOutput:
    return TableOutput(table=table, rows=table["rows"])


def rows_with_progress(ctx: Context, table: Table) -> Iterator[JsonObject]:
    """The rows of a table. Reports the share of the rows that were read as progress."""
    for index, row in enumerate(ctx.rows(table)):
        if index % ROWS_PER_PROGRESS == 0:
            ctx.progress(index / max(table["rows"], 1))
        yield row


def _compiled(text: str, input_name: str) -> expressions.Expression:
    try:
        return expressions.compiled(text)
    except expressions.BadExpression as error:
        raise NodeFailed(f"{input_name}: {error}") from None


def _evaluate(expression: expressions.Expression, row: JsonObject, number: int) -> Json:
    """The value of an expression for the row with this number, from 1."""
    try:
        return expression.evaluate_with({"row": row})
    except expressions.EvaluationFailed as error:
        raise NodeFailed(f"row {number}: {error}") from None


@node("dataset.read")
def read(ctx: Context, table: str) -> TableOutput:
    """Read a table of the run's dataset."""
    source = ctx.dataset_table(table)
    ctx.log(f"Read {table}: {source['rows']:,} rows")
    return _output(source)


@node("rows.filter")
def filter_rows(ctx: Context, table: Table, where: Expression) -> TableOutput:
    """Keep only the rows for which an expression is true.

    Example: `row.dep_delay != null && row.dep_delay > 60`.
    """
    condition = _compiled(where, "where")

    def matching_rows() -> Iterator[JsonObject]:
        for number, row in enumerate(rows_with_progress(ctx, table), start=1):
            matches = _evaluate(condition, row, number)
            if not isinstance(matches, bool):
                raise NodeFailed(f"where: {where!r} must be true or false; it is {matches!r:.60}")
            if matches:
                yield row

    return _output(ctx.write_table("filtered", matching_rows(), table["columns"]))


@node("rows.map")
def map_rows(
    ctx: Context, table: Table, columns: dict[str, Expression], keep: bool = False
) -> TableOutput:
    """Compute columns, each with an expression over `row`.

    The result has the computed columns only. With `keep` it also has the columns of the table; a
    computed column replaces the one of the same name.
    """
    computed = {name: _compiled(text, f"columns.{name}") for name, text in columns.items()}

    def mapped_rows() -> Iterator[JsonObject]:
        for number, row in enumerate(rows_with_progress(ctx, table), start=1):
            values = {
                name: _evaluate(expression, row, number) for name, expression in computed.items()
            }
            yield {**row, **values} if keep else values

    kept_columns = [
        column for column in table["columns"] if keep and column["name"] not in computed
    ]
    new_columns = [Column(name=name, type="any") for name in computed]
    return _output(ctx.write_table("mapped", mapped_rows(), [*kept_columns, *new_columns]))


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
    means are for columns of numbers. `order_by`
    sorts by a column of the result, descending with a leading minus ("-mean"), nulls last.
    `limit` keeps only the first rows of the result; 0 keeps all.
    """
    groups = Groups(by, measures)
    for number, row in enumerate(rows_with_progress(ctx, table), start=1):
        try:
            groups.add(row)
        except NodeFailed as error:
            raise NodeFailed(f"row {number}: {error}") from None
    results = groups.results()
    if order_by:
        results = _ordered(results, order_by)
    if limit:
        results = results[:limit]
    columns = _aggregated_columns(table, by, measures)
    return _output(ctx.write_table("aggregated", iter(results), columns))


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


@node("rows.join")
def join(
    ctx: Context,
    left: Table,
    right: Table,
    on: dict[str, str],
    how: Literal["inner", "left"] = "inner",
    prefix: str = "",
) -> TableOutput:
    """Join two tables on equal columns. `on` maps columns of the left table to the right table.

    An inner join drops rows of the left table without a match; a left join keeps them, with nulls.
    `prefix` is put before the names of the right table's columns. A right column whose name also
    exists on the left is left out.
    """
    if right["rows"] > MAX_JOIN_ROWS:
        raise NodeFailed(
            f"the right table has {right['rows']:,} rows, and at most {MAX_JOIN_ROWS:,} are "
            "allowed; put the larger table on the left"
        )

    right_names = _joined_names(left, right, on, prefix)
    matches = _rows_by_key(ctx.rows(right), list(on.values()), right_names)
    kinds = _KeyKinds(on, matches)
    without_match = [dict.fromkeys(right_names.values())] if how == "left" else []

    def joined_rows() -> Iterator[JsonObject]:
        for row in rows_with_progress(ctx, left):
            key = key_of([row.get(column) for column in on])
            found = matches.get(key)
            if found is None:
                kinds.see(key)
            for right_row in without_match if found is None else found:
                yield {**row, **right_row}
        kinds.require_a_common_one()

    right_columns = [
        Column(name=right_names[column["name"]], type=column["type"])
        for column in right["columns"]
        if column["name"] in right_names
    ]
    return _output(ctx.write_table("joined", joined_rows(), [*left["columns"], *right_columns]))


def _joined_names(left: Table, right: Table, on: dict[str, str], prefix: str) -> dict[str, str]:
    """The right columns that the result has, with the names that they have there."""
    taken = {column["name"] for column in left["columns"]}
    candidates = [
        column["name"] for column in right["columns"] if column["name"] not in on.values()
    ]
    return {name: f"{prefix}{name}" for name in candidates if f"{prefix}{name}" not in taken}


class _KeyKinds:
    """The kinds of values on both sides of a join, to tell text from numbers that look like it."""

    def __init__(self, on: dict[str, str], matches: Mapping[Key, object]) -> None:
        self._on = on
        self._right = _kinds(matches, len(on))
        self._left: list[set[str]] = [set() for _ in on]

    def see(self, key: Key) -> None:
        for kinds, value in zip(self._left, values_of(key), strict=True):
            if value is not None:
                kinds.add(KINDS[type(value)])

    def require_a_common_one(self) -> None:
        """Raises NodeFailed if a column has text on one side and numbers on the other."""
        for (left, right), ours, theirs in zip(
            self._on.items(), self._left, self._right, strict=True
        ):
            if ours and theirs and not ours & theirs:
                raise NodeFailed(
                    f"on: {left!r} holds {'/'.join(sorted(ours))} and {right!r} of the right table"
                    f" holds {'/'.join(sorted(theirs))}, which are never equal; convert one of them"
                    " with rows.map"
                )


def _kinds(keys: Iterable[Key], width: int) -> list[set[str]]:
    kinds: list[set[str]] = [set() for _ in range(width)]
    for key in keys:
        for found, value in zip(kinds, values_of(key), strict=True):
            if value is not None:
                found.add(KINDS[type(value)])
    return kinds


def _rows_by_key(
    rows: Iterable[JsonObject], key_columns: list[str], names: dict[str, str]
) -> dict[Key, list[JsonObject]]:
    """The renamed rows of the right table by the values that they are joined on."""
    by_key: dict[Key, list[JsonObject]] = {}
    for row in rows:
        key = key_of([row.get(column) for column in key_columns])
        renamed = {new_name: row.get(name) for name, new_name in names.items()}
        by_key.setdefault(key, []).append(renamed)
    return by_key
