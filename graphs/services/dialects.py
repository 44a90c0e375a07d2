"""Which character separates the columns of a CSV file.

A delimiter fits a file if it gives every row as many columns as the header, and more than one. If
exactly one fits, it is taken; if several do, or if a file of one column holds what may be another
delimiter, somebody has to choose.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import IO

from graphs.services.csv_files import DELIMITERS, CsvReader

SAMPLE_BYTES = 2**18
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
AUTO = "auto"
BY_NAME = {AUTO: ""} | {name: delimiter for delimiter, name in NAMES.items()}


class Undecided(Exception):
    """Nobody but a person can tell the delimiter of this file. `choices` are those that may be."""

    def __init__(self, name: str, choices: list[str]) -> None:
        names = [NAMES[choice] for choice in choices]
        listed = f"{', '.join(names[:-1])} or {names[-1]}"
        super().__init__(f"{name}: say which delimiter separates its columns: {listed}")
        self.choices = choices


def delimiter_of(file: IO[bytes], name: str) -> str:
    """The delimiter of a CSV file in UTF-8, by its beginning. Raises Undecided."""
    sample = _sample(file)
    widths = {delimiter: _widths(sample, delimiter) for delimiter in DELIMITERS}
    fitting = [delimiter for delimiter in DELIMITERS if _fits(widths[delimiter])]
    if len(fitting) > 1:
        raise Undecided(name, fitting)
    if fitting:
        return fitting[0]
    # None fits. The rows that don't fit the best one will be reported.
    return max(DELIMITERS, key=lambda delimiter: _rows_that_fit(widths[delimiter]))


def checked(reader: CsvReader, name: str) -> Iterator[list[str]]:
    """The rows of a file whose delimiter nobody has given. Raises Undecided.

    The only column of a table may well be text with semicolons, or the file may have been meant to
    have more columns than one. Text in quotation marks is text.
    """
    if len(reader.header) > 1:
        yield from reader
        return
    for row in reader:
        if not reader.quoted:
            others = [delimiter for delimiter in DELIMITERS[1:] if delimiter in row[0]]
            if others:
                raise Undecided(name, [",", *others])
        yield row


def _sample(file: IO[bytes]) -> str:
    """The first lines of a file, as text."""
    data = file.read(SAMPLE_BYTES)
    if len(data) == SAMPLE_BYTES:
        data = data[: data.rfind(b"\n") + 1]
    return data.decode("utf-8-sig", "replace").replace("\x00", "")


def _widths(sample: str, delimiter: str) -> Sequence[int]:
    """The number of columns of each row. Rows from the first broken one on are left out."""
    widths: list[int] = []
    try:
        for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, strict=True):
            if row:
                widths.append(len(row))
    except csv.Error:
        pass
    return widths


def _fits(widths: Sequence[int]) -> bool:
    return bool(widths) and widths[0] > 1 and len(set(widths)) == 1


def _rows_that_fit(widths: Sequence[int]) -> int:
    """The rows that are as wide as the header; -1 if that has one column only."""
    if not widths or widths[0] < 2:
        return -1
    return widths.count(widths[0])
