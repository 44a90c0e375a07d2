"""Nodes for tables, on the files of a folder: what they pass on stays letter for letter."""

import pytest

from graphs.nodes import data, files, joins
from graphs.nodes.base import NodeFailed
from graphs.services import tabular
from graphs.services.csv_files import CsvReader
from tests.support.node_folder import NodeFolder

TRICKY = (
    'id,price,code,whole,note\n1,1.50,007,3,"a\rb"\n2,2.00,12E4,2,x;y\n'
    "3,0.125,9007199254740993,0.5,=1\n4,,,,-\n"
)


@pytest.fixture
def folder(tmp_path):
    return NodeFolder(tmp_path)


@pytest.fixture
def load(tmp_path):
    """load(text): a table with the rows of a CSV file."""

    def make(text, name="t.csv"):
        (tmp_path / name).write_text(text, newline="")
        with (tmp_path / name).open("rb") as file:
            reader = CsvReader(file, name)
            columns, rows = tabular.inspect_csv(reader.header, reader)
        return {"file": name, "format": "csv", "columns": columns, "rows": rows}

    return make


def exported(folder, tmp_path, table):
    files.export(folder, table, "out", guard_formulas=False)
    return (tmp_path / "out.csv").read_bytes().decode()


STEPS = {
    "filter": lambda folder, table: data.filter_rows(folder, table, "row.id > 0"),
    "filter of all": lambda folder, table: data.filter_rows(folder, table, "row.size() > 0"),
    "map": lambda folder, table: data.map_rows(
        folder, table, {name: f"row.{name}" for name in ("id", "price", "code", "whole", "note")}
    ),
    "map, keep": lambda folder, table: data.map_rows(folder, table, {}, True),
    "join": lambda folder, table: joins.join(folder, table, table, {"id": "id"}),
    "groups": lambda folder, table: data.aggregate(
        folder, table, [column["name"] for column in table["columns"]], {}
    ),
}


@pytest.mark.parametrize("second", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("first", STEPS.values(), ids=STEPS)
def test_cells_stay_what_they_are_through_nodes(folder, tmp_path, load, first, second):
    table = second(folder, first(folder, load(TRICKY))["table"])["table"]
    assert exported(folder, tmp_path, table) == TRICKY


def test_numbers_of_a_column_are_floats_for_every_node(folder, load):
    table = load(TRICKY)
    for rows in (table, data.map_rows(folder, table, {}, True)["table"]):
        summed = data.map_rows(folder, rows, {"s": "row.whole == null ? 0.0 : row.whole + 0.5"})
        assert [row["s"] for row in folder.rows(summed["table"])] == [3.5, 2.5, 1.0, 0.0]


def test_a_null_joins_nothing(folder, load):
    left, right = load("id,a\n1,x\n,y\n"), load("id,b\n1,p\n,q\n", "r.csv")
    assert list(folder.rows(joins.join(folder, left, right, {"id": "id"})["table"])) == [
        {"id": 1, "a": "x", "b": "p"}
    ]
    left_joined = joins.join(folder, left, right, {"id": "id"}, "left")
    assert list(folder.rows(left_joined["table"])) == [
        {"id": 1, "a": "x", "b": "p"},
        {"id": None, "a": "y", "b": None},
    ]


def test_a_join_of_text_with_numbers_is_refused(folder, load):
    left, right = load("id\n1\n2\n"), load("id,x\n007,a\n1,b\n", "r.csv")
    with pytest.raises(NodeFailed, match="numbers and 'id' of the right table holds text"):
        joins.join(folder, left, right, {"id": "id"})


@pytest.mark.parametrize(
    ("on", "said"),
    [
        ({}, "name the columns"),
        ({"idd": "id"}, r"on \(left table\): there is no column 'idd'; the columns are id"),
        ({"id": "idd"}, r"on \(right table\): there is no column 'idd'; the columns are id, x"),
    ],
)
def test_a_join_by_columns_that_are_not_there_is_refused(folder, load, on, said):
    with pytest.raises(NodeFailed, match=said):
        joins.join(folder, load("id\n1\n"), load("id,x\n1,a\n", "r.csv"), on)


@pytest.mark.parametrize(
    ("by", "measures", "said"),
    [
        (["kk"], {}, "by: there is no column 'kk'"),
        (["k"], {"s": {"function": "sum", "column": "nn"}}, "measures: there is no column 'nn'"),
        (["k"], {"k": {"function": "sum", "column": "n"}}, "'k' is a column by which"),
    ],
)
def test_columns_that_are_not_there_or_overwritten_are_refused(folder, load, by, measures, said):
    with pytest.raises(NodeFailed, match=said):
        data.aggregate(folder, load("k,n\na,1\n"), by, measures)


def test_the_sum_of_a_text_column_is_no_text(folder, load):
    with pytest.raises(NodeFailed, match=r"row 1: sum needs numbers, and the column 'c' .*'007'"):
        data.aggregate(
            folder, load("c\n007\n008\n-\n"), [], {"s": {"function": "sum", "column": "c"}}
        )


def test_an_expression_is_evaluated_for_each_row_beyond_what_is_remembered(
    folder, load, monkeypatch
):
    monkeypatch.setattr(data, "MAX_REMEMBERED", 2)
    table = load("a\n" + "".join(f"{at % 4}\n" for at in range(40)))
    assert data.filter_rows(folder, table, "row.a == 3")["rows"] == 10


def test_a_node_for_tables_stops_when_its_run_is_cancelled(folder, load):
    folder.cancelled = True
    with pytest.raises(NodeFailed, match="stopped"):
        data.filter_rows(folder, load("a\n1\n"), "row.a == 1")
