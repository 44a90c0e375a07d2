"""FlowView without a mouse."""

from playwright.sync_api import Page, expect

from tests.browser.flow_pages import saved


class Keyboard:
    """Somebody without a mouse: on every page Tab and Enter, in the picture of a graph its keys."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def on(self, selector: str) -> bool:
        return self.page.locator(selector).first.evaluate_all(
            "found => found.length > 0 && found[0] === document.activeElement"
        )

    def reach(self, selector: str, text: str = "") -> None:
        """Tab, as often as it takes, until the element has the focus; then write there."""
        for _ in range(150):
            self.press("Tab")
            if self.on(selector):
                return self.page.keyboard.type(text)
        raise AssertionError(f"Tab does not lead to {selector}")

    def enter(self, selector: str) -> None:
        self.reach(selector)
        self.press("Enter")

    def change(self, *keys: str) -> None:
        """Keys that change the draft."""
        with saved(self.page):
            self.press(*keys)

    def fill(self, name: str, text: str) -> None:
        self.reach(f"#id_in-{name}", text)
        self.change("Tab")

    def at(self, node: str) -> None:
        expect(self.page.locator(f".fl-graph .rm-node[data-node={node}]")).to_be_focused()

    def to(self, node: str, *keys: str) -> None:
        """Tab leads to one node, arrows to the others."""
        if not self.page.evaluate("document.activeElement?.matches('.fl-graph .rm-node')"):
            expect(self.page.locator(".fl-graph .rm-node[tabindex='0']")).to_have_count(1)
            self.reach(".fl-graph .rm-node[tabindex='0']")
        for key in keys:
            if not self.on(f".rm-node[data-node={node}]"):
                self.press(key)
        self.at(node)

    def add(self, kind: str, count: int) -> None:
        """With the focus in the search field: add the first node that fits; it has the focus."""
        expect(self.page.locator("#fl-search")).to_be_focused()
        self.page.keyboard.type(kind)
        self.press("Enter")
        expect(self.page.locator(".fl-graph .rm-node")).to_have_count(count)
        expect(self.page.locator(".fl-graph .fl-chosen")).to_be_focused()

    def open(self, node: str) -> None:
        self.press("Enter")
        expect(self.page.locator("#fl-inspector h2")).to_have_text(node)
        expect(self.page.locator("#fl-inspector h2")).to_be_focused()
