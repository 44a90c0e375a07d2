"""The groups of `rows.aggregate`: what is counted, added up and compared."""

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from math import fsum
from typing import Literal

from typing_extensions import TypedDict

from graphs.definition.types import Json, JsonObject
from graphs.nodes.base import NodeFailed

MAX_GROUPS = 200_000
MAX_PARTS = 1000  # numbers of a sum that wait to be added
NUMBER = "numbers"
KINDS = {bool: "booleans", int: NUMBER, float: NUMBER, str: "text", list: "lists", dict: "objects"}
Key = tuple[Json, ...]


class Measure(TypedDict):
    """A function, and the column that it works on. `count` without a column counts rows."""

    function: Literal["count", "sum", "mean", "min", "max"]
    column: str


def key_of(values: Iterable[Json]) -> Key:
    """Values as a key. Unlike for Python, true is not 1 here. Raises NodeFailed."""
    key = tuple([(value,) if value is True or value is False else value for value in values])
    try:
        hash(key)
    except TypeError:
        raise NodeFailed("rows can't be grouped or joined by lists and objects") from None
    return key


def values_of(key: Key) -> list[Json]:
    return [value[0] if isinstance(value, tuple) else value for value in key]


class _ColumnMeasures:
    """The count, sum, minimum and maximum of a column in one group. Nulls don't count.

    Whole numbers are added exactly, and others a thousand at a time, each time with one rounding.
    """

    __slots__ = ("_parts", "_total", "count", "maximum", "minimum")

    def __init__(self, value: Json) -> None:
        self.count = 0
        self._total: int = 0
        self._parts: list[float] = []
        self.minimum = self.maximum = value

    def add(self, value: Json, is_number: bool) -> None:
        self.count += 1
        if value < self.minimum:
            self.minimum = value
        elif value > self.maximum:
            self.maximum = value
        if type(value) is int:
            self._total += value
        elif is_number:
            self._parts.append(value)
            if len(self._parts) > MAX_PARTS:
                self._parts = [fsum(self._parts)]

    @property
    def total(self) -> int | float:
        if not self._parts:
            return self._total
        return float(sum(map(Fraction, self._parts), Fraction(self._total)))


class Groups:
    """The measures of each group, in order of appearance, updated row by row.

    A column has one kind of values in all its rows, else nothing in it can be compared. Sums and
    means are for numbers.
    """

    def __init__(self, by: list[str], measures: Mapping[str, Measure]) -> None:
        self._by = by
        self._measures = measures
        used = [measure["column"] for measure in measures.values() if measure["column"]]
        self._columns = list(dict.fromkeys(used))
        self._kinds: dict[str, str] = {}
        self._added_up = {
            measure["column"]: measure["function"]
            for measure in measures.values()
            if measure["function"] in ("sum", "mean")
        }
        self._compared = {
            measure["column"] for measure in measures.values() if measure["function"] != "count"
        }
        self._groups: dict[Key, _Group] = {}

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return [*self._by, *self._columns]

    def add(self, row: JsonObject) -> None:
        """Raises NodeFailed for a value that its measure isn't for, or for too many groups."""
        key = key_of([row.get(column) for column in self._by])
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= MAX_GROUPS:
                raise NodeFailed(
                    f"there are more than {MAX_GROUPS:,} groups; group by fewer columns"
                )
            group = self._groups[key] = _Group()
        group.rows += 1
        for column in self._columns:
            value = row.get(column)
            if value is not None:
                self._add_value(group, column, value)

    def _add_value(self, group: "_Group", column: str, value: Json) -> None:
        if column not in self._compared:
            group.counts[column] = group.counts.get(column, 0) + 1
            return
        kind = KINDS[type(value)]
        if kind != self._kinds.get(column):
            self._check_kind(column, kind, value)
        measures = group.measures.get(column)
        if measures is None:
            measures = group.measures[column] = _ColumnMeasures(value)
        measures.add(value, kind is NUMBER)

    def _check_kind(self, column: str, kind: str, value: Json) -> None:
        """Raises NodeFailed unless values of this kind can be measured in the column."""
        if column in self._kinds:
            raise NodeFailed(
                f"the column {column!r} holds {self._kinds[column]} and {kind} ({value!r:.60});"
                " a measure needs one kind of values"
            )
        if column in self._added_up and kind != NUMBER:
            raise NodeFailed(
                f"{self._added_up[column]} needs numbers, and the column {column!r} holds {kind}"
                f" ({value!r:.60}); convert it with rows.map, as in double(row.{column})"
            )
        if kind in ("lists", "objects"):
            raise NodeFailed(f"the column {column!r} holds {kind}, which have no order")
        self._kinds[column] = kind

    def results(self) -> list[JsonObject]:
        """A row for each group. Raises NodeFailed if a sum is too large."""
        try:
            return [
                dict(zip(self._by, values_of(key), strict=True))
                | {name: group.result(measure) for name, measure in self._measures.items()}
                for key, group in self._groups.items()
            ]
        except OverflowError:
            raise NodeFailed("a sum or a mean is too large for a number") from None


class _Group:
    """What was seen of one group."""

    __slots__ = ("counts", "measures", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.counts: dict[str, int] = {}  # of columns that are only counted
        self.measures: dict[str, _ColumnMeasures] = {}

    def result(self, measure: Measure) -> Json:
        function, column = measure["function"], measure["column"]
        if function == "count" and not column:
            return self.rows
        measures = self.measures.get(column)
        if measures is None:
            return self.counts.get(column, 0) if function == "count" else None
        return _RESULTS[function](measures)


def _mean(measures: _ColumnMeasures) -> float:
    return measures.total / measures.count


_RESULTS: dict[str, Callable[[_ColumnMeasures], Json]] = {
    "count": lambda measures: measures.count,
    "sum": lambda measures: measures.total,
    "mean": _mean,
    "min": lambda measures: measures.minimum,
    "max": lambda measures: measures.maximum,
}
