"""FlowView with a graph of 1,000 nodes: the layout, the server's work and Chromium's work.

`python -m tests.benchmarks.flow` needs Debian's chromium. It uses SQLite and one web process. The
figures are medians in milliseconds; the first paint is what Chromium itself reports as
first-contentful-paint.
"""

import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from time import monotonic, perf_counter, sleep
from typing import Any

NODES, CALLS = 1000, 7
UPDATE = """() => {
  const now = document.getElementById("rm-now");
  const nodes = [...document.querySelectorAll(".rm-node")].map((node) => node.dataset.node);
  const mark = (node) => [node, Math.random() < 0.5 ? "done" : "running", "▶ noop 3/5"];
  now.dataset.marks = JSON.stringify(nodes.map(mark));
  const began = performance.now();
  document.body.dispatchEvent(new CustomEvent("htmx:afterSettle", { bubbles: true }));
  return performance.now() - began;
}"""


FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def median_ms(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(CALLS):
        began = perf_counter()
        call()
        times.append((perf_counter() - began) * 1000)
    return statistics.median(times)


def definition(count: int = NODES) -> dict[str, Any]:
    """A graph in which each node follows one or two of the 60 nodes before it."""
    chance = random.Random(7)
    nodes = [{"id": f"n{at}", "kind": "noop", "label": f"Step number {at}"} for at in range(count)]
    pairs = set()
    for at in range(1, count):
        for _ in range(1 + (chance.random() < 0.43)):
            pairs.add((chance.randrange(max(0, at - 60), at), at))
    edges = [{"from": f"n{start}", "to": f"n{end}"} for start, end in sorted(pairs)]
    return {"nodes": nodes, "edges": edges}


def prepare() -> tuple[Any, Any]:
    """The graph to draw, and a run of the largest graph whose picture is shown."""
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from graphs.models import Namespace
    from graphs.nodes.base import registry
    from graphs.services import publish
    from runs.engine.start import start_run
    from runs.queries import diagram

    call_command("migrate", verbosity=0)
    registry.store()
    User.objects.create_superuser("bench", password="bench")
    namespace = Namespace.objects.create(name="bench")
    graph = publish.publish_graph(namespace, "large", definition())
    shown_graph = publish.publish_graph(namespace, "shown", definition(diagram.MAX_NODES))
    return graph, start_run(shown_graph)


def on_the_server(graph: Any) -> dict[str, float]:
    """The times of the layout and of requests, without a browser."""
    from django.contrib.auth.models import User
    from django.test import Client

    from graphs.definition import plan
    from graphs.rendering import layout, svg
    from graphs.services import drafts

    published = graph.current.definition
    ids = [node["id"] for node in published["nodes"]]
    edges = plan.edges_of(published)
    client = Client()
    client.force_login(User.objects.get())
    path = f"/admin/graphs/graph/{graph.pk}/flow/"

    def move_node() -> None:
        base = drafts.draft_of(graph).base
        form = {
            "op": "move",
            "node": ids[0],
            "x": base.revision,
            "y": 0,
            "revision": base,
            "view": "picture",
        }
        answer = client.post(f"{path}edit", form, headers={"HX-Request": "true"})
        assert b'id="fl-picture"' in answer.content, "the change was refused"

    return {
        "layout": median_ms(lambda: layout.place(layout.drawable(ids, edges), edges)),
        "picture as SVG": median_ms(lambda: svg.of_definition(published, "x")),
        "the page, on the server": median_ms(lambda: client.get(path)),
        "problems, on the server": median_ms(lambda: client.get(f"{path}problems")),
        "a change, on the server": median_ms(move_node),
    }


def in_chromium(address: str, graph: Any, run: Any) -> dict[str, float]:
    """The times that a user waits for the page, a change and a status update."""
    from playwright.sync_api import sync_playwright

    path = f"{address}/admin/graphs/graph/{graph.pk}/flow/"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{address}/admin/login/")
        page.fill("#id_username", "bench")
        page.fill("#id_password", "bench")
        page.click("[type=submit]")

        def first_paint() -> float:
            page.goto(path)
            return float(page.evaluate(FIRST_PAINT))

        def add_node() -> None:
            count = page.locator(".rm-node").count()
            page.locator(".fl-kind").first.click()
            page.locator(".fl-graph .rm-node").nth(count).wait_for(state="attached")

        paints = [first_paint() for _ in range(CALLS)]
        change = median_ms(add_node)
        page.goto(f"{address}/admin/run-manager/run/{run.pk}/")
        updates = [float(page.evaluate(UPDATE)) for _ in range(CALLS)]
        shown = page.locator(".rm-node").count()
        browser.close()
    return {
        "first paint in Chromium": statistics.median(paints),
        "adding a node, click to picture": change,
        f"status update of a run, {shown} nodes shown": statistics.median(updates),
    }


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="statemanager-flow-") as folder,
        socket.socket() as probe,
    ):
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "statemanager.settings",
            "VAR_DIR": folder,
            "SECRET_KEY": "only-for-benchmarks-and-long-enough-for-a-site",
            "ALLOWED_HOSTS": "testserver,127.0.0.1",
            "DJANGO_ALLOW_ASYNC_UNSAFE": "1",
        }
        os.environ.pop("DATABASE_URL", None)
        import django

        django.setup()
        graph, run = prepare()
        figures = on_the_server(graph)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [
            "-m",
            "granian",
            "--interface",
            "asgi",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--no-access-log",
            "statemanager.asgi:application",
        ]
        server = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until = monotonic() + 30
            while socket.socket().connect_ex(("127.0.0.1", port)) and monotonic() < until:
                sleep(0.1)
            figures |= in_chromium(f"http://127.0.0.1:{port}", graph, run)
        finally:
            server.terminate()
            server.wait(10)
    print(f"| {NODES:,} nodes, {len(graph.current.definition['edges']):,} edges | ms |\n|---|---|")
    for name, value in figures.items():
        print(f"| {name} | {value:,.1f} |")


if __name__ == "__main__":
    main()
