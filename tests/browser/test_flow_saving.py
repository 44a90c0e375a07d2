"""No change is lost silently: typed quickly, by two people, or while the network is slow."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from graphs.auth.callers import SYSTEM
from graphs.definition import edits
from graphs.models import Graph
from graphs.services import drafts
from tests.browser.flow_pages import connect, create_graph, expect_nodes, fill_label, saving

pytestmark = [pytest.mark.cluster, pytest.mark.only_on("sqlite")]


def test_quick_changes_are_all_saved_before_a_link_is_followed(
    open_as: Callable[..., Page],
) -> None:
    page = open_as()
    create_graph(page, "quick")
    for _ in range(6):
        page.click(".fl-kind:has(strong:text-is('noop'))", no_wait_after=True)
    expect_nodes(page, 6)
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
    create_graph(first, "shared")
    first.click(".fl-kind:has(strong:text-is('noop'))")
    expect_nodes(first, 1)
    second.goto(first.url.split("?")[0] + "?node=noop")
    fill_label(first, "first")
    second.fill("#id_label", "second")
    second.keyboard.press("Tab")
    expect(second.locator("#fl-conflict h2")).to_be_focused()
    second.click("text=Take mine")
    expect(second.locator("#fl-picture")).to_contain_text("second")


def test_arrow_keys_walk_a_list_and_the_last_option_is_saved(
    open_as: Callable[..., Page],
) -> None:
    page = open_as()
    create_graph(page, "arrows")
    for _ in range(2):
        page.click(".fl-kind:has(strong:text-is('table.export'))")
    page.click(".fl-kind:has(strong:text-is('zip'))")
    expect_nodes(page, 3)
    connect(page, "export", "zip")
    page.click(".fl-graph .rm-node[data-node=zip] text >> nth=0")
    page.fill("#id_in-files", "[]")
    page.keyboard.press("Tab")
    expect(page.locator("#id_ref-files")).to_be_visible()
    page.locator("#id_ref-files").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    with saving(page):
        page.keyboard.press("Enter")
    expect(page.locator("#id_in-files")).to_have_value("""[\n  "${{ export.outputs.file }}"\n]""")


def test_leaving_saves_an_edge_and_warns_of_unsaved_json(
    open_as: Callable[..., Page],
) -> None:
    page = open_as()
    create_graph(page, "unsaved")
    for _ in range(2):
        page.click(".fl-kind:has(strong:text-is('noop'))")
    expect_nodes(page, 2)
    page.locator(".fl-edge").focus()
    page.keyboard.press("Enter")
    page.fill("#fl-when", "outputs.value == 1")
    page.click(".rm-tabs >> text=List")
    expect(page.locator("#fl-list td code")).to_have_text("outputs.value == 1")
    page.click(".rm-tabs >> text=JSON")
    page.fill("#fl-json", "{}")
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.type), dialog.dismiss()))
    page.click(".rm-tabs >> text=List", no_wait_after=True)
    expect(page.locator("#fl-json")).to_have_value("{}")
    assert dialogs == ["beforeunload"]


def test_a_session_that_ends_loses_no_text(open_as: Callable[..., Page]) -> None:
    page = open_as()
    create_graph(page, "session")
    page.click(".fl-kind:has(strong:text-is('noop'))")
    expect_nodes(page, 1)
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


def set_timeout_as_another_user(graph: Graph, node: str) -> None:
    timeout = {"data": {"timeout": 60}}
    drafts.apply(
        graph,
        drafts.draft_of(graph).base,
        lambda definition: edits.change(
            definition, node, {**edits.node_of(definition, node), **timeout}
        ),
        SYSTEM,
    )


def test_text_typed_before_another_users_change_does_not_undo_it(
    open_as: Callable[..., Page],
) -> None:
    page = open_as()
    create_graph(page, "both")
    page.click(".fl-kind:has(strong:text-is('delay'))")
    expect_nodes(page, 1)
    graph = Graph.objects.get(name="both")
    delayed = []
    page.route("**/edit", lambda route: delayed.append(route), times=1)
    page.fill("#id_label", "mine")
    page.keyboard.press("Tab")
    page.fill("#id_in-seconds", "3")
    page.keyboard.press("Tab")
    set_timeout_as_another_user(graph, "delay")
    with page.expect_response(
        lambda response: (
            response.url.endswith("/edit") and "in-seconds=3" in (response.request.post_data or "")
        )
    ):
        delayed[0].continue_()
    node = drafts.draft_of(graph).definition["nodes"][0]
    assert node == {
        "id": "delay",
        "kind": "delay",
        "label": "mine",
        "data": {"timeout": 60, "inputs": {"seconds": 3}},
    }


def test_text_typed_while_a_change_is_saved_stays(open_as: Callable[..., Page]) -> None:
    """Saving a row replaces all rows, but not while the user is typing in the next one.

    This holds if another user changes the draft meanwhile, too.
    """
    page = open_as()
    create_graph(page, "typing")
    page.click(".fl-kind:has(strong:text-is('rows.aggregate'))")
    expect_nodes(page, 1)
    graph = Graph.objects.get(name="typing")
    delayed = []
    page.route("**/edit", lambda route: delayed.append(route), times=1)
    page.fill("#id_in-by-0-0", "customer")
    page.focus("#id_in-measures-0-name")
    page.keyboard.type("orders")
    set_timeout_as_another_user(graph, "aggregate")
    with saving(page):
        delayed[0].continue_()
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


def test_invalid_input_stays_while_another_node_is_moved(
    open_as: Callable[..., Page],
) -> None:
    page = open_as()
    create_graph(page, "half")
    for count, kind in enumerate(("rows.aggregate", "table.export"), start=1):
        page.click(f".fl-kind:has(strong:text-is('{kind}'))")
        expect_nodes(page, count)
    page.click(".fl-graph .rm-node[data-node=aggregate] rect")
    page.fill("#id_in-measures-0-name", "orders")
    box = page.locator(".rm-node[data-node=export] rect").bounding_box()
    assert box
    page.mouse.move(box["x"] + 20, box["y"] + 15)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 120, steps=5)
    with page.expect_response(
        lambda response: (
            response.url.endswith("/edit") and "op=move" in (response.request.post_data or "")
        )
    ):
        page.mouse.up()
    expect(page.locator("#fl-inspector .fl-bad")).to_have_count(1)
    expect(page.locator("#id_in-measures-0-name")).to_have_value("orders")
    expect(page.locator(".fl-graph .fl-chosen")).to_have_attribute("data-node", "aggregate")
    page.focus("#id_in-measures-0-0")  # choosing an option by script doesn't move the focus
    page.select_option("#id_in-measures-0-0", "count")
    page.focus("#id_label")
    expect(page.locator("#id_in-measures-1-name")).to_have_count(1)
    aggregate, export = drafts.draft_of(Graph.objects.get(name="half")).definition["nodes"]
    assert aggregate["data"]["inputs"]["measures"] == {
        "orders": {"function": "count", "column": ""}
    }
    assert export["position"]["y"] > 50, "the other node was moved"
