"""Actions in FlowView with a mouse."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, expect

HOME, DATASETS = "/admin/flow/", "/admin/flow/datasets/"


@contextmanager
def saving(page: Page) -> Iterator[None]:
    """Wait until the change of the draft in the block is saved and the page shows the result.

    The response arrives before htmx has replaced the parts of the page.
    """
    with page.expect_response(lambda response: response.url.endswith("/edit")):
        yield
    unsettled = page.locator("#flow.htmx-request, .htmx-swapping, .htmx-settling")
    expect(unsettled).to_have_count(0)


def create_graph(page: Page, name: str) -> None:
    """Create an empty graph and open it."""
    page.goto(HOME)
    page.locator("summary", has_text="New graph").click()
    page.fill("#id_name", name)
    page.select_option("#id_namespace", label="shop")
    page.click("text=Create")
    expect(page.locator("h1")).to_contain_text(name)


def expect_nodes(page: Page, count: int) -> None:
    """Wait until the picture has this number of nodes."""
    expect(page.locator(".fl-graph .rm-node")).to_have_count(count)


def fill_node(page: Page, node: str, **values: str) -> None:
    """Select a node and fill in its inputs."""
    page.click(f".fl-graph .rm-node[data-node={node}] text >> nth=0")
    expect(page.locator("#fl-inspector h2")).to_have_text(node)
    for name, value in values.items():
        field = page.locator(f"#id_in-{name}")
        if name == "measures-0-name":  # saved when the focus leaves its row
            field.fill(value)
            continue
        with saving(page):
            if field.evaluate("field => field.tagName") == "SELECT":
                field.select_option(value)
                page.locator("#fl-inspector h2").click()
                page.locator("#id_label").focus()
            else:
                field.fill(value)
                page.keyboard.press("Tab")


def connect(page: Page, start: str, end: str) -> None:
    """Connect two nodes: drag from the port of one to the other."""
    page.click("[data-zoom=fit]")
    port = page.locator(f".rm-node[data-node={start}] .fl-port").bounding_box()
    target = page.locator(f".rm-node[data-node={end}] rect").bounding_box()
    assert port
    assert target
    page.mouse.move(port["x"] + port["width"] / 2, port["y"] + port["height"] / 2)
    page.mouse.down()
    page.mouse.move(target["x"] + 30, target["y"] + 20, steps=5)
    with saving(page):
        page.mouse.up()


def fill_label(page: Page, text: str) -> None:
    """Select the first node and change its label."""
    page.click(".fl-graph .rm-node rect")
    page.fill("#id_label", text)
    with saving(page):
        page.keyboard.press("Tab")
