"""Every page is accessible in light and dark mode, and fits a phone, a tablet and a desktop."""

import pytest
from axe_playwright_python.base import AXE_SCRIPT

from runs.engine.answer import WAITS
from tests.browser.flow_pages import saving

pytestmark = [pytest.mark.cluster, pytest.mark.only_on("postgresql")]
ALL_COLUMNS = (
    "id,name,status,progress,time,duration,labels,trigger,finished,node,reruns,dataset,session,"
    "namespace"
)
# Only violations are reported: describing the passed checks takes most of the time.
OPTIONS = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}
# Changing the colour scheme starts transitions, during which the contrast is low.
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
    """{name: address} of each page of the Run Manager: full, empty and with failures."""
    failed = world["failed"].pk
    rerun = world["again"].pk
    run = f"/admin/run-manager/run/{failed}/"
    outside = f"/admin/run-manager/run/{world['outside'].pk}/"
    asking = world["waiting"].states.filter(WAITS).get().pk
    checkpoint = world["outside"].checkpoints.order_by("pk").first().pk
    return {
        "dashboard": "/admin/",
        "list": "/admin/run-manager/",
        "list, empty": "/admin/run-manager/?search=nothing&page_size=999",
        "list, a long word": f"/admin/run-manager/?search={'a' * 300}&workspace={'b' * 300}",
        "list, all columns": f"/admin/run-manager/?cols={ALL_COLUMNS}",
        "run, failed": run,
        "run, waiting": f"/admin/run-manager/run/{world['waiting'].pk}/",
        "run, outside": outside,
        **{
            f"run, {tab}": f"{run}{tab}/"
            for tab in ("timeline", "states", "logs", "data", "checkpoints", "lineage", "history")
        },
        "a checkpoint": f"{outside}checkpoints/?checkpoint={checkpoint}",
        "health": "/admin/run-manager/health/",
        "compare": f"/admin/run-manager/compare/?a={failed}&b={rerun}&all=1",
        "compare, nothing": "/admin/run-manager/compare/",
        "rerun": f"/admin/run-manager/rerun/{failed}/?from=failed",
        "operations": "/admin/run-manager/operations/",
        "recurring": "/admin/run-manager/schedules/reruns/",
        "schedules": "/admin/run-manager/schedules/",
        "schedules of templates": "/admin/run-manager/schedules/templates/",
        "schedule, new": "/admin/run-manager/schedules/new/",
        "inbox": "/admin/run-manager/inbox/",
        "inbox, an answer": f"/admin/run-manager/inbox/answer/?like={asking}",
        "templates": "/admin/run-manager/templates/",
        "template, new": f"{run}template/",
        "run states": f"/admin/run-states/?run={failed}",
    }


def flow_pages(world) -> dict[str, str]:
    """{name: address} of each page of FlowView.

    These are the draft in its views, with a node, an edge or an unknown node selected, and the
    pages around it.
    """
    graph = f"/admin/graphs/graph/{world['failed'].graph_id}/flow/"
    broken = f"/admin/graphs/graph/{world['exported'].graph_id}/flow/"
    file = world["exported"].artifacts.order_by("pk").last()
    return {
        "graphs": "/admin/flow/",
        "graphs, empty": "/admin/flow/?search=nothing",
        "flow": graph,
        "flow, a node": f"{graph}?node=price",
        "flow, an unknown node": f"{broken}?node=odd",
        "flow, an edge": f"{graph}?start=fetch&end=check",
        "flow, the list": f"{graph}?view=list&node=invoice",
        "flow, JSON": f"{graph}?view=json",
        "publish": f"{broken}publish/",
        "history": f"{graph}history/?version=1",
        "run": f"{broken}run/",
        "run, with inputs": f"{graph}run/",
        "datasets": "/admin/flow/datasets/",
        "dataset": f"/admin/flow/datasets/{world['exported'].dataset_id}/",
        "file": f"/admin/run-manager/run/{world['exported'].pk}/files/{file.pk}/",
    }


PAGES = {"run-manager": run_manager_pages, "flow": flow_pages}


def violations(page, name: str, *schemes: str) -> list[str]:
    """The violations that axe reports on the current page, in each of these colour schemes."""
    page.evaluate(AXE_SCRIPT)
    reports = []
    for scheme in schemes or ("light",):
        page.emulate_media(color_scheme=scheme)
        reports += [f"{name}, {scheme}: {text}" for text in page.evaluate(RUN_AXE, OPTIONS)]
    return reports


@pytest.mark.parametrize("part", PAGES)
def test_pages_are_accessible(open_as, world, part):
    page = open_as()
    reports = []
    for name, path in PAGES[part](world).items():
        page.goto(path)
        reports += violations(page, name, "light", "dark")
    assert not reports, "\n".join(reports)


def test_pages_of_a_reader_are_accessible(open_as, world):
    page = open_as("ben")
    reports = []
    for name, path in flow_pages(world).items():
        if name not in ("publish", "run", "run, with inputs"):
            assert page.goto(path).status == 200, name
            reports += violations(page, name)
    assert not reports, "\n".join(reports)


def test_errors_and_conflicts_are_accessible(open_as, world):
    """Invalid forms and JSON, conflicts, and graphs that are empty or can't be published."""
    page = open_as()
    broken = f"/admin/graphs/graph/{world['exported'].graph_id}/flow/"
    graph = f"/admin/graphs/graph/{world['failed'].graph_id}/flow/"
    reports = []

    def check(name: str) -> None:
        reports.extend(violations(page, name))

    page.goto(f"{graph}?node=price")
    page.click("summary:text-is('Joins, retries, timeout')")
    page.fill("#id_backoff_factor", "-1")
    page.keyboard.press("Tab")
    page.locator("#fl-inspector .fl-bad").wait_for()
    check("an invalid form")
    page.goto(f"{graph}?view=json")
    page.fill("#fl-json", '{"nodes": 1}')
    with page.expect_navigation():
        page.click("text=Check only")
    check("invalid JSON")
    page.goto(f"{broken}publish/")
    check("publishing a graph that can't run")
    page.goto(f"{broken}run/")
    if page.locator("button:text-is('Run')").count():
        with page.expect_navigation():
            page.click("button:text-is('Run')")
    check("running a graph that can't run")
    page.goto(f"{graph}?node=open")
    stale = page.input_value("#fl-where [name=revision]")
    page.fill("#id_label", "one")
    with saving(page):
        page.keyboard.press("Tab")
    page.evaluate(
        "value => { document.querySelector('#fl-where [name=revision]').value = value; }", stale
    )
    page.fill("#id_label", "two")
    page.keyboard.press("Tab")
    page.locator("#fl-conflict h2").wait_for()
    check("a conflict")
    page.goto("/admin/flow/")
    page.locator("summary", has_text="New graph").click()
    page.fill("#id_name", "empty")
    page.select_option("#id_namespace", label="shop")
    page.click("text=Create")
    page.locator("#fl-picture .rm-empty").wait_for()
    check("an empty draft")
    assert not reports, "\n".join(reports)


@pytest.mark.parametrize("size", ["phone", "tablet", "desktop"])
def test_no_page_is_wider_than_the_screen(open_as, world, size):
    page = open_as(size=size)
    too_wide = []
    for name, path in (run_manager_pages(world) | flow_pages(world)).items():
        page.goto(path)
        if page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        ):
            too_wide.append((name, page.evaluate("document.documentElement.scrollWidth")))
    assert not too_wide
