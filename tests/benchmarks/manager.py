"""`python -m tests.benchmarks.manager [--quick] [--sqlite] [--json FILE]`: the Run Manager on a
large table, beside Django's stock changelist.

On PostgreSQL: 100,000 runs, then 1,000,000 runs with 10,000,000 states; on SQLite (`--sqlite`)
100,000 runs with 1,000,000 states. Everything runs in this process, through Django's test client;
figures are medians in milliseconds, each page measured beside the stock one. Afterwards 10,000 runs
with 400,000 states are deleted in bulk, while pages are asked for, beside the same in raw SQL.
"""

import json
import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

QUICK = "--quick" in sys.argv
SQLITE = "--sqlite" in sys.argv
SMALL, LARGE, STATES = (5_000, 20_000, 2) if QUICK else (100_000, 1_000_000, 10)
CALLS = 5 if QUICK else 15
DELETED, STATES_EACH = (500, 40) if QUICK else (10_000, 40)
API, PAGE, STOCK = "/admin/run-manager/runs", "/admin/run-manager/", "/stock/runs/run/"

_SERIES = {
    "postgresql": "SELECT n FROM generate_series({first}, {last}) AS s(n)",
    "sqlite": (
        "WITH RECURSIVE s(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s WHERE n < {last})"
        " SELECT n FROM s"
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


def fill(first: int, last: int, states: int, label: str = "") -> None:
    """Runs with these numbers, 1 % of them failed, one in a thousand running, of 50 users in 20
    workspaces; and their states.
    """
    from graphs.models import Graph
    from runs.models import Run, State

    graph = Graph.objects.get(name="bench")
    status = (
        "CASE WHEN n % 100 = 7 THEN 'failed' WHEN n % 1000 = 3 THEN 'running' ELSE 'completed' END"
    )
    at = _TIME[vendor()].format(last=last)
    values = {
        "namespace_id": graph.namespace_id,
        "run_id": "'thread-' || n",
        "name": "'Order processing ' || n",
        "graph_id": graph.pk,
        "version_id": graph.current_id,
        "username": "'user' || (n % 50)",
        "workspace": "'workspace' || (n % 20)",
        "status": status,
        "created_at": at,
        "started_at": at,
        "updated_at": at,
        "finished_at": f"CASE WHEN n % 1000 = 3 AND n % 100 <> 7 THEN NULL ELSE {at} END",
        "progress": "100",
        "success_count": states,
        "log_count": 0,
        "labels": f"'{json.dumps({'batch': label} if label else {})}'",
    }
    execute(_insert(Run, values, _SERIES[vendor()].format(first=first, last=last)))
    if states:
        runs = (
            "SELECT r.id, r.created_at, s.n FROM statemanager_runs_run r,"
            f" ({_SERIES[vendor()].format(first=1, last=states)}) s WHERE r.run_id IN (SELECT"
            " 'thread-' || n"
        )
        runs += f" FROM ({_SERIES[vendor()].format(first=first, last=last)}) q)"
        execute(
            _insert(
                State,
                {
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
                },
                runs,
                "x",
            )
        )


def _insert(model: Any, values: dict[str, Any], rows: str, alias: str = "x") -> str:
    """An INSERT … SELECT with the column's default where no value is given."""
    columns = {
        field.column: _default(field)
        for field in model._meta.concrete_fields
        if not getattr(field, "primary_key", False) or field.column in values
    }
    columns |= values
    return (
        f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) SELECT"
        f" {', '.join(str(value) for value in columns.values())} FROM ({rows}) {alias}"
    )


def _default(field: Any) -> str:
    value = field.get_default()
    if value is None or field.null:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return f"'{json.dumps(value)}'"
    return str(value) if isinstance(value, int | float) else f"'{value}'"


def analyzed() -> None:
    execute("ANALYZE" if vendor() == "sqlite" else "VACUUM ANALYZE statemanager_runs_run")


def median_ms(call: Callable[[], Any], calls: int = CALLS) -> float:
    """The median of some calls, the first of which is not counted."""
    call()
    found = []
    for _ in range(calls):
        began = perf_counter()
        call()
        found.append((perf_counter() - began) * 1000)
    return statistics.median(found)


def asked(client: Any, path: str, **headers: str) -> Callable[[], Any]:
    def call() -> None:
        answer = client.get(path, headers=headers)
        assert answer.status_code == 200, (path, answer.status_code)
        _ = answer.content

    return call


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


def measured(runs: int) -> dict[str, dict[str, float]]:
    """Each case: JSON rows, HTML page and stock page in ms."""
    from django.contrib.auth.models import User
    from django.test import Client

    from graphs.auth import api_keys

    staff, api = Client(), Client(headers={"X-API-Key": api_keys.create_key((), "admin")[1]})
    staff.force_login(User.objects.get(username="bench"))
    found = {}
    for name, (rows, page, stock) in CASES.items():
        if name == "page 1000" and runs < 50_000:
            rows = page = stock = rows.replace("1000", "50").replace("p=1000", "p=50")
            stock = "p=50"
        found[name] = {
            "json": median_ms(asked(api, f"{API}?count=none&{rows}")),
            "html": median_ms(asked(staff, f"{PAGE}?{page}")),
            "stock": median_ms(asked(staff, f"{STOCK}?{stock}"), 3 if runs > SMALL else CALLS),
        }
    return found


def counted() -> dict[str, float]:
    """An exact total as the API makes it, beside the bare statement."""
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


def deleted() -> dict[str, float]:
    """Deleting many runs as an operation while pages are asked for, and as many in raw SQL."""
    from django.contrib.auth.models import User
    from django.db import connection, connections
    from django.test import Client

    from graphs.auth.callers import caller_of_command
    from runs.actions import bulk, bulk_runner

    first = LARGE * 10
    fill(first, first + DELETED - 1, STATES_EACH, "doomed")
    fill(first + DELETED, first + 2 * DELETED - 1, STATES_EACH, "raw")
    analyzed()
    pages: list[float] = []
    memory = [resident_mb()]
    over = threading.Event()

    def look() -> None:
        client = Client()
        client.force_login(User.objects.get(username="bench"))
        while not over.is_set():
            began = perf_counter()
            assert client.get(PAGE).status_code == 200
            pages.append((perf_counter() - began) * 1000)
            memory.append(resident_mb())
            sleep(0.1)
        connections.close_all()

    thread = threading.Thread(target=look)
    thread.start()
    began = perf_counter()
    operation = bulk.ask(
        "delete", {"label": ["batch=doomed"]}, caller_of_command(), {"active": "delete"}
    )
    while bulk_runner.run_waiting(10):
        pass
    seconds = perf_counter() - began
    over.set()
    thread.join()
    operation.refresh_from_db()
    assert operation.done == DELETED, (operation.done, operation.total)
    began = perf_counter()
    mine = (
        "SELECT id FROM statemanager_runs_run WHERE run_id IN (SELECT 'thread-' || n FROM ({}) q)"
    )
    mine = mine.format(
        _SERIES[connection.vendor].format(first=first + DELETED, last=first + 2 * DELETED - 1)
    )
    execute(f"CREATE TEMPORARY TABLE doomed AS {mine}")
    for table in ("statemanager_runs_state", "statemanager_runs_logline"):
        execute(f"DELETE FROM {table} WHERE run_id IN (SELECT id FROM doomed)")
    execute("DELETE FROM statemanager_runs_run WHERE id IN (SELECT id FROM doomed)")
    raw = perf_counter() - began
    rows = DELETED * (STATES_EACH + 1)
    return {
        "rows a second": rows / seconds,
        "raw SQL, rows a second": rows / raw,
        "memory before (MB)": memory[0],
        "memory meanwhile, most (MB)": max(memory),
        "a page meanwhile, p50 (ms)": statistics.median(pages),
        "a page meanwhile, most (ms)": max(pages),
    }


def resident_mb() -> float:
    """What this process holds in memory now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def idle_poll() -> float:
    """What a page that is open asks while nothing changes (ms)."""
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
    """Laying out a graph of 1,000 nodes and 1,416 edges, and drawing it (ms)."""
    import random

    from graphs.rendering import layout, svg

    chance = random.Random(7)
    order = [f"n{at}" for at in range(1000)]
    edges = sorted(
        {
            (order[chance.randrange(max(0, at - 60), at)], order[at])
            for at in range(1, 1000)
            for _ in range(1 + (chance.random() < 0.43))
        }
    )
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


def lane() -> dict[str, Any]:
    prepare()
    fill(1, SMALL, STATES)
    analyzed()
    found: dict[str, Any] = {
        "database": vendor(),
        "runs": [SMALL],
        "small": measured(SMALL),
        "count small": counted(),
    }
    if not SQLITE:
        fill(SMALL + 1, LARGE, STATES)
        analyzed()
        found |= {"runs": [SMALL, LARGE], "large": measured(LARGE), "count large": counted()}
    return found | {"idle poll": idle_poll(), "picture": picture(), "delete": deleted()}


def show(found: dict[str, Any]) -> None:
    sizes = [
        (name, f"{size:,}") for name, size in zip(("small", "large"), found["runs"], strict=False)
    ]
    print(
        f"\n{found['database']}\n\n| p50, ms | "
        + " | ".join(
            f"JSON, {size} | page, {size} | stock, {size} | stock / page" for _, size in sizes
        )
        + " |"
    )
    print("|---" * (1 + 4 * len(sizes)) + "|")
    for case in CASES:
        cells = []
        for name, _ in sizes:
            row = found[name][case]
            cells.append(
                f"{row['json']:.1f} | {row['html']:.1f} | {row['stock']:.1f} |"
                f" {row['stock'] / row['html']:.1f} ×"
            )
        print(f"| {case} | {' | '.join(cells)} |")
    for name, size in sizes:
        print(
            f"\nexact total of {size}: {found[f'count {name}']['total']:.1f} ms, bare count(*)"
            f" {found[f'count {name}']['count(*)']:.1f} ms"
        )
    print("picture of 1,000 nodes: layout {:.1f} ms, drawing {:.1f} ms".format(*found["picture"]))
    print(f"idle poll of an open page: {found['idle poll']:.1f} ms")
    print(
        f"bulk delete of {DELETED:,} runs: "
        + ", ".join(f"{name} {value:,.0f}" for name, value in found["delete"].items())
    )


def main() -> None:
    if "--lane" in sys.argv:
        import django

        django.setup()
        print(json.dumps(lane()))
        return
    import subprocess

    from tests.postgres import Server

    with tempfile.TemporaryDirectory(prefix="statemanager-bench-") as folder:
        environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"} | {
            "VAR_DIR": folder,
            "LOG_LEVEL": "ERROR",
            "DJANGO_SETTINGS_MODULE": "tests.benchmarks.manager_settings",
            "SECRET_KEY": "benchmark",
            "HTTPS": "0",
            "SECRETS_KEYS": "b25seS1mb3ItdGVzdHMtLi4uLi4uLi4uLi4uLi4uLi4=",
            "ALLOWED_HOSTS": "testserver,localhost",
        }
        server = (
            None
            if SQLITE
            else Server(quick=False, settings=("max_wal_size=8GB", "shared_buffers=1GB"))
        )
        try:
            command = [sys.executable, "-m", "tests.benchmarks.manager", "--lane", *sys.argv[1:]]
            lane_environment = environment | ({"DATABASE_URL": server.url} if server else {})
            done = subprocess.run(
                command, env=lane_environment, stdout=subprocess.PIPE, text=True, check=True
            )
        finally:
            if server:
                server.close()
    found = json.loads(done.stdout.splitlines()[-1])
    show(found)
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
