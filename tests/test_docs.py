"""What the documents name is there: tests, files, commands, links."""

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page):
    text = page.read_text()
    for name in set(re.findall(r"`(test_\w+)`", text)):
        assert f"def {name}(" in SOURCES, name
    for path in set(
        re.findall(
            r"(?<![\w/])((?:tests|runs|graphs|statemanager|templates)/[\w/]+(?:\.\w+)?)", text
        )
    ):
        assert (ROOT / path).exists(), path
    for module in set(re.findall(r"python -m (tests\.[\w.]+)", text)):
        assert (ROOT / module.replace(".", "/")).is_dir() or (
            ROOT / f"{module.replace('.', '/')}.py"
        ).exists(), module
    for link in set(re.findall(r"\]\((?!https?:|#)([^)#]+)", text)):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist(page):
    for name in set(re.findall(r"manage\.py (\w+)", page.read_text())):
        assert name == "help" or name in get_commands(), name
