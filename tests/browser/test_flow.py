"""A graph that exports files is drawn and run: by mouse, by keyboard, and without JavaScript.

The exported file has the right rows each time.
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
from tests.browser.flow_pages import (
    DATASETS,
    HOME,
    connect,
    create_graph,
    expect_nodes,
    fill_node,
    saving,
)
from tests.browser.keyboard import Keyboard
from tests.support.clusters import supervised, until

pytestmark = [pytest.mark.cluster, pytest.mark.only_on("sqlite")]
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


def upload_orders(page: Page, orders: Path) -> None:
    """Upload the orders as a dataset."""
    page.goto(DATASETS)
    page.select_option("#id_namespace", label="shop")
    page.fill("#id_name", "shop orders")
    page.set_input_files("#id_upload", str(orders))
    page.click("#fl-upload button")
    expect(page.locator("h1")).to_contain_text("shop orders")
    expect(page.locator(".fl-rows tbody tr")).to_have_count(50)


def wait_until_completed(page: Page) -> Run:
    """Wait on the run's page, which updates automatically, until the run has completed."""
    expect(page.locator("#rm-head .rm-badge").first).to_contain_text("completed", timeout=40_000)
    return Run.objects.get(pk=int(page.url.rstrip("/").rpartition("/")[2]))


def check_export(
    page: Page, tmp_path: Path, follow: Callable[[Page, str], None] = Page.click
) -> None:
    """Download the zip of the run: it has exactly the rows that match the filter."""
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
        f"customer {number}": sum(row["order"] % 7 == number for row in ORDERS)
        for number in range(7)
    }
    follow(page, "a:text-is('large.csv')")
    expect(page.locator(".fl-rows tbody tr")).to_have_count(50)


def test_the_export_graph_by_mouse(
    open_as: Callable[..., Page], cluster: None, orders: Path, tmp_path: Path
) -> None:
    page = open_as()
    upload_orders(page, orders)
    create_graph(page, "my export")
    for count, kind in enumerate(("dataset.read", "rows.filter", "table.export", "zip"), start=1):
        page.click(f".fl-kind:has(strong:text-is('{kind}'))")
        expect_nodes(page, count)
    fill_node(page, "read", table="orders")
    page.click(".fl-kind:has(strong:text-is('rows.aggregate'))")
    page.click(".fl-kind:has(strong:text-is('table.export'))")
    expect_nodes(page, 6)
    connect(page, "export_2", "zip")
    fill_node(page, "filter", where=WHERE)
    fill_node(page, "export", name="large.csv")
    fill_node(page, "export_2", name="customers.csv")
    fill_node(page, "aggregate", **MEASURED)
    expect(page.locator("#fl-problems h2")).to_contain_text("it can run")
    page.click("text=Run…")
    page.select_option("#id_dataset", label="shop/shop orders")
    page.dblclick("button:text-is('Run')")
    run = wait_until_completed(page)
    assert Run.objects.filter(graph=run.graph).count() == 1, "a double click makes one run"
    assert run.version is not None
    assert run.version.number == 1
    check_export(page, tmp_path)


def upload_orders_by_keys(keys: Keyboard, orders: Path) -> None:
    page = keys.page
    page.on("filechooser", lambda chooser: chooser.set_files(str(orders)))
    page.goto(DATASETS)
    keys.reach("#id_namespace", "shop")
    keys.reach("#id_name", "shop orders")
    keys.enter("#id_upload")
    expect(page.locator("#id_upload")).not_to_have_value("")
    keys.enter("#fl-upload button")
    expect(page.locator("h1")).to_contain_text("shop orders")


def draw_first_branch(keys: Keyboard) -> None:
    """Draw the first branch in an empty draft: read, filter, export and zip."""
    keys.reach("#fl-search")
    keys.add("dataset.read", 1)
    keys.open("read")
    keys.fill("table", "orders")
    following = (
        ("read", "rows.filter", "filter", "where", WHERE),
        ("filter", "table.export", "export", "name", "large.csv"),
    )
    for count, (before, kind, node, name, text) in enumerate(following, start=2):
        keys.to(before)
        keys.press("n")
        keys.add(kind, count)
        keys.open(node)
        keys.fill(name, text)
    keys.to("export")
    keys.press("n")
    keys.add("zip", 4)


def draw_second_branch(keys: Keyboard) -> None:
    """Go back to the first node and draw the second branch: aggregate, export and zip."""
    page = keys.page
    for node in ("export", "filter", "read"):
        keys.press("ArrowLeft")
        keys.expect_at(node)
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
    expect_nodes(page, 5)
    keys.press("Control+z")
    expect_nodes(page, 6)
    keys.to("export_2", "ArrowRight")
    keys.press("e")
    expect(page.locator("#fl-end")).to_be_focused()
    page.keyboard.type("zip")
    keys.press("Tab", "Enter")
    expect(page.locator('.fl-edge[data-start="export_2"][data-end="zip"]')).to_have_count(1)
    keys.to("export_2", "ArrowLeft", "ArrowDown", "ArrowUp")
    keys.change("Alt+ArrowDown")
    keys.expect_at("export_2")
    keys.open("export_2")
    keys.fill("name", "customers.csv")


def test_the_export_graph_by_keyboard(
    open_as: Callable[..., Page], cluster: None, orders: Path, tmp_path: Path
) -> None:
    page = open_as()
    keys = Keyboard(page)
    upload_orders_by_keys(keys, orders)
    page.goto(HOME)
    keys.enter(".rm-start > summary")
    keys.reach("#id_name", "keys")
    keys.reach("#id_namespace", "shop")
    keys.press("Tab", "Tab", "Enter")
    expect(page.locator("h1")).to_contain_text("keys")
    draw_first_branch(keys)
    draw_second_branch(keys)
    expect(page.locator("#fl-problems h2")).to_contain_text("it can run")
    keys.enter(".fl-main a[href$='/run/']")
    expect(page.locator("h1")).to_contain_text("Run keys")
    keys.reach("#id_dataset", "shop/shop")
    keys.enter("button.default")
    wait_until_completed(page)
    check_export(page, tmp_path, lambda _, selector: keys.enter(selector))


@pytest.mark.parametrize("slow", [False, True], ids=["saved", "being-saved"])
def test_nodes_are_copied_and_pasted(open_as: Callable[..., Page], slow: bool) -> None:
    """A copy has the typed text, even if the server has not saved it yet."""
    page = open_as()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    create_graph(page, "pasted")
    page.click(".fl-kind:has(strong:text-is('log'))")
    expect_nodes(page, 1)
    delayed: list[Route] = []
    if slow:
        page.route("**/edit", lambda route: delayed.append(route), times=1)
        page.fill("#id_in-message", "again")
    else:
        fill_node(page, "log", message="again")
    page.locator(".fl-graph .rm-node").focus()
    page.keyboard.press("Control+c")
    page.keyboard.press("Control+v")
    if slow:
        # Playwright calls the handler of the route only while it executes something.
        until(lambda: page.evaluate("true") and delayed)
        delayed[0].continue_()
    expect_nodes(page, 2)
    expect(page.locator("#fl-inspector h2")).to_have_text("log_2")
    expect(page.locator("#id_in-message")).to_have_value("again")
    clipboard = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert clipboard["nodes"][0]["data"]["inputs"] == {"message": "again"}


def test_the_export_graph_without_javascript(
    open_as: Callable[..., Page], cluster: None, orders: Path, tmp_path: Path
) -> None:
    page = open_as(scripts=False)
    upload_orders(page, orders)
    create_graph(page, "plain")
    page.click(".rm-tabs >> text=List")

    def add(kind: str) -> None:
        page.click(f".fl-kind:has(strong:text-is('{kind}'))")

    def fill(node: str, **values: str) -> None:
        page.click(f"#fl-list th[scope=row] a:text-is('{node}')")
        for name, value in values.items():
            field = page.locator(f"#id_in-{name}")
            field.select_option(value) if name == "measures-0-0" else field.fill(value)
        page.click("#fl-node button:text-is('Save')")

    for kind in ("dataset.read", "rows.filter", "table.export", "zip"):
        add(kind)
    fill("read", table="orders")
    add("rows.aggregate")
    add("table.export")
    fill("filter", where=WHERE)
    fill("export", name="large.csv")
    fill("export_2", name="customers.csv")
    fill("aggregate", **MEASURED)
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
    wait_until_completed(page)
    check_export(page, tmp_path)


def test_an_example_asks_its_question_on_the_run_page(
    open_as: Callable[..., Page], cluster: None
) -> None:
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
    create_graph(page, "mouse")
    page.fill("#fl-search", "wait for a")
    expect(page.locator(".fl-kind:visible")).to_have_count(1)
    page.click(".fl-kind:visible")
    expect_nodes(page, 1)
    box = page.locator(".rm-node rect").bounding_box()
    assert box
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 90, steps=5)
    with saving(page):
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
        expect_nodes(page, count)
    width = page.locator(".fl-graph").get_attribute("width")
    page.click("[data-zoom=in]")
    assert float(page.locator(".fl-graph").get_attribute("width") or 0) > float(width or 0)
    page.click("#fl-arrange")
    expect(page.locator("#fl-undo")).to_have_attribute("title", "Undo: Arrange")


def test_a_reader_sees_the_graph_without_tools(open_as: Callable[..., Page]) -> None:
    page = open_as()
    create_graph(page, "read")
    page.click(".fl-kind:has(strong:text-is('noop'))")
    expect_nodes(page, 1)
    reader = open_as("ben")
    reader.goto(page.url)
    expect_nodes(reader, 1)
    expect(reader.locator(".fl-palette, #fl-undo, .fl-main a[href$='/run/']")).to_have_count(0)
    wide = reader.locator("#fl-canvas").bounding_box()
    assert wide
    assert wide["width"] > 500
