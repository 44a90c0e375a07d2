"""The node that joins two tables: rows.join."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from graphs.nodes.base import Column, Context, NodeFailed, Table, node
from graphs.nodes.data import TableOutput, output, require_columns, with_progress
from graphs.nodes.groups import KINDS, Key, key_of, values_of
from graphs.services import tabular
from graphs.services.table_reader import TableRows

MAX_JOIN_ROWS = 500_000


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
    As in SQL, a null equals nothing, not even another null.
    `prefix` is put before the names of the right table's columns. A right column whose name also
    exists on the left is left out.
    """
    _check(left, right, on)
    right_names = _joined_names(left, right, on, prefix)
    with ctx.open_table(right) as rows:
        matches = _members_by_key(rows, list(on.values()), right_names)
    kinds = _KeyKinds(on, matches)
    nulls = [tabular.to_json(dict.fromkeys(right_names.values()))]
    without_match = nulls if how == "left" else []

    def joined_lines(rows: TableRows) -> Iterator[str]:
        members = rows.json_members(without=right_names.values())
        for raw, values in with_progress(ctx, left, rows.pairs(list(on))):
            key = key_of([values.get(column) for column in on])
            found = matches.get(key)
            if found is None:
                kinds.see(key)
                found = without_match
            for right_members in found:
                yield f"{tabular.joined_members(members(raw), right_members)}\n"
        kinds.require_a_common_one()

    right_columns: list[Column] = [
        {**column, "name": right_names[column["name"]]}
        for column in right["columns"]
        if column["name"] in right_names
    ]
    with ctx.open_table(left) as rows:
        joined = ctx.write_lines(
            "joined", "jsonl", joined_lines(rows), [*left["columns"], *right_columns]
        )
    return output(joined)


def _check(left: Table, right: Table, on: dict[str, str]) -> None:
    """Raises NodeFailed if the right table is too large, or columns are missing."""
    if right["rows"] > MAX_JOIN_ROWS:
        raise NodeFailed(
            f"the right table has {right['rows']:,} rows, and at most {MAX_JOIN_ROWS:,} are "
            "allowed; put the larger table on the left"
        )
    if not on:
        raise NodeFailed("on: name the columns by which the tables are joined")
    require_columns(left, on, "on (left table)")
    require_columns(right, on.values(), "on (right table)")


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


def _members_by_key(
    rows: TableRows, key_columns: list[str], names: dict[str, str]
) -> dict[Key, list[str]]:
    """The renamed rows of the right table, as JSON, by the values that they are joined on."""
    by_key: dict[Key, list[str]] = {}
    members = rows.named_members(names)
    for raw, values in rows.pairs(key_columns):
        key = key_of([values.get(column) for column in key_columns])
        if None in key:
            continue
        by_key.setdefault(key, []).append(f"{{{members(raw)}}}")
    return by_key
