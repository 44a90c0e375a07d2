"""Names of files that every system can store, and that stay apart in one folder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.definition import names

RESERVED = ["CON", "nul", "com1", "LPT9", "Aux", "COM¹"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("report.csv", "report.csv"),
        ("заказ 17.csv", "заказ 17.csv"),
        ("../../etc/passwd", "_.._.._etc_passwd"),
        (r"..\x.csv", "_.._x.csv"),
        ("C:/x.csv", "C__x.csv"),
        ("a\nb\x00\x1b.csv", "a_b__.csv"),
        ("gpj\u202e.exe", "gpj_.exe"),
        ("..", "file"),
        ("", "file"),
        (".hidden", "_.hidden"),
        ("end. . ", "end"),
        ("con.csv", "_con.csv"),
        ("console.csv", "console.csv"),
        ("\ud800.csv", "_.csv"),
        ("e\u0301.csv", "é.csv"),
    ],
)
def test_names_are_made_safe(text, name):
    assert names.file_name(text) == name


@given(st.text(max_size=400) | st.sampled_from(RESERVED).map(lambda name: f"{name}.txt"))
def test_every_text_becomes_a_safe_name(text):
    name = names.file_name(text)
    assert 0 < len(name.encode()) <= names.MAX_FILE_NAME
    assert not set('<>:"/\\|?*\n\t\x00\u202e') & set(name)
    assert name not in (".", "..")
    assert names.file_name(name) == name


def test_a_long_name_keeps_its_ending():
    assert names.file_name("é" * 300 + ".csv").endswith("é.csv")


def test_names_of_one_folder_are_distinct_whatever_their_case():
    taken = set()
    for name, expected in [
        ("report.csv", "report.csv"),
        ("Report.csv", "Report (2).csv"),
        ("report.csv", "report (3).csv"),
        ("report (2).csv", "report (2) (2).csv"),
    ]:
        distinct = names.distinct(name, taken)
        taken.add(names.same_file(distinct))
        assert distinct == expected
