"""Every page with axe, in light and dark, and at the width of a phone, a tablet and a desktop."""

import pytest
from axe_playwright_python.base import AXE_SCRIPT

from runs.manager.columns import COLUMNS
from tests.browser.flow_pages import saved

pytestmark = [pytest.mark.cluster]
# Only violations are described: what passes is most of a page, and describing it most of the time.
OPTIONS = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}
# A change of the colour scheme starts transitions; in their middle there is little contrast.
RUN_AXE = """async (options) => {
    for (const animation of document.getAnimations()) {
        if (animation instanceof CSSTransition) animation.finish();
    }
    const results = await axe.run(document, options);
    return results.violations.map(({id, help, nodes}) => (
        `${id} (${help}): ${nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`
    ));
}"""


def run_manager_pages(world) -> dict[str, str]:
    """Each page of the Run Manager: full, empty, failed, loading."""
    failed, waiting, again = world["failed"].pk, world["waiting"].pk, world["again"].pk
    outside = world["outside"]
    checkpoint = outside.checkpoints.order_by("pk").first().pk
    run = f"/admin/run-manager/run/{failed}/"
    return {
        "dashboard": "/admin/",
        "list": "/admin/run-manager/",
        "list, nothing found": "/admin/run-manager/?search=nothing&page_size=999",
        "list, all columns": f"/admin/run-manager/?cols={','.join(COLUMNS)}",
        "run, failed": run,
        "run, waiting": f"/admin/run-manager/run/{waiting}/",
        "run, outside": f"/admin/run-manager/run/{world['outside'].pk}/",
        **{
            f"run, {tab}": f"{run}{tab}/"
            for tab in ("timeline", "states", "logs", "data", "checkpoints", "lineage", "history")
        },
        "a checkpoint": f"/admin/run-manager/run/{outside.pk}/checkpoints/?checkpoint={checkpoint}",
        "health": "/admin/run-manager/health/",
        "compare": f"/admin/run-manager/compare/?a={failed}&b={again}&all=1",
        "compare, nothing": "/admin/run-manager/compare/",
        "rerun": f"/admin/run-manager/rerun/{failed}/?from=failed",
        "operations": "/admin/run-manager/operations/",
        "templates": "/admin/run-manager/templates/",
        "template, new": f"{run}template/",
        "run states": f"/admin/run-states/?run={failed}",
    }


def flow_pages(world) -> dict[str, str]:
    """Each page of FlowView: the draft in its views, a node, an edge, an unknown node, an empty
    draft; and what surrounds it.
    """
    graph, drawn = (
        f"/admin/graphs/graph/{world['failed'].graph_id}/flow/",
        f"/admin/graphs/graph/{world['exported'].graph_id}/flow/",
    )
    file = world["exported"].artifacts.order_by("pk").last()
    return {
        "graphs": "/admin/flow/",
        "graphs, none found": "/admin/flow/?search=nothing",
        "flow": graph,
        "flow, a node": f"{graph}?node=price",
        "flow, an unknown node": f"{drawn}?node=odd",
        "flow, an edge": f"{graph}?start=fetch&end=check",
        "flow, the list": f"{graph}?view=list&node=invoice",
        "flow, JSON": f"{graph}?view=json",
        "publish": f"{drawn}publish/",
        "history": f"{graph}history/?version=1",
        "run": f"{drawn}run/",
        "run, with inputs": f"{graph}run/",
        "datasets": "/admin/flow/datasets/",
        "dataset": f"/admin/flow/datasets/{world['exported'].dataset_id}/",
        "file": f"/admin/run-manager/run/{world['exported'].pk}/files/{file.pk}/",
    }


PAGES = {"run-manager": run_manager_pages, "flow": flow_pages}


def violations(page, name: str, *schemes: str) -> list[str]:
    """What axe complains of on the page as it is, in each of these colour schemes."""
    page.evaluate(AXE_SCRIPT)
    found = []
    for scheme in schemes or ("light",):
        page.emulate_media(color_scheme=scheme)
        found += [f"{name}, {scheme}: {text}" for text in page.evaluate(RUN_AXE, OPTIONS)]
    return found


@pytest.mark.parametrize("part", PAGES)
def test_axe_finds_nothing(open_as, world, part):
    page, found = open_as(), []
    for name, path in PAGES[part](world).items():
        page.goto(path)
        found += violations(page, name, "light", "dark")
    assert not found, "\n".join(found)


def test_axe_finds_nothing_on_what_a_reader_sees(open_as, world):
    page, found = open_as("ben"), []
    for name, path in flow_pages(world).items():
        if name not in ("publish", "run", "run, with inputs"):
            assert page.goto(path).status == 200, name
            found += violations(page, name)
    assert not found, "\n".join(found)


def test_axe_finds_nothing_on_what_is_refused_or_asked(open_as, world):
    """What doesn't fit, what two people changed, JSON that can't be read, and a graph that is empty
    or can't be published.
    """
    page, drawn = open_as(), f"/admin/graphs/graph/{world['exported'].graph_id}/flow/"
    graph = f"/admin/graphs/graph/{world['failed'].graph_id}/flow/"
    found = []

    def looked(name: str) -> None:
        found.extend(violations(page, name))

    page.goto(f"{graph}?node=price")
    page.click("summary:text-is('Joins, retries, timeout')")
    page.fill("#id_backoff_factor", "-1")
    page.keyboard.press("Tab")
    page.locator("#fl-inspector .fl-bad").wait_for()
    looked("a form that doesn't fit")
    page.goto(f"{graph}?view=json")
    page.fill("#fl-json", '{"nodes": 1}')
    with page.expect_navigation():
        page.click("text=Check only")
    looked("JSON that can't be drawn")
    page.goto(f"{drawn}publish/")
    looked("publishing what can't run")
    page.goto(f"{drawn}run/")
    if page.locator("button:text-is('Run')").count():
        with page.expect_navigation():
            page.click("button:text-is('Run')")
    looked("running what can't run")
    page.goto(f"{graph}?node=open")
    stale = page.input_value("#fl-where [name=revision]")
    page.fill("#id_label", "one")
    with saved(page):
        page.keyboard.press("Tab")
    page.evaluate(
        "value => { document.querySelector('#fl-where [name=revision]').value = value; }", stale
    )
    page.fill("#id_label", "two")
    page.keyboard.press("Tab")
    page.locator("#fl-conflict h2").wait_for()
    looked("two changes of the same")
    page.goto("/admin/flow/")
    page.locator("summary", has_text="New graph").click()
    page.fill("#id_name", "empty")
    page.select_option("#id_namespace", label="shop")
    page.click("text=Create")
    page.locator("#fl-picture .rm-empty").wait_for()
    looked("an empty draft")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("size", ["phone", "tablet", "desktop"])
def test_no_page_is_wider_than_the_screen(open_as, world, size):
    page, wide = open_as(size=size), []
    for name, path in (run_manager_pages(world) | flow_pages(world)).items():
        page.goto(path)
        if page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        ):
            wide.append((name, page.evaluate("document.documentElement.scrollWidth")))
    assert not wide
