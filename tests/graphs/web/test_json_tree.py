"""JSON as a tree: its paths, its limits, and that nothing in it becomes HTML."""

import re

import pytest

from graphs.templatetags.ui import tree
from graphs.web import json_tree
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside
from tests.support.pages import page_of

VALUE = {"rows": [{"name": "Ann", "a b": None}], "<i>": '"</code><script>', "empty": {}, "n": 1.5}


def paths(html):
    return re.findall(r'data-copy="([^"]*)"', html)


def test_each_value_has_its_path():
    assert paths(tree(VALUE)) == [
        "rows",
        "rows[0]",
        "rows[0].name",
        "rows[0][&quot;a b&quot;]",
        "[&quot;&lt;i&gt;&quot;]",
        "empty",
        "n",
    ]


def test_nothing_of_a_value_becomes_html():
    html = tree(VALUE)
    assert "<script" not in html
    assert "<i>" not in html
    assert "<code>&quot;Ann&quot;</code>" in html
    assert html.count("<details") == html.count("</details>") == 2
    assert html.count("<li>") == html.count("</li>") == 7


@pytest.mark.parametrize("value", [None, "text", 1, [], {}, [[]]])
def test_every_value_has_a_tree(value):
    assert "<code>" in tree(value)


def test_a_large_value_is_shown_as_text():
    deep = 0
    for _ in range(json_tree.MAX_VALUES):
        deep = [deep]
    for value in (list(range(json_tree.MAX_VALUES)), deep):
        assert tree(value).startswith("<pre>")
    assert not tree(list(range(json_tree.MAX_VALUES - 1))).startswith("<pre>")


@pytest.mark.django_db
def test_the_page_of_a_run_shows_its_inputs_as_a_tree(admin_client, namespace):
    run = start_outside(namespace, RunOptions(run_id="r", inputs={"customer": {"id": 42}}))
    page = admin_client.get(page_of(run, "data")).content.decode()
    assert "customer.id" in paths(page)
