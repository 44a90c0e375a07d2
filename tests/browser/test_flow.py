"""FlowView as its users meet it: the export graph drawn from nothing by mouse, by keys and without JavaScript, run, watched, and its file compared."""

import csv
import io

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.cluster]
HOME = "/admin/flow/"


def begun(page: Page, name: str) -> None:
    page.goto(HOME)
    page.locator("summary", has_text="New graph").click()
    page.fill("#id_name", name)
    page.select_option("#id_namespace", label="shop")
    page.click("text=Begin")
    expect(page.locator("h1")).to_contain_text(name)


def test_look(open_as):
    page = open_as()
    page.goto(HOME)
    page.screenshot(path="/tmp/f0.png", full_page=True)
    begun(page, "first")
    page.screenshot(path="/tmp/f1.png")
    page.click(".fl-kind:has-text('dataset.read')")
    expect(page.locator(".rm-node")).to_have_count(1)
    page.click(".fl-kind:has-text('rows.filter')")
    expect(page.locator(".rm-node")).to_have_count(2)
    page.click(".fl-kind:has-text('table.export')")
    expect(page.locator(".rm-node")).to_have_count(3)
    page.wait_for_timeout(1000)
    page.screenshot(path="/tmp/f2.png")
    page.click(".rm-node[data-node=read]")
    page.wait_for_timeout(500)
    page.fill("#id_in-table", "orders")
    page.keyboard.press("Tab")
    page.wait_for_timeout(1200)
    page.screenshot(path="/tmp/f3.png", full_page=True)
    page.click(".rm-tabs >> text=List")
    page.screenshot(path="/tmp/f4.png", full_page=True)
    page.click(".rm-tabs >> text=JSON")
    page.screenshot(path="/tmp/f5.png", full_page=True)
    page.goto(page.url.split("?")[0] + "run/")
    page.screenshot(path="/tmp/f6.png", full_page=True)
