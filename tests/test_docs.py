"""The tests, files, modules, commands and links that the documents name exist."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from django.core.management import get_commands

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))


TEST_NAME = re.compile(r"`(test_\w+)`")
FILE = re.compile(r"(?<![\w/])((?:tests|runs|graphs|statemanager|templates)/[\w/]+(?:\.\w+)?)")
MODULE = re.compile(r"python -m (tests\.[\w.]+)")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
COMMAND = re.compile(r"manage\.py (\w+)")

for_every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@for_every_page
def test_the_tests_that_a_page_names_exist(page):
    for name in TEST_NAME.findall(page.read_text()):
        assert f"def {name}(" in SOURCES, name


@for_every_page
def test_the_files_that_a_page_names_exist(page):
    for path in FILE.findall(page.read_text()):
        assert (ROOT / path).exists(), path


@for_every_page
def test_the_modules_that_a_page_names_exist(page):
    for module in MODULE.findall(page.read_text()):
        path = ROOT / module.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists(), module


@for_every_page
def test_the_links_of_a_page_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        assert (page.parent / link).exists(), link


@for_every_page
def test_the_commands_that_a_page_names_exist(page):
    for name in COMMAND.findall(page.read_text()):
        assert name == "help" or name in get_commands(), name


LIMIT = re.compile(
    r"^\| (?P<what>[^|]+) \| (?P<limit>[^|]+) \|.*`(?P<module>[\w.]+):(?P<name>\w+)`", re.M
)


def test_the_limits_that_the_page_names_are_those_of_the_code():
    rows = list(LIMIT.finditer((ROOT / "docs" / "limits.md").read_text()))
    assert len(rows) > 20
    for row in rows:
        value = getattr(import_module(row["module"]), row["name"])
        assert f"{value:,}" in re.findall(r"[\d,]+", row["limit"]), row["what"]
