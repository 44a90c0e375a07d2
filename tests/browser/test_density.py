"""How much of the list of runs a screen shows, and what it keeps in sight."""

import pytest

from graphs.auth.callers import SYSTEM
from runs.engine import control
from runs.models import Run

pytestmark = [pytest.mark.cluster, pytest.mark.only_on("sqlite")]
LIST = "/admin/run-manager/"
SEED_COLUMNS = ("id", "name", "status", "time", "username", "workspace")
LONG = "a-workspace-of-forty-characters-or-more-x"
# Whole rows below the top of the window.
WHOLE_ROWS = """() => [...document.querySelectorAll("#runs tbody tr")].filter(
  row => row.getBoundingClientRect().bottom <= innerHeight).length"""


@pytest.fixture
def long_names(world):
    """Every run has a name, a user, a workspace and an error that are too long for their cells."""
    Run.objects.update(name=f"Import of {LONG}", username=f"{LONG}@example.org", workspace=LONG)
    Run.objects.filter(status="failed").update(error_message=f"{LONG}: " + "ValueError " * 20)


@pytest.mark.parametrize(
    ("width", "height", "rows"), [(1280, 860, 20), (1440, 900, 22), (390, 844, 6)]
)
def test_a_screen_shows_many_runs(open_as, long_names, width, height, rows):
    page = open_as()
    page.set_viewport_size({"width": width, "height": height})
    page.goto(LIST)
    assert page.evaluate(WHOLE_ROWS) >= rows
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_columns_that_matter_are_inside_of_the_window(open_as, long_names):
    page = open_as()
    page.set_viewport_size({"width": 1280, "height": 860})
    page.goto(LIST)
    for column in SEED_COLUMNS:
        box = page.locator(f"#runs thead .rm-{column}").bounding_box()
        assert box["width"] >= 80, column
        assert box["x"] + box["width"] <= 1280, column
    cell = page.locator("#runs tbody .rm-workspace bdi").first
    assert cell.get_attribute("title") == LONG, "what is cut off can be read"


def test_chosen_columns_are_shown_on_every_screen(open_as, world):
    page = open_as()
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 860})
        page.goto(f"{LIST}?cols=id,name,status,labels,graph,duration")
        for column in ("labels", "graph", "duration"):
            assert page.locator(f"#runs tbody td.rm-{column}").first.is_visible(), (width, column)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


TWO_DETAILS = """
    <div id="two">
      <details><summary>Same</summary></details><details open><summary>Same</summary></details>
    </div>
"""


def test_the_header_follows_the_run_on_another_tab(open_as, world):
    """The row in the database changes; the tab that is open says so, and its actions change."""
    page = open_as()
    run = Run.objects.filter(status="queued").first() or Run.objects.filter(status="running")[0]
    page.goto(f"{LIST}run/{run.pk}/states/")
    page.locator("#rm-tools button", has_text="Cancel").wait_for()
    page.evaluate(
        "(html) => document.querySelector('#content').insertAdjacentHTML('beforeend', html)",
        TWO_DETAILS,
    )
    control.cancel_run(run, SYSTEM)
    page.locator("#rm-head .rm-badge", has_text="cancelled").wait_for(timeout=5_000)
    assert page.locator("#two details[open]").count() == 1, "what was closed stays closed"
    assert page.locator("#rm-tools button", has_text="Cancel").is_disabled()


def test_without_scripts_the_navigation_is_in_sight_and_nothing_offers_to_copy(open_as, world):
    for size in ("desktop", "phone"):
        page = open_as(size=size, scripts=False)
        page.goto(LIST)
        if size == "phone":
            page.locator(".sm-places summary").first.click()
        graphs = page.get_by_role("link", name="Graphs", exact=True)
        assert graphs.filter(visible=True).count() == 1, size
        assert not page.locator(".rm-copy").first.is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_help_on_the_search_is_a_key_away_and_fits_the_screen(open_as, world):
    for size in ("desktop", "phone"):
        page = open_as(size=size)
        page.goto(LIST)
        page.locator("body").press("?")
        page.locator("#rm-help", has_text="created:>2026-11-01").get_by_text("Keys:").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), size
        page.keyboard.press("Escape")
        assert not page.get_by_text("Keys:").is_visible()


def test_the_address_of_a_filtered_list_has_only_what_was_chosen(open_as, world):
    page = open_as()
    page.goto(LIST)
    page.select_option("select[name=status]", "completed")
    page.wait_for_url("**status=completed**")
    assert "=&" not in page.url
    assert not page.url.endswith("=")


def test_the_list_keeps_its_columns_apart_between_phone_and_desktop(open_as, world):
    page = open_as()
    for width in (768, 1024):
        page.set_viewport_size({"width": width, "height": 860})
        page.goto(LIST)
        assert page.locator("#header").bounding_box()["height"] <= 60, width
        assert page.locator("#runs tbody .rm-name").first.bounding_box()["width"] >= 100, width
        assert page.get_by_text("Menu", exact=True).is_visible(), width
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
