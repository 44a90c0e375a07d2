"""What is read from a CSV file is written again letter for letter."""

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphs.services import tabular
from graphs.services.csv_files import BrokenTable, CsvReader

CELLS = [
    "", "0", "-0", "7", "007", "+1", " 1", "1 ", "1_000", "1e5", "12E4", "1.5", "1.50", "2.00",
    "0.125", "10.0", "-0.0", "9007199254740993", "999999999999999999", "1000000000000000000",
    "0.1000000000000000055", "1e400", "0.00001", "NaN", "nan", "inf", "-inf", "None", "null",
    "true", "True", "2026-03-01", "1,5", "1.234.567", "١٢٣", ".5", "5.", "-", "--5", "0x10", "1/2",
    "a\rb", "\r", "\n", "a\r\nb", '"', "a;b", "a\tb", "'x", "=1+1", "\ufeffx", "\u2028", "é",
]  # fmt: skip
numbers = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-(10**6), 10**6, places=2).map(str),
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
cells = st.one_of(st.sampled_from(CELLS), numbers, texts)
columns_of_cells = st.lists(
    st.one_of(st.lists(cells, min_size=4, max_size=4), st.lists(numbers, min_size=4, max_size=4)),
    min_size=1,
    max_size=4,
)


def as_csv(rows):
    target = io.StringIO()
    csv.writer(target, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return target.getvalue().encode()


def exported(data):
    """A CSV file after it was loaded, passed through a node, and exported."""
    reader = CsvReader(io.BytesIO(data), "x.csv")
    columns, _ = tabular.inspect_csv(reader.header, reader)
    rows = tabular.read_rows(io.BytesIO(data), "x.csv", "csv", columns)
    between = b"".join(tabular.write_jsonl(rows))
    rows = tabular.read_rows(io.BytesIO(between), "x.jsonl", "jsonl", columns)
    return b"".join(tabular.write_csv(rows, columns, guard_formulas=False))


@given(columns_of_cells)
@example([["9007199254740993", "0.5", "", ""]])
@example([["36161293152664272", "0.125", "", ""]])
@example([["12E4", "7", "", ""]])
@example([["1.50", "2.00", "0.125", "3.10"]])
@example([["10", "10.0", "0.5", ""]])
@example([["a\rb", "\r", "", ""]])
def test_every_cell_of_an_import_is_exported_as_the_same_text(columns):
    rows = [["\ufeffa", "b", "c", "d"][: len(columns)], *map(list, zip(*columns, strict=True))]
    reader = CsvReader(io.BytesIO(exported(as_csv(rows))), "y.csv")
    assert [reader.header, *reader] == rows


@pytest.mark.parametrize(
    ("values", "type_name"),
    [
        (["1", "-7", "", "0"], "integer"),
        (["1", "0.5", ""], "number"),
        (["1.50", "2.00", "0.125"], "number"),
        (["1.50", "2.0"], "text"),
        (["9007199254740993", "0.5"], "text"),
        (["12E4"], "text"),
        (["7", "007"], "text"),
        (["1_000"], "text"),
        (["+1"], "text"),
        ([" 1"], "text"),
        (["NaN"], "text"),
        (["inf"], "text"),
        (["true"], "text"),
        (["1000000000000000000"], "text"),
    ],
)
def test_a_column_is_converted_as_a_whole_and_only_if_every_value_comes_back(values, type_name):
    columns, _ = tabular.inspect_csv(["a"], [[value] for value in values])
    assert columns[0]["type"] == type_name


def test_numbers_of_a_column_are_all_floats():
    columns, _ = tabular.inspect_csv(["a"], [["1"], ["0.5"]])
    rows = tabular.read_rows(io.BytesIO(b"a\n1\n0.5\n"), "x.csv", "csv", columns)
    assert [type(row["a"]) for row in rows] == [float, float]


@pytest.mark.parametrize("line", [b'{"a": "x\\u0000"}', b'{"a": 1, "a": 2}'])
def test_json_that_nobody_can_store_or_tell_apart_is_refused(line):
    with pytest.raises(BrokenTable, match="line 1"):
        list(tabular.read_jsonl(io.BytesIO(line), "x.jsonl"))


def test_an_escaped_backslash_before_u0000_is_no_nul():
    line = rb'{"a": "\\u0000"}'
    assert list(tabular.read_jsonl(io.BytesIO(line), "x.jsonl")) == [{"a": r"\u0000"}]


def test_a_carriage_return_that_ends_a_line_is_refused_in_plain_words():
    with pytest.raises(BrokenTable, match="carriage return"):
        list(CsvReader(io.BytesIO(b"a,b\r1,2\r"), "x.csv"))
