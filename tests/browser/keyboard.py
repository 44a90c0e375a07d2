"""Actions in FlowView without a mouse."""

from playwright.sync_api import Page, expect

from tests.browser.flow_pages import saving


class Keyboard:
    """A user without a mouse: Tab and Enter on every page, and the keys of the graph's picture."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def has_focus(self, selector: str) -> bool:
        return self.page.locator(selector).first.evaluate_all(
            "elements => elements.length > 0 && elements[0] === document.activeElement"
        )

    def reach(self, selector: str, text: str = "") -> None:
        """Press Tab until the element has the focus, then type the text."""
        for _ in range(150):
            self.press("Tab")
            if self.has_focus(selector):
                return self.page.keyboard.type(text)
        raise AssertionError(f"Tab does not lead to {selector}")

    def enter(self, selector: str) -> None:
        self.reach(selector)
        self.press("Enter")

    def change(self, *keys: str) -> None:
        """Press keys that change the draft, and wait until it is saved."""
        with saving(self.page):
            self.press(*keys)

    def fill(self, name: str, text: str) -> None:
        self.reach(f"#id_in-{name}", text)
        self.change("Tab")

    def expect_at(self, node: str) -> None:
        expect(self.page.locator(f".fl-graph .rm-node[data-node={node}]")).to_be_focused()

    def to(self, node: str, *keys: str) -> None:
        """Move the focus to a node: Tab leads to one node, the given keys to the others."""
        if not self.page.evaluate("document.activeElement?.matches('.fl-graph .rm-node')"):
            expect(self.page.locator(".fl-graph .rm-node[tabindex='0']")).to_have_count(1)
            self.reach(".fl-graph .rm-node[tabindex='0']")
        for key in keys:
            if not self.has_focus(f".rm-node[data-node={node}]"):
                self.press(key)
        self.expect_at(node)

    def add(self, kind: str, count: int) -> None:
        """Add the first node that matches the search, which must have the focus.

        `count` is the number of nodes afterwards. The new node has the focus.
        """
        expect(self.page.locator("#fl-search")).to_be_focused()
        self.page.keyboard.type(kind)
        self.press("Enter")
        expect(self.page.locator(".fl-graph .rm-node")).to_have_count(count)
        expect(self.page.locator(".fl-graph .fl-chosen")).to_be_focused()

    def open(self, node: str) -> None:
        """Open the inspector of the node that has the focus."""
        self.press("Enter")
        expect(self.page.locator("#fl-inspector h2")).to_have_text(node)
        expect(self.page.locator("#fl-inspector h2")).to_be_focused()
