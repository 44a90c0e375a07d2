"""What people do in FlowView with a mouse."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, expect

HOME, DATASETS = "/admin/flow/", "/admin/flow/datasets/"


@contextmanager
def saved(page: Page) -> Iterator[None]:
    """One change of the draft in the block; after it the page shows the answer.

    The response comes before the parts of the page that it replaces.
    """
    with page.expect_response(lambda answer: answer.url.endswith("/edit")):
        yield
    unsettled = page.locator("#flow.htmx-request, .htmx-swapping, .htmx-settling")
    expect(unsettled).to_have_count(0)


def begun(page: Page, name: str) -> None:
    page.goto(HOME)
    page.locator("summary", has_text="New graph").click()
    page.fill("#id_name", name)
    page.select_option("#id_namespace", label="shop")
    page.click("text=Create")
    expect(page.locator("h1")).to_contain_text(name)


def drawn(page: Page, count: int) -> None:
    expect(page.locator(".fl-graph .rm-node")).to_have_count(count)


def filled(page: Page, node: str, **values: str) -> None:
    page.click(f".fl-graph .rm-node[data-node={node}] text >> nth=0")
    expect(page.locator("#fl-inspector h2")).to_have_text(node)
    for name, value in values.items():
        field = page.locator(f"#id_in-{name}")
        if name == "measures-0-name":  # its row is saved when it is left
            field.fill(value)
            continue
        with saved(page):
            if field.evaluate("field => field.tagName") == "SELECT":
                field.select_option(value)
                page.locator("#fl-inspector h2").click()
                page.locator("#id_label").focus()
            else:
                field.fill(value)
                page.keyboard.press("Tab")


def pulled(page: Page, start: str, end: str) -> None:
    """Drag from a node's port to another node."""
    page.click("[data-zoom=fit]")
    port, target = (
        page.locator(f".rm-node[data-node={node}] {part}").bounding_box()
        for node, part in ((start, ".fl-port"), (end, "rect"))
    )
    assert port
    assert target
    page.mouse.move(port["x"] + port["width"] / 2, port["y"] + port["height"] / 2)
    page.mouse.down()
    page.mouse.move(target["x"] + 30, target["y"] + 20, steps=5)
    with saved(page):
        page.mouse.up()


def filled_label(page: Page, text: str) -> None:
    page.click(".fl-graph .rm-node rect")
    page.fill("#id_label", text)
    with saved(page):
        page.keyboard.press("Tab")
