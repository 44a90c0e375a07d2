"""Changes that are typed quickly, by two people, or while the network is slow: nothing is lost
silently.
"""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from graphs.auth.callers import SYSTEM
from graphs.definition import edits
from graphs.models import Graph
from graphs.services import drafts
from tests.browser.flow_pages import begun, drawn, filled_label, pulled, saved

pytestmark = [pytest.mark.cluster]


def test_quick_changes_are_all_done_and_a_link_waits_for_them(open_as: Callable[..., Page]) -> None:
    page = open_as()
    begun(page, "quick")
    for _ in range(6):
        page.click(".fl-kind:has(strong:text-is('noop'))", no_wait_after=True)
    drawn(page, 6)
    page.click(".fl-graph .rm-node[data-node=noop] rect")
    page.fill("#id_label", "typed, then away")
    page.click(".rm-tabs >> text=List")
    expect(page.locator("#fl-list")).to_contain_text("typed, then away")
    page.click(".rm-tabs >> text=Picture")
    page.click("#fl-undo")
    expect(page.locator("#fl-picture")).not_to_contain_text("typed, then away")
    expect(page.locator("#fl-undo")).to_be_focused()


def test_two_windows_on_the_same_field(open_as: Callable[..., Page]) -> None:
    first, second = open_as(), open_as()
    begun(first, "shared")
    first.click(".fl-kind:has(strong:text-is('noop'))")
    drawn(first, 1)
    second.goto(first.url.split("?")[0] + "?node=noop")
    filled_label(first, "first")
    second.fill("#id_label", "second")
    second.keyboard.press("Tab")
    expect(second.locator("#fl-conflict h2")).to_be_focused()
    second.click("text=Take mine")
    expect(second.locator("#fl-picture")).to_contain_text("second")


def test_a_list_is_walked_by_arrows_and_what_stands_there_at_last_counts(
    open_as: Callable[..., Page],
) -> None:
    page = open_as()
    begun(page, "arrows")
    for _ in range(2):
        page.click(".fl-kind:has(strong:text-is('table.export'))")
    page.click(".fl-kind:has(strong:text-is('zip'))")
    drawn(page, 3)
    pulled(page, "export", "zip")
    page.click(".fl-graph .rm-node[data-node=zip] text >> nth=0")
    page.fill("#id_in-files", "[]")
    page.keyboard.press("Tab")
    expect(page.locator("#id_ref-files")).to_be_visible()
    page.locator("#id_ref-files").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    with saved(page):
        page.keyboard.press("Enter")
    expect(page.locator("#id_in-files")).to_have_value("""[\n  "${{ export.outputs.file }}"\n]""")


def test_edges_json_and_conflicts_are_not_left_unsaved_without_a_word(
    open_as: Callable[..., Page],
) -> None:
    page = open_as()
    begun(page, "kept")
    for _ in range(2):
        page.click(".fl-kind:has(strong:text-is('noop'))")
    drawn(page, 2)
    page.locator(".fl-edge").focus()
    page.keyboard.press("Enter")
    page.fill("#fl-when", "outputs.value == 1")
    page.click(".rm-tabs >> text=List")
    expect(page.locator("#fl-list td code")).to_have_text("outputs.value == 1")
    page.click(".rm-tabs >> text=JSON")
    page.fill("#fl-json", "{}")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.click(".rm-tabs >> text=List", no_wait_after=True)
    expect(page.locator("#fl-json")).to_have_value("{}")
    assert asked == ["beforeunload"]


def test_a_session_that_ends_takes_nothing_along(open_as: Callable[..., Page]) -> None:
    page = open_as()
    begun(page, "session")
    page.click(".fl-kind:has(strong:text-is('noop'))")
    drawn(page, 1)
    page.context.clear_cookies(name="sessionid")
    page.fill("#id_label", "still here")
    page.keyboard.press("Tab")
    expect(page.locator("#fl-wrong")).to_contain_text("You are logged out")
    expect(page.locator("#id_label")).to_have_value("still here")
    other = page.context.new_page()
    other.goto("/admin/login/?next=/admin/")
    other.fill("#id_username", "ann")
    other.fill("#id_password", "ann")
    other.click("[type=submit]")
    expect(other.locator("#user-tools")).to_be_visible()
    page.click("#fl-node button:has-text('Save')")
    expect(page.locator("#fl-wrong")).to_contain_text("save once more")
    page.click("#fl-node button:has-text('Save')")
    expect(page.locator("#fl-picture")).to_contain_text("still here")


def limited_by_somebody_else(graph: Graph, node: str) -> None:
    limited = {"data": {"timeout": 60}}
    drafts.apply(
        graph,
        drafts.draft_of(graph).base,
        lambda was: edits.change(was, node, {**edits.node_of(was, node), **limited}),
        SYSTEM,
    )


def test_what_was_typed_before_somebody_elses_change_came_does_not_undo_it(
    open_as: Callable[..., Page],
) -> None:
    page = open_as()
    begun(page, "both")
    page.click(".fl-kind:has(strong:text-is('delay'))")
    drawn(page, 1)
    graph, held = Graph.objects.get(name="both"), []
    page.route("**/edit", lambda route: held.append(route), times=1)
    page.fill("#id_label", "mine")
    page.keyboard.press("Tab")
    page.fill("#id_in-seconds", "3")
    page.keyboard.press("Tab")
    limited_by_somebody_else(graph, "delay")
    with page.expect_response(
        lambda answer: (
            answer.url.endswith("/edit") and "in-seconds=3" in (answer.request.post_data or "")
        )
    ):
        held[0].continue_()
    node = drafts.draft_of(graph).definition["nodes"][0]
    assert node == {
        "id": "delay",
        "kind": "delay",
        "label": "mine",
        "data": {"timeout": 60, "inputs": {"seconds": 3}},
    }


def test_what_is_written_while_a_change_is_saved_stays(open_as: Callable[..., Page]) -> None:
    """A row that is left shows the rows anew: not to somebody who is in the next one already,
    whoever else changes the draft meanwhile.
    """
    page = open_as()
    begun(page, "swift")
    page.click(".fl-kind:has(strong:text-is('rows.aggregate'))")
    drawn(page, 1)
    graph, held = Graph.objects.get(name="swift"), []
    page.route("**/edit", lambda route: held.append(route), times=1)
    page.fill("#id_in-by-0-0", "customer")
    page.focus("#id_in-measures-0-name")
    page.keyboard.type("orders")
    limited_by_somebody_else(graph, "aggregate")
    with saved(page):
        held[0].continue_()
    expect(page.locator("#fl-live")).to_contain_text("aggregate")
    expect(page.locator("#id_in-measures-0-name")).to_be_focused()
    expect(page.locator("#id_in-measures-0-name")).to_have_value("orders")
    page.select_option("#id_in-measures-0-0", "count")
    page.focus("#id_label")
    expect(page.locator("#id_in-measures-1-name")).to_have_count(1)
    node = drafts.draft_of(graph).definition["nodes"][0]
    assert node["data"] == {
        "timeout": 60,
        "inputs": {"by": ["customer"], "measures": {"orders": {"function": "count", "column": ""}}},
    }


def test_what_does_not_fit_yet_stays_while_another_node_is_moved(
    open_as: Callable[..., Page],
) -> None:
    page = open_as()
    begun(page, "half")
    for count, kind in enumerate(("rows.aggregate", "table.export"), start=1):
        page.click(f".fl-kind:has(strong:text-is('{kind}'))")
        drawn(page, count)
    page.click(".fl-graph .rm-node[data-node=aggregate] rect")
    page.fill("#id_in-measures-0-name", "orders")
    box = page.locator(".rm-node[data-node=export] rect").bounding_box()
    assert box
    page.mouse.move(box["x"] + 20, box["y"] + 15)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 120, steps=5)
    with page.expect_response(
        lambda answer: (
            answer.url.endswith("/edit") and "op=move" in (answer.request.post_data or "")
        )
    ):
        page.mouse.up()
    expect(page.locator("#fl-inspector .fl-bad")).to_have_count(1)
    expect(page.locator("#id_in-measures-0-name")).to_have_value("orders")
    expect(page.locator(".fl-graph .fl-chosen")).to_have_attribute("data-node", "aggregate")
    page.select_option("#id_in-measures-0-0", "count")
    page.focus("#id_label")
    expect(page.locator("#id_in-measures-1-name")).to_have_count(1)
    aggregate, export = drafts.draft_of(Graph.objects.get(name="half")).definition["nodes"]
    assert aggregate["data"]["inputs"]["measures"] == {
        "orders": {"function": "count", "column": ""}
    }
    assert export["position"]["y"] > 50, "it was moved, too"
