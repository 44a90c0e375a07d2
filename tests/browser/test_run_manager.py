"""The pages of the Run Manager in a browser, with JavaScript and without."""

import re
import threading

import pytest
from django.contrib.auth.models import User
from django.db import connections
from playwright.sync_api import Page, expect

from runs.engine.executor import Executor
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import BulkOperation, Run, State

pytestmark = [pytest.mark.cluster, pytest.mark.only_on("sqlite")]
LIST = "/admin/run-manager/"


def drain() -> None:
    """Execute all ready states in a thread of its own, as a cluster would."""

    def work() -> None:
        executor = Executor(threads=False)
        while executor.drain():
            pass
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def row_count(page: Page) -> int:
    return page.locator("#runs tbody tr").count()


def test_a_user_without_a_role_does_not_see_the_run_manager(open_as):
    page = open_as()
    expect(page.locator(".sm-rail")).to_contain_text("Run Manager")
    page.goto(LIST)
    expect(page.locator(".sm-rail")).to_contain_text("Run Manager")
    User.objects.create_user("bob", password="bob", is_staff=True)
    other = open_as("bob")
    expect(other.locator("body")).not_to_contain_text("Run Manager")
    other.goto(LIST)
    assert other.url.endswith("/admin/")


def test_pages_filters_selection_and_deletion(open_as, world):
    page = open_as()
    page.goto(f"{LIST}?page_size=25")
    assert row_count(page) == 25
    page.get_by_role("link", name="Next", exact=True).click()
    expect(page.locator("#runs")).to_contain_text("Page 2 of 2")
    assert "page=2" in page.url
    # Filters: the list follows while the user types, and every filter leads back to page 1.
    page.fill("#rm-search", "monday")
    expect(page.locator("#runs tbody tr")).to_have_count(2)
    assert "search=monday" in page.url
    assert "page=2" not in page.url
    page.fill("#rm-search", world["failed"].run_id[:20])
    expect(page.locator("#runs tbody tr").first).to_contain_text("Orders of Monday")
    page.fill("#rm-search", "")
    expect(page.locator("#runs tbody tr")).to_have_count(25)
    page.select_option("select[name=workspace]", "shop")
    expect(page.locator("#runs")).to_contain_text("workspace: shop")
    page.select_option("select[name=username]", "ann")
    page.select_option("select[name=status]", "partial")
    expect(page.locator("#runs tbody tr")).to_have_count(3)
    page.get_by_text("workspace: shop").click()
    expect(page.locator("#runs")).not_to_contain_text("workspace: shop")
    # Selection
    page.goto(f"{LIST}?status=partial")
    page.locator("#runs tbody input[name=run]").first.check()
    expect(page.locator("#rm-count")).to_have_text("1 selected")
    page.locator("#rm-all").check()
    expect(page.locator("#rm-count")).to_have_text("3 selected")
    page.locator("#rm-all").uncheck()
    expect(page.locator("#rm-count")).to_have_text("")
    # Deletion
    page.locator("#runs tbody tr", has_text="Orders of Wednesday").locator(
        "input[name=run]"
    ).check()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("#content")).to_contain_text("Delete 1 run?")
    expect(page.locator("#content")).to_contain_text("21 states")
    page.get_by_role("link", name="No, take me back").click()
    expect(page.locator("#runs tbody tr")).to_have_count(3)
    page.locator("#runs tbody tr", has_text="Orders of Wednesday").locator(
        "input[name=run]"
    ).check()
    page.get_by_role("button", name="Delete", exact=True).click()
    confirm = page.get_by_role("button", name="Delete 1 run")
    expect(confirm).not_to_be_focused()
    confirm.click()
    expect(page.locator(".messagelist")).to_contain_text("1 run was deleted.")
    expect(page.locator("#runs tbody tr")).to_have_count(2)
    assert not Run.objects.filter(pk=world["recovered"].pk).exists()


def test_the_list_and_a_run_without_javascript(open_as, world):
    page = open_as(scripts=False)
    page.goto(LIST)
    page.fill("#rm-search", "monday")
    page.select_option("select[name=workspace]", "shop")
    page.get_by_role("button", name="Filter").click()
    assert row_count(page) == 2
    page.locator("input[name=run]").first.check()
    page.get_by_text("More", exact=True).click()
    page.get_by_role("button", name="Archive", exact=True).click()
    page.get_by_role("button", name="Archive 1 run").click()
    expect(page.locator(".messagelist")).to_contain_text("1 run was archived.")
    assert row_count(page) == 1
    page.locator("#runs tbody th a").first.click()
    expect(page.locator("#content")).to_contain_text(
        "ConnectionError: billing.example did not answer"
    )
    for tab in ("Timeline", "States", "Logs", "Data", "Checkpoints", "Lineage", "History"):
        page.locator(".rm-tabs").get_by_role("link", name=tab, exact=True).click()
        expect(page.locator(".rm-tabs [aria-current]")).to_have_text(tab)
    page.goto(f"/admin/run-manager/run/{world['waiting'].pk}/")
    page.get_by_label("yes").check()
    page.get_by_role("button", name="Answer").click()
    expect(page.locator(".messagelist")).to_contain_text("Approve was answered.")


def test_a_rerun_from_the_row_of_a_run(open_as, world):
    page = open_as()
    page.goto(f"{LIST}?search=monday")
    page.get_by_role("link", name="Rerun Orders of Monday", exact=True).click()
    expect(page.locator("#content")).to_contain_text("again?")
    page.get_by_label("the failed states and everything after them").check()
    page.get_by_role("button", name="Preview").click()
    expect(page.locator(".rm-summary")).to_contain_text("5 states would run again")
    expect(page.locator(".rm-summary")).to_contain_text("16 would be reused")
    page.get_by_role("button", name="Rerun", exact=True).click()
    expect(page.locator("#rm-head")).to_contain_text("rerun of Orders of Monday")
    new_run = Run.objects.latest("pk")
    assert page.url.endswith(f"/run/{new_run.pk}/")
    assert State.objects.filter(run=new_run, reused__isnull=False).count() == 16
    page.get_by_role("link", name="Lineage", exact=True).click()
    expect(page.locator("tr.rm-this")).to_contain_text("taken over")
    page.get_by_role("link", name="Compare", exact=True).last.click()
    expect(page.locator(".rm-summary")).to_contain_text("Same graph, version 1.")


def test_pages_follow_a_run_to_its_end_and_then_stop_polling(open_as, world):
    run = world["queued"]
    page, listing = open_as(), open_as()
    page.goto(f"/admin/run-manager/run/{run.pk}/")
    listing.goto(LIST)
    expect(page.locator("#rm-head .rm-badge")).to_contain_text("queued")
    expect(page.locator(".rm-why")).to_contain_text("no cluster is running", timeout=15_000)
    row = listing.locator(f"#run-{run.pk}")
    row.locator("input[name=run]").check()
    page.locator("#rm-more-tools").click()
    drain()
    expect(page.locator("#rm-head .rm-badge")).to_contain_text("partial")
    expect(page.locator("#rm-do-save-as-template")).to_be_visible()
    expect(page.locator("#rm-more-tools")).to_be_focused()
    expect(page.locator(".rm-failure")).to_contain_text("billing.example did not answer")
    expect(page.locator('.rm-node[data-node="invoice"]')).to_have_class(re.compile("rm-failed"))
    assert page.locator("#rm-now").get_attribute("hx-get") is None
    expect(row.locator(".rm-badge")).to_contain_text("partial")
    expect(row.locator("input[name=run]")).to_be_checked()
    start_run(run.graph, RunOptions(name="The newest"))
    expect(listing.locator("#rm-live")).to_contain_text("1 new run", timeout=15_000)


def test_the_log_page_follows_a_run(open_as, world):
    run = world["queued"]
    page = open_as()
    page.goto(f"/admin/run-manager/run/{run.pk}/logs/")
    expect(page.locator("#rm-log li[id]")).to_have_count(1)
    drain()
    expect(page.locator("#rm-log")).to_contain_text("invoice failed")
    expect(page.locator("#rm-log .rm-tail")).to_have_count(0)


def test_a_bulk_operation_shows_its_progress(open_as):
    from runs.actions import bulk, bulk_runner

    page = open_as()
    page.goto(LIST)
    page.locator("#rm-everything").check()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("#content")).to_contain_text("still active")
    page.get_by_role("button", name=re.compile("^Delete ")).click()
    expect(page.locator("#operation")).to_contain_text("failed")
    operation = BulkOperation.objects.get()
    assert operation.over
    expect(page.locator("#operation")).to_contain_text("cancel it first")
    slow = bulk.ask("archive", {}, bulk_runner.caller_of(operation))
    page.goto(f"/admin/run-manager/operations/{slow.pk}/")
    expect(page.locator("#operation")).to_contain_text("It waits for a cluster")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#operation")).to_contain_text("stopping")
    threading.Thread(target=lambda: (bulk_runner.run_waiting(5), connections.close_all())).start()
    expect(page.locator("#operation")).to_contain_text("not processed")


def test_keyboard_shortcuts_of_the_list(open_as):
    page = open_as()
    page.goto(LIST)
    page.keyboard.press("/")
    expect(page.locator("#rm-search")).to_be_focused()
    page.keyboard.press("Tab")
    page.locator(".breadcrumbs span").click()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("#rm-count")).to_have_text("1 selected")
    expect(page.locator("#runs tbody tr").nth(1).locator("input")).to_be_checked()
    page.keyboard.press("o")
    expect(page.locator("#rm-head")).to_be_visible()


def test_the_run_states_page(open_as, world):
    page = open_as()
    page.goto("/admin/run-states/")
    page.get_by_text("Start a run").click()
    page.select_option("#id_graph", label="shop/orders")
    page.fill("#id_run_id", "run_by_hand")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("was started")
    expect(page.locator("#states")).to_contain_text("run_by_hand")
    page.goto("/admin/run-states/")
    page.get_by_role("link", name="Orders of Monday", exact=True).click()
    page.get_by_role("link", name=re.compile("ERRORED")).click()
    assert page.locator("#content tbody tr").count() == 5
    page.get_by_text("Inputs", exact=True).first.click()
    expect(page.locator("details[open] pre").first).to_contain_text("billing.example")
