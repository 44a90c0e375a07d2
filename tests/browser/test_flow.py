"""The export graph drawn by mouse, by keys alone and without JavaScript, run, and its file
compared.
"""

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from runs.models import Run
from tests.browser.flow_pages import DATASETS, HOME, begun, drawn, filled, pulled, saved
from tests.browser.keyboard import Keyboard
from tests.support.clusters import supervised, until

pytestmark = [pytest.mark.cluster]
ORDERS = [
    {"order": number, "customer": f"customer {number % 7}", "total": number * 3 % 100}
    for number in range(1, 201)
]
WHERE = "row.total > 50"
MEASURED = {"by-0-0": "customer", "measures-0-name": "orders", "measures-0-0": "count"}


@pytest.fixture
def cluster(world: dict[str, Run]) -> Iterator[None]:
    with supervised():
        yield


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ORDERS[0])
        writer.writeheader()
        writer.writerows(ORDERS)
    return path


def uploaded(page: Page, orders: Path) -> None:
    page.goto(DATASETS)
    page.select_option("#id_namespace", label="shop")
    page.fill("#id_name", "shop orders")
    page.set_input_files("#id_upload", str(orders))
    page.click("#fl-upload button")
    expect(page.locator("h1")).to_contain_text("shop orders")
    expect(page.locator(".fl-rows tbody tr")).to_have_count(50)


def watched(page: Page) -> Run:
    """The run page until the run is over; it comes by itself."""
    expect(page.locator("#rm-head .rm-badge").first).to_contain_text("completed", timeout=40_000)
    return Run.objects.get(pk=int(page.url.rstrip("/").rpartition("/")[2]))


def compared(page: Page, tmp_path: Path, follow: Callable[[Page, str], None] = Page.click) -> None:
    """The zip that the run made holds just the rows of the dataset that the filter keeps."""
    follow(page, "#rm-now a[href*='/files/']:has-text('export.zip') >> nth=0")
    expect(page.locator("h1")).to_contain_text("export.zip")
    with page.expect_download() as download:
        follow(page, "a:has-text('Download export.zip')")
    download.value.save_as(tmp_path / "export.zip")
    with zipfile.ZipFile(tmp_path / "export.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("large.csv").decode())))
        customers = list(csv.DictReader(io.StringIO(archive.read("customers.csv").decode())))
    assert rows == [
        {key: str(value) for key, value in row.items()} for row in ORDERS if row["total"] > 50
    ]
    assert {row["customer"]: int(row["orders"]) for row in customers} == {
        f"customer {at}": len([1 for row in ORDERS if row["order"] % 7 == at]) for at in range(7)
    }
    follow(page, "a:text-is('large.csv')")
    expect(page.locator(".fl-rows tbody tr")).to_have_count(50)


def test_the_export_graph_by_mouse(
    open_as: Callable[..., Page], cluster: None, orders: Path, tmp_path: Path
) -> None:
    page = open_as()
    uploaded(page, orders)
    begun(page, "my export")
    for count, kind in enumerate(("dataset.read", "rows.filter", "table.export", "zip"), start=1):
        page.click(f".fl-kind:has(strong:text-is('{kind}'))")
        drawn(page, count)
    filled(page, "read", table="orders")
    page.click(".fl-kind:has(strong:text-is('rows.aggregate'))")
    page.click(".fl-kind:has(strong:text-is('table.export'))")
    drawn(page, 6)
    pulled(page, "export_2", "zip")
    filled(page, "filter", where=WHERE)
    filled(page, "export", name="large.csv")
    filled(page, "export_2", name="customers.csv")
    filled(page, "aggregate", **MEASURED)
    expect(page.locator("#fl-problems h2")).to_contain_text("it can run")
    page.click("text=Run…")
    page.select_option("#id_dataset", label="shop/shop orders")
    page.dblclick("button:text-is('Run')")
    run = watched(page)
    assert Run.objects.filter(graph=run.graph).count() == 1, "a double click makes one run"
    assert run.version is not None
    assert run.version.number == 1
    compared(page, tmp_path)


def uploaded_by_keys(keys: Keyboard, orders: Path) -> None:
    page = keys.page
    page.on("filechooser", lambda chooser: chooser.set_files(str(orders)))
    page.goto(DATASETS)
    keys.reach("#id_namespace", "shop")
    keys.reach("#id_name", "shop orders")
    keys.enter("#id_upload")
    expect(page.locator("#id_upload")).not_to_have_value("")
    keys.enter("#fl-upload button")
    expect(page.locator("h1")).to_contain_text("shop orders")


def filtered_by_keys(keys: Keyboard) -> None:
    """From an empty draft: what is read is filtered, exported and packed."""
    keys.reach("#fl-search")
    keys.add("dataset.read", 1)
    keys.open("read")
    keys.fill("table", "orders")
    for count, (before, kind, node, name, text) in enumerate(
        (
            ("read", "rows.filter", "filter", "where", WHERE),
            ("filter", "table.export", "export", "name", "large.csv"),
        ),
        start=2,
    ):
        keys.to(before)
        keys.press("n")
        keys.add(kind, count)
        keys.open(node)
        keys.fill(name, text)
    keys.to("export")
    keys.press("n")
    keys.add("zip", 4)


def counted_by_keys(keys: Keyboard) -> None:
    """From its last node back to the first, and a second branch, which is counted, exported and
    packed, too.
    """
    page = keys.page
    for node in ("export", "filter", "read"):
        keys.press("ArrowLeft")
        keys.at(node)
    keys.press("n")
    keys.add("aggregate", 5)
    keys.open("aggregate")
    keys.fill("by-0-0", "customer")
    keys.reach("#id_in-measures-0-name", "orders")
    keys.reach("#id_in-measures-0-0", "count")
    keys.change("Tab", "Tab")
    keys.to("aggregate")
    keys.press("n")
    keys.add("table.export", 6)
    keys.press("Delete")
    drawn(page, 5)
    keys.press("Control+z")
    drawn(page, 6)
    keys.to("export_2", "ArrowRight")
    keys.press("e")
    expect(page.locator("#fl-end")).to_be_focused()
    page.keyboard.type("zip")
    keys.press("Tab", "Enter")
    expect(page.locator('.fl-edge[data-start="export_2"][data-end="zip"]')).to_have_count(1)
    keys.to("export_2", "ArrowLeft", "ArrowDown", "ArrowUp")
    keys.change("Alt+ArrowDown")
    keys.at("export_2")
    keys.open("export_2")
    keys.fill("name", "customers.csv")


def test_the_export_graph_by_keys_alone(
    open_as: Callable[..., Page], cluster: None, orders: Path, tmp_path: Path
) -> None:
    page = open_as()
    keys = Keyboard(page)
    uploaded_by_keys(keys, orders)
    page.goto(HOME)
    keys.enter(".rm-start > summary")
    keys.reach("#id_name", "keys")
    keys.reach("#id_namespace", "shop")
    keys.press("Tab", "Tab", "Enter")
    expect(page.locator("h1")).to_contain_text("keys")
    filtered_by_keys(keys)
    counted_by_keys(keys)
    expect(page.locator("#fl-problems h2")).to_contain_text("it can run")
    keys.enter(".fl-main a[href$='/run/']")
    expect(page.locator("h1")).to_contain_text("Run keys")
    keys.reach("#id_dataset", "shop/shop")
    keys.enter("button.default")
    watched(page)
    compared(page, tmp_path, lambda _, selector: keys.enter(selector))


@pytest.mark.parametrize("slow", [False, True], ids=["saved", "being-saved"])
def test_nodes_are_copied_and_pasted(open_as: Callable[..., Page], slow: bool) -> None:
    """What was written counts, even if the server hasn't answered yet: here, too, and in another
    window.
    """
    page = open_as()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    begun(page, "pasted")
    page.click(".fl-kind:has(strong:text-is('log'))")
    drawn(page, 1)
    held: list[Route] = []
    if slow:
        page.route("**/edit", lambda route: held.append(route), times=1)
        page.fill("#id_in-message", "again")
    else:
        filled(page, "log", message="again")
    page.locator(".fl-graph .rm-node").focus()
    page.keyboard.press("Control+c")
    page.keyboard.press("Control+v")
    if slow:
        until(
            lambda: page.evaluate("true") and held
        )  # Playwright hands the route over while it is asked something
        held[0].continue_()
    drawn(page, 2)
    expect(page.locator("#fl-inspector h2")).to_have_text("log_2")
    expect(page.locator("#id_in-message")).to_have_value("again")
    assert json.loads(page.evaluate("navigator.clipboard.readText()"))["nodes"][0]["data"][
        "inputs"
    ] == {"message": "again"}


def test_the_export_graph_without_javascript(
    open_as: Callable[..., Page], cluster: None, orders: Path, tmp_path: Path
) -> None:
    page = open_as(scripts=False)
    uploaded(page, orders)
    begun(page, "plain")
    page.click(".rm-tabs >> text=List")

    def added(kind: str) -> None:
        page.click(f".fl-kind:has(strong:text-is('{kind}'))")

    def given(node: str, **values: str) -> None:
        page.click(f"#fl-list th[scope=row] a:text-is('{node}')")
        for name, value in values.items():
            field = page.locator(f"#id_in-{name}")
            field.select_option(value) if name == "measures-0-0" else field.fill(value)
        page.click("#fl-node button:text-is('Save')")

    for kind in ("dataset.read", "rows.filter", "table.export", "zip"):
        added(kind)
    given("read", table="orders")
    added("rows.aggregate")
    added("table.export")
    given("filter", where=WHERE)
    given("export", name="large.csv")
    given("export_2", name="customers.csv")
    given("aggregate", **MEASURED)
    page.locator("#fl-list select[name=start]").select_option("export_2")
    page.locator("#fl-list select[name=end]").select_option("zip")
    page.click("#fl-list button:text-is('Connect')")
    expect(page.locator("#fl-problems h2")).to_contain_text("it can run")
    page.click("text=Publish…")
    page.fill("#id_note", "by hand")
    page.click("text=Publish version 1")
    page.click("text=Run…")
    page.select_option("#id_dataset", label="shop/shop orders")
    page.click("button:text-is('Run')")
    for _ in range(100):
        if "completed" in page.locator("#rm-head .rm-badge").first.inner_text():
            break
        page.wait_for_timeout(300)
        page.reload()
    watched(page)
    compared(page, tmp_path)


def test_an_example_asks_on_its_live_page(open_as: Callable[..., Page], cluster: None) -> None:
    page = open_as()
    page.goto(HOME)
    card = page.locator("li", has_text="Wait for a person")
    card.locator("select").select_option(label="lab")
    card.locator("button", has_text="Start").click()
    expect(page.locator("#answers form")).to_be_visible(timeout=30_000)
    page.locator("#answers input[type=radio][value=true]").check()
    page.fill("#answers textarea[name$=comment]", "fine")
    page.click("#answers button")
    expect(page.locator("#rm-head .rm-badge").first).to_contain_text("completed", timeout=30_000)
    expect(page.locator("#rm-tools button", has_text="Cancel")).to_be_disabled()


def test_moving_arranging_zooming_and_searching_by_mouse(open_as: Callable[..., Page]) -> None:
    page = open_as()
    begun(page, "mouse")
    page.fill("#fl-search", "wait for a")
    expect(page.locator(".fl-kind:visible")).to_have_count(1)
    page.click(".fl-kind:visible")
    drawn(page, 1)
    box = page.locator(".rm-node rect").bounding_box()
    assert box
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 90, steps=5)
    with saved(page):
        page.mouse.up()
    page.click("#fl-inspector summary:text-is('Position')")
    assert page.input_value("#id_x") != ""
    for button, count in (
        ("#fl-duplicate", 2),
        ("#fl-delete", 1),
        ("#fl-undo", 2),
        ("#fl-undo", 1),
        ("#fl-redo", 2),
    ):
        page.click(button)
        drawn(page, count)
    width = page.locator(".fl-graph").get_attribute("width")
    page.click("[data-zoom=in]")
    assert float(page.locator(".fl-graph").get_attribute("width") or 0) > float(width or 0)
    page.click("#fl-arrange")
    expect(page.locator("#fl-undo")).to_have_attribute("title", "Undo: Arrange")


def test_a_reader_looks_and_is_offered_nothing_else(open_as: Callable[..., Page]) -> None:
    page = open_as()
    begun(page, "read")
    page.click(".fl-kind:has(strong:text-is('noop'))")
    drawn(page, 1)
    reader = open_as("ben")
    reader.goto(page.url)
    drawn(reader, 1)
    expect(reader.locator(".fl-palette, #fl-undo, .fl-main a[href$='/run/']")).to_have_count(0)
    wide = reader.locator("#fl-canvas").bounding_box()
    assert wide
    assert wide["width"] > 500
