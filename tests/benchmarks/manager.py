"""The Run Manager on a large table, beside Django's stock changelist.

`python -m tests.benchmarks.manager [--quick] [--sqlite] [--json FILE]`

On PostgreSQL the table has 100,000 runs, then 1,000,000 runs with 10,000,000 states; on SQLite
(`--sqlite`) it has 100,000 runs with 1,000,000 states. Requests go through Django's test client, in
one process. Figures are medians in milliseconds, and each page is measured beside the stock one.
Then 10,000 runs with 400,000 states are deleted in bulk while pages are requested, and as many in
raw SQL.
"""

import json
import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

QUICK = "--quick" in sys.argv
SQLITE = "--sqlite" in sys.argv
SMALL, LARGE, STATES = (5_000, 20_000, 2) if QUICK else (100_000, 1_000_000, 10)
CALLS = 5 if QUICK else 15
DELETED, STATES_EACH = (500, 40) if QUICK else (10_000, 40)
API, PAGE, STOCK = "/admin/run-manager/runs", "/admin/run-manager/", "/stock/statemanager_runs/run/"

_SERIES = {
    "postgresql": "SELECT n FROM generate_series({first}, {last}) AS s(n)",
    "sqlite": (
        "WITH RECURSIVE s(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s WHERE n < {last}) "
        "SELECT n FROM s"
    ),
}
_TIME = {
    "postgresql": "now() - make_interval(secs => {last} - n)",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now', (n - {last}) || ' seconds')",
}
_KEY = {"postgresql": "gen_random_uuid()", "sqlite": "lower(hex(randomblob(16)))"}


def vendor() -> str:
    from django.db import connection

    return str(connection.vendor)


def execute(statement: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement)


def series(first: int, last: int) -> str:
    """A query for the numbers n from first to last."""
    return _SERIES[vendor()].format(first=first, last=last)


def fill(first: int, last: int, states: int, label: str = "") -> None:
    """Store runs with these numbers, each with so many states.

    1 % of the runs failed and one in a thousand is running. They belong to 50 users in 20
    workspaces.
    """
    fill_runs(first, last, states, label)
    if states:
        fill_states(first, last, states)


def fill_runs(first: int, last: int, states: int, label: str) -> None:
    from graphs.models import Graph
    from runs.models import Run

    graph = Graph.objects.get(name="bench")
    time = _TIME[vendor()].format(last=last)
    values = {
        "namespace_id": graph.namespace_id,
        "run_id": "'thread-' || n",
        "name": "'Order processing ' || n",
        "graph_id": graph.pk,
        "version_id": graph.current_id,
        "username": "'user' || (n % 50)",
        "workspace": "'workspace' || (n % 20)",
        "status": (
            "CASE WHEN n % 100 = 7 THEN 'failed' WHEN n % 1000 = 3 THEN 'running' "
            "ELSE 'completed' END"
        ),
        "created_at": time,
        "started_at": time,
        "updated_at": time,
        "finished_at": f"CASE WHEN n % 1000 = 3 AND n % 100 <> 7 THEN NULL ELSE {time} END",
        "progress": "100",
        "success_count": states,
        "log_count": 0,
        "labels": f"'{json.dumps({'batch': label} if label else {})}'",
    }
    execute(_insert(Run, values, series(first, last)))


def fill_states(first: int, last: int, states: int) -> None:
    from runs.models import State

    values = {
        "id": _KEY[vendor()],
        "run_id": "x.id",
        "identifier": "'n' || x.n",
        "node": "'noop'",
        "path": "''",
        "status": "'SUCCESS'",
        "created_at": "x.created_at",
        "started_at": "x.created_at",
        "finished_at": "x.created_at",
        "attempt": "1",
        "inputs": "'{}'",
        "outputs": "'{}'",
    }
    rows = f"""
        SELECT r.id, r.created_at, s.n
        FROM statemanager_runs_run r, ({series(1, states)}) s
        WHERE r.run_id IN (SELECT 'thread-' || n FROM ({series(first, last)}) q)
    """
    execute(_insert(State, values, rows))


def _insert(model: Any, values: dict[str, Any], rows: str) -> str:
    """An INSERT … SELECT from `rows`, called x; columns without a value get their default."""
    columns = {
        field.column: _default(field)
        for field in model._meta.concrete_fields
        if not getattr(field, "primary_key", False) or field.column in values
    }
    columns |= values
    names = ", ".join(columns)
    expressions = ", ".join(str(value) for value in columns.values())
    return f"INSERT INTO {model._meta.db_table} ({names}) SELECT {expressions} FROM ({rows}) x"


def _default(field: Any) -> str:
    """The default of a column as SQL."""
    value = field.get_default()
    if value is None or field.null:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return f"'{json.dumps(value)}'"
    return str(value) if isinstance(value, int | float) else f"'{value}'"


def analyze() -> None:
    """Refresh the planner's statistics."""
    execute("ANALYZE" if vendor() == "sqlite" else "VACUUM ANALYZE statemanager_runs_run")


def median_ms(call: Callable[[], Any], calls: int = CALLS) -> float:
    """The median of some calls after a first one that is not counted."""
    call()
    times = []
    for _ in range(calls):
        began = perf_counter()
        call()
        times.append((perf_counter() - began) * 1000)
    return statistics.median(times)


def request_ms(client: Any, path: str, calls: int = CALLS) -> float:
    """The median time of requests of a page."""

    def call() -> None:
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.status_code)
        _ = answer.content

    return median_ms(call, calls)


# name: (the API's query, the page's, the stock changelist's)
CASES = {
    "page 1": ("", "", ""),
    "status, 1 % match": ("status=failed", "status=failed", "status__exact=failed"),
    "user, 2 % match": ("username=user7", "username=user7", "username=user7"),
    "workspace, 5 % match": (
        "workspace=workspace3",
        "workspace=workspace3",
        "workspace=workspace3",
    ),
    "page 1000": ("page=1000", "page=1000", "p=1000"),
    "substring, 1 % match": ("search=ssing%2077", "search=ssing%2077", "q=ssing+77"),
    "substring, some match": ("search=sing%207777", "search=sing%207777", "q=sing+7777"),
}


def measure_cases(runs: int) -> dict[str, dict[str, float]]:
    """For each case the times of the JSON rows, the HTML page and the stock page."""
    from django.contrib.auth.models import User
    from django.test import Client

    from graphs.auth import api_keys

    staff, api = Client(), Client(headers={"X-API-Key": api_keys.create_key((), "admin")[1]})
    staff.force_login(User.objects.get(username="bench"))
    times = {}
    for name, (rows, page, stock) in CASES.items():
        if name == "page 1000" and runs < 50_000:  # there are fewer pages
            rows, page, stock = "page=50", "page=50", "p=50"
        times[name] = {
            "json": request_ms(api, f"{API}?count=none&{rows}"),
            "html": request_ms(staff, f"{PAGE}?{page}"),
            "stock": request_ms(staff, f"{STOCK}?{stock}", 3 if runs > SMALL else CALLS),
        }
    return times


def measure_count() -> dict[str, float]:
    """An exact total as the API counts it, beside the bare statement."""
    from django.db import connection

    from graphs.web import ttl_cache
    from runs.models import Run
    from runs.queries import lists

    def total() -> None:
        ttl_cache.forget()
        lists.total(Run.objects.filter(archived_at=None), "bench")

    def bare() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM statemanager_runs_run")
            cursor.fetchone()

    return {"total": median_ms(total, 5), "count(*)": median_ms(bare, 5)}


def measure_deletion() -> dict[str, float]:
    """Deleting many runs as an operation while pages are requested, and as many in raw SQL."""
    first = LARGE * 10
    fill(first, first + DELETED - 1, STATES_EACH, "doomed")
    fill(first + DELETED, first + 2 * DELETED - 1, STATES_EACH, "raw")
    analyze()
    pages: list[float] = []
    memory = [resident_mb()]
    with requesting_pages(pages, memory):
        seconds = delete_as_operation()
    raw_seconds = delete_in_sql(first + DELETED, first + 2 * DELETED - 1)
    rows = DELETED * (STATES_EACH + 1)
    return {
        "rows a second": rows / seconds,
        "raw SQL, rows a second": rows / raw_seconds,
        "memory before (MB)": memory[0],
        "memory meanwhile, most (MB)": max(memory),
        "a page meanwhile, p50 (ms)": statistics.median(pages),
        "a page meanwhile, most (ms)": max(pages),
    }


@contextmanager
def requesting_pages(times: list[float], memory: list[float]) -> Iterator[None]:
    """Request the run list in another thread; adds the times (ms) and the resident memory (MB)."""
    from django.contrib.auth.models import User
    from django.db import connections
    from django.test import Client

    stop = threading.Event()

    def request() -> None:
        client = Client()
        client.force_login(User.objects.get(username="bench"))
        while not stop.is_set():
            began = perf_counter()
            assert client.get(PAGE).status_code == 200
            times.append((perf_counter() - began) * 1000)
            memory.append(resident_mb())
            sleep(0.1)
        connections.close_all()

    thread = threading.Thread(target=request)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def delete_as_operation() -> float:
    """Delete the runs with the label batch=doomed; gives the seconds that it took."""
    from graphs.auth.callers import caller_of_command
    from runs.actions import bulk, bulk_runner

    began = perf_counter()
    operation = bulk.ask(
        "delete", {"label": ["batch=doomed"]}, caller_of_command(), {"active": "delete"}
    )
    while bulk_runner.run_waiting(10):
        pass
    seconds = perf_counter() - began
    operation.refresh_from_db()
    assert operation.done == DELETED, (operation.done, operation.total)
    return seconds


def delete_in_sql(first: int, last: int) -> float:
    """Delete the runs with these numbers; gives the seconds that it took."""
    began = perf_counter()
    execute(f"""
        CREATE TEMPORARY TABLE doomed AS
        SELECT id FROM statemanager_runs_run
        WHERE run_id IN (SELECT 'thread-' || n FROM ({series(first, last)}) q)
    """)
    for table in ("statemanager_runs_state", "statemanager_runs_logline"):
        execute(f"DELETE FROM {table} WHERE run_id IN (SELECT id FROM doomed)")
    execute("DELETE FROM statemanager_runs_run WHERE id IN (SELECT id FROM doomed)")
    return perf_counter() - began


def resident_mb() -> float:
    """The resident memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def idle_poll() -> float:
    """The time (ms) of the request that an open page repeats while nothing changes."""
    import re

    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.get(username="bench"))
    page = client.get(f"{PAGE}?status=running").content.decode()
    poll = re.search(r'id="rm-live" hx-get="([^"]+)"', page)[1].replace("&amp;", "&")  # type: ignore[index]

    def call() -> None:
        assert client.get(poll, headers={"HX-Request": "true"}).status_code == 304

    return median_ms(call)


def picture() -> list[float]:
    """The times (ms) of the layout and the drawing of a graph of 1,000 nodes and 1,416 edges."""
    from graphs.definition import plan
    from graphs.rendering import layout, svg
    from tests.benchmarks import flow

    definition = flow.definition()
    order = [node["id"] for node in definition["nodes"]]
    edges = plan.edges_of(definition)
    looks = {node: svg.Look(node, "noop") for node in order}
    placed = layout.place(order, edges)
    return [
        median_ms(lambda: layout.place(order, edges)),
        median_ms(lambda: svg.inline(placed, looks, "bench", "/")),
    ]


def prepare() -> None:
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from graphs.models import Namespace
    from graphs.nodes.base import registry
    from graphs.services import publish

    call_command("migrate", verbosity=0)
    registry.store()
    namespace = Namespace.objects.create(name="bench")
    publish.publish_graph(
        namespace,
        "bench",
        {"nodes": [{"id": f"n{at}", "kind": "noop"} for at in range(1, 11)], "edges": []},
    )
    User.objects.create_superuser("bench")
    if vendor() == "postgresql":
        call_command("create_search_indexes", verbosity=0)


def measure() -> dict[str, Any]:
    """All figures of this process's database."""
    prepare()
    fill(1, SMALL, STATES)
    analyze()
    figures: dict[str, Any] = {
        "database": vendor(),
        "runs": [SMALL],
        "small": measure_cases(SMALL),
        "count small": measure_count(),
    }
    if not SQLITE:
        fill(SMALL + 1, LARGE, STATES)
        analyze()
        figures["runs"] = [SMALL, LARGE]
        figures["large"] = measure_cases(LARGE)
        figures["count large"] = measure_count()
    figures["idle poll"] = idle_poll()
    figures["picture"] = picture()
    figures["delete"] = measure_deletion()
    return figures


def show(figures: dict[str, Any]) -> None:
    """Print the table of docs/performance.md and the figures below it."""
    sizes = [
        (name, f"{size:,}") for name, size in zip(("small", "large"), figures["runs"], strict=False)
    ]
    titles = [f"JSON, {size} | page, {size} | stock, {size} | stock / page" for _, size in sizes]
    print(f"\n{figures['database']}\n\n| p50, ms | {' | '.join(titles)} |")
    print("|---" * (1 + 4 * len(sizes)) + "|")
    for case in CASES:
        cells = [show_times(figures[name][case]) for name, _ in sizes]
        print(f"| {case} | {' | '.join(cells)} |")
    for name, size in sizes:
        count = figures[f"count {name}"]
        total, bare = count["total"], count["count(*)"]
        print(f"\nexact total of {size}: {total:.1f} ms, bare count(*) {bare:.1f} ms")
    layout, drawing = figures["picture"]
    print(f"picture of 1,000 nodes: layout {layout:.1f} ms, drawing {drawing:.1f} ms")
    print(f"idle poll of an open page: {figures['idle poll']:.1f} ms")
    deletion = ", ".join(f"{name} {value:,.0f}" for name, value in figures["delete"].items())
    print(f"bulk delete of {DELETED:,} runs: {deletion}")


def show_times(times: dict[str, float]) -> str:
    """The cells of one case and one size."""
    json_ms, html_ms, stock_ms = times["json"], times["html"], times["stock"]
    return f"{json_ms:.1f} | {html_ms:.1f} | {stock_ms:.1f} | {stock_ms / html_ms:.1f} ×"


def environment(folder: str, url: str | None) -> dict[str, str]:
    """The environment for the database at `url`, or for SQLite in `folder`."""
    inherited = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    variables = {
        "VAR_DIR": folder,
        "LOG_LEVEL": "ERROR",
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.manager_settings",
        "SECRET_KEY": "only-for-benchmarks-and-long-enough-for-a-site",
        "HTTPS": "0",
        "SECRETS_KEYS": "b25seS1mb3ItdGVzdHMtLi4uLi4uLi4uLi4uLi4uLi4=",
        "ALLOWED_HOSTS": "testserver,localhost",
    }
    if url:
        variables["DATABASE_URL"] = url
    return inherited | variables


def main() -> None:
    if "--measure" in sys.argv:
        import django

        django.setup()
        print(json.dumps(measure()))
        return
    figures = measure_in_child()
    show(figures)
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(figures, indent=1))


def measure_in_child() -> dict[str, Any]:
    """The figures, measured in a process that was started with the right environment."""
    import subprocess

    from tests.postgres import Server

    server = None
    if not SQLITE:
        server = Server(quick=False, settings=("max_wal_size=8GB", "shared_buffers=1GB"))
    command = [sys.executable, "-m", "tests.benchmarks.manager", "--measure", *sys.argv[1:]]
    try:
        with tempfile.TemporaryDirectory(prefix="statemanager-bench-") as folder:
            variables = environment(folder, server.url if server else None)
            process = subprocess.run(
                command, env=variables, stdout=subprocess.PIPE, text=True, check=True
            )
    finally:
        if server:
            server.close()
    return dict(json.loads(process.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
