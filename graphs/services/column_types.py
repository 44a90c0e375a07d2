"""The types of the columns of CSV files, and values that come back letter for letter.

CSV is text. A column becomes numbers only where each of its values can be written again as it was:

=========  ========================================================  ==========================
type       every value of the column that is not empty is            `converter` makes of it
=========  ========================================================  ==========================
integer    a whole number of at most 18 digits: 7, -7, 0             int
number     a decimal number that a float holds exactly as written:   float
           1.5, -2, 0.25
text       anything; also 007, +1, 1e3, 1_000, nan, 1.50 beside      str
           1.5, and 9007199254740993 beside 0.5
=========  ========================================================  ==========================

An empty cell is None, whatever the type. The numbers of a column may have trailing zeros if all of
them have at least as many decimals: 1.50, 2.00 and 0.125. The column's `decimals` says how many.
"""

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import NotRequired

from typing_extensions import TypedDict

from graphs.definition.types import Json

INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # 18 digits fit into 64 bits
EXACT_DIGITS = 15  # that every float holds
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.([0-9]+))?")


class Column(TypedDict):
    """A column of a table. `type` is "integer", "number", "text", or "any" where it isn't known.

    `decimals` is the number of decimals that each value of a number column has at least; 0 if it
    isn't given.
    """

    name: str
    type: str
    decimals: NotRequired[int]


class ColumnSeen:
    """Finds the narrowest type that holds all values of a column, while its values are read."""

    __slots__ = ("_decimals", "_exactly", "_floats_hold_all", "_integer", "_number")

    def __init__(self) -> None:
        self._integer = True
        self._number = True
        self._floats_hold_all = True
        self._exactly: int | None = None  # the decimals of values that end with zeros
        self._decimals = 400  # the fewest decimals of the other values

    def add(self, values: Iterable[str]) -> None:
        """Take more values into account. Empty ones don't count."""
        if not self._number:
            return
        for value in values:
            if value and not (self._integer and self._add_integer(value)):
                self._integer = False
                self._number = self._floats_hold_all and self._add_number(value)
                if not self._number:
                    return

    def _add_integer(self, value: str) -> bool:
        """Whether the value, and the column with it, can be integers."""
        if not INTEGER.fullmatch(value):
            return False
        self._decimals = 0
        if len(value) > EXACT_DIGITS and _shortest(float(value)) != value:
            self._floats_hold_all = False
        return True

    def _add_number(self, value: str) -> bool:
        """Whether the value, and the column with it, can be numbers."""
        match = NUMBER.fullmatch(value)
        if match is None:
            return False
        decimals = len(match[1] or "")
        shortest = _shortest(float(value))
        needed = len(shortest.partition(".")[2])
        if value != _padded(shortest, decimals):
            return False
        if decimals == needed:
            self._decimals = min(self._decimals, decimals)
        elif self._exactly in (None, decimals):
            self._exactly = decimals
        else:
            return False
        return self._exactly is None or self._exactly <= self._decimals

    def column(self, name: str) -> Column:
        if self._integer or not self._number:
            return Column(name=name, type="integer" if self._integer else "text")
        if self._exactly:
            return Column(name=name, type="number", decimals=self._exactly)
        return Column(name=name, type="number")


def converter(column: Column) -> Callable[[str], Json]:
    """The function that makes a value of a column from the text of a cell."""
    return _CONVERTERS.get(column["type"], _text)


def text_of(value: float, decimals: int) -> str:
    """A value of a number column as it was written."""
    return _padded(_shortest(value), decimals)


def _shortest(value: float) -> str:
    """The shortest text of a number without an exponent, such as 2 and 0.25."""
    text = repr(value)
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.removesuffix(".0")


def _padded(text: str, decimals: int) -> str:
    """The text with at least so many decimals."""
    given = len(text.partition(".")[2])
    if given >= decimals:
        return text
    return f"{text}{'' if given else '.'}{'0' * (decimals - given)}"


def _integer(text: str) -> int | None:
    return int(text) if text else None


def _number(text: str) -> float | None:
    return float(text) if text else None


def _text(text: str) -> str | None:
    return text or None


_CONVERTERS: dict[str, Callable[[str], Json]] = {"integer": _integer, "number": _number}
