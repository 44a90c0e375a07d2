"""Rows as parameters of the hot statements."""

import pytest

from runs.core import sql

pytestmark = pytest.mark.django_db

TEXTS = ["", "n1", 'a "quoted" \\ text', "NULL", "{1,2}", "заказ 🙂", "%s %% $1 ?", "two\nlines"]


@sql.statement
def _echo() -> str:
    """The rows as they came."""
    table = sql.rows(
        "v", at="bigint", text="text", maybe="text", share="float8", yes="boolean", value="jsonb"
    )
    return f"SELECT v.at, v.text, v.maybe, v.share, v.yes, v.value, '100%%' FROM {table}"


@pytest.mark.parametrize("size", [1, 2, 3, 100, 128, 129, 1000])
def test_rows_arrive_as_they_were_given(size):
    given = [
        (
            at,
            TEXTS[at % len(TEXTS)],
            None if at % 3 else TEXTS[-at % len(TEXTS)],
            at / 4,
            at % 2 == 0,
            f'{{"key": {at}}}',
        )
        for at in range(size)
    ]
    returned = sorted(sql.run(_echo(), sql.values(given)))
    assert [(*row[:4], bool(row[4]), *row[6:]) for row in returned] == [
        (*row[:5], "100%") for row in given
    ]
    assert [sql.loads(row[5]) for row in returned] == [{"key": at} for at in range(size)]


def test_columns_of_one_kind_arrive_as_they_were_given():
    for text in TEXTS:
        given = [(at, text, None, None, None, None) for at in range(3)]
        assert sorted(sql.run(_echo(), sql.values(given))) == [(*row, "100%") for row in given]
