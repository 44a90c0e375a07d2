"""One lane of the benchmark: the product on the database that DATABASE_URL names, through a real
supervised cluster.

`python -m tests.benchmarks.one_database` prints one JSON object; `python -m tests.benchmarks` runs
both lanes and makes the table. With `--by-turns` it measures what it is told to; so `python -m
tests.benchmarks.compare` lets two revisions take turns.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "statemanager.settings")
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.db.models import Max  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402
from django.utils import timezone  # noqa: E402

from graphs.models import Graph, Namespace  # noqa: E402
from graphs.services import datasets  # noqa: E402
from graphs.services.publish import publish_graph  # noqa: E402
from runs.core import sql  # noqa: E402
from runs.engine.executor import Executor  # noqa: E402
from runs.engine.start import start_run  # noqa: E402
from runs.models import Cluster, Run, State  # noqa: E402
from tests.benchmarks import baselines  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
CHAIN = 10
QUICK = "--quick" in sys.argv
ROUNDS = 2 if QUICK else 5
BURSTS = 3


def publish(name: str, nodes: list[dict[str, Any]], edges: list[tuple[str, str]]) -> Graph:
    namespace, _ = Namespace.objects.get_or_create(name="bench")
    return publish_graph(
        namespace,
        name,
        {"nodes": nodes, "edges": [{"from": start, "to": end} for start, end in edges]},
    )


def chain() -> Graph:
    """Ten no-op nodes, each handing on the value of the one before."""
    values = [1, *(f"${{{{ n{at - 1}.outputs.value }}}}" for at in range(1, CHAIN))]
    nodes = [
        {"id": f"n{at}", "kind": "noop", "data": {"inputs": {"value": value}}}
        for at, value in enumerate(values)
    ]
    return publish("chain", nodes, [(f"n{at}", f"n{at + 1}") for at in range(CHAIN - 1)])


def logging_chain() -> Graph:
    """As `chain`, and each node writes a log line."""
    values = ["step", *(f"${{{{ n{at - 1}.outputs.value }}}}" for at in range(1, CHAIN))]
    nodes = [
        {"id": f"n{at}", "kind": "log", "data": {"inputs": {"message": value}}}
        for at, value in enumerate(values)
    ]
    return publish("logging-chain", nodes, [(f"n{at}", f"n{at + 1}") for at in range(CHAIN - 1)])


def fan(width: int) -> Graph:
    """1 → width → 1."""
    nodes = [
        {"id": "start", "kind": "noop"},
        {"id": "out", "kind": "fan_out", "data": {"inputs": {"items": list(range(width))}}},
        {"id": "each", "kind": "noop", "data": {"inputs": {"value": "${{ out.outputs.item }}"}}},
        {"id": "all", "kind": "noop", "data": {"unites": {"identifier": "start"}}},
    ]
    return publish(f"fan-{width}", nodes, [("start", "out"), ("out", "each"), ("each", "all")])


@contextmanager
def cluster(workers: int) -> Iterator[int]:
    """A supervised cluster of so many workers, ready to work; gives the supervisor's process id."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "supervise", "--workers", str(workers)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: Cluster.objects.filter(workers=workers).exists(), 30)
        warm = chain()
        for _ in range(20):
            finished(start_run(warm))
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def until(condition: Callable[[], Any], seconds: float, pause: float = 0.002) -> None:
    deadline = perf_counter() + seconds
    while not condition():
        if perf_counter() > deadline:
            raise TimeoutError("the benchmark waited too long")
        sleep(pause)


def finished(run: Run, seconds: float = 300, pause: float = 0.002) -> None:
    until(lambda: Run.objects.filter(pk=run.pk, pending_count=0).exists(), seconds, pause)


def in_flight(graph: Graph, runs: int = 100) -> dict[str, float]:
    """Submit the runs at once and wait for all; steps a second until the end of the last, and what
    the database wrote.
    """
    with transaction.atomic():
        started = Run.objects.filter(pk__in=[start_run(graph).pk for _ in range(runs)])
    before = written()
    began = timezone.now()
    until(lambda: not started.filter(pending_count__gt=0).exists(), 300, 0.02)
    seconds = (started.aggregate(last=Max("finished_at"))["last"] - began).total_seconds()
    steps = runs * CHAIN
    spent = [(end - start) / steps for start, end in zip(before, written(), strict=True)]
    return {
        "steps_per_s": steps / seconds,
        "commits_per_step": spent[0],
        "wal_bytes_per_step": spent[1],
    }


def bursts(graph: Graph) -> dict[str, float]:
    """Medians of a few times 100 runs in flight, which are over in a fraction of a second."""
    return medians([in_flight(graph) for _ in range(BURSTS)])


def written() -> tuple[float, float]:
    """Write commits and WAL bytes so far (PostgreSQL). Commits are counted by transaction ids, so
    reads don't count.
    """
    if connection.vendor != "postgresql":
        return 0.0, 0.0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,"
            " pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
        )
        commits, wal = cursor.fetchone()
    return float(commits), float(wal)


def _ended(run: int) -> bool:
    pending = "SELECT 1 FROM statemanager_runs_run WHERE id = %s AND pending_count > 0"
    return not sql.run(pending, [run])


def alone(graph: Graph, runs: int) -> float:
    """One run after the other, from the start call until its end is seen; steps a second."""
    began = perf_counter()
    for _ in range(runs):
        until(partial(_ended, start_run(graph).pk), 60)
    return runs * CHAIN / (perf_counter() - began)


def start_latency(graph: Graph, runs: int) -> dict[str, float]:
    """Milliseconds from the return of the start call's transaction (the run's own clock) to the
    first state's claim, idle system.
    """
    found = []
    for _ in range(runs):
        sleep(0.05)
        run = start_run(graph)
        finished(run)
        first = State.objects.filter(run=run).order_by("started_at").first()
        assert first is not None
        assert first.started_at is not None
        found.append((first.started_at - run.created_at).total_seconds() * 1000)
    found.sort()
    return {"p50_ms": statistics.median(found), "p95_ms": found[int(len(found) * 0.95)]}


def queries_per_step() -> float:
    """Statements that a worker sends for each step with 100 runs in flight, counted in this
    process.
    """
    graph, worker = chain(), Executor(threads=False)
    for _ in range(3):
        start_run(graph)
        worker.drain()
    for _ in range(100):
        start_run(graph)
    with CaptureQueriesContext(connection) as queries:
        while worker.drain(budget=30):
            pass
    return len(queries) / (100 * CHAIN)


def export(rows: int) -> dict[str, float]:
    """Rows a second of dataset.read → table.export, and a worker's largest resident set (MB)."""
    path = Path(os.environ["VAR_DIR"]) / "big.csv"
    with path.open("w") as file:
        file.write("id,name,amount,day\n")
        for at in range(rows):
            file.write(f"{at},customer {at % 9973},{at % 1000}.5,2026-01-{at % 28 + 1:02d}\n")
    namespace, _ = Namespace.objects.get_or_create(name="bench")
    with datasets.sources_at(path) as sources:
        dataset = datasets.load(namespace, "big", sources)
    path.unlink()
    nodes = [
        {"id": "read", "kind": "dataset.read", "data": {"inputs": {"table": "big"}}},
        {
            "id": "export",
            "kind": "table.export",
            "data": {"inputs": {"table": "${{ read.outputs.table }}", "name": "big"}},
        },
    ]
    graph = publish("export", nodes, [("read", "export")])
    peak = 0.0
    run = start_run(graph, dataset=dataset)
    began = perf_counter()
    while Run.objects.filter(pk=run.pk, pending_count__gt=0).exists():
        peak = max(peak, largest_worker())
        sleep(0.1)
    seconds = perf_counter() - began
    run.refresh_from_db()
    assert run.status == "completed", run.error_message
    return {"rows_per_s": rows / seconds, "peak_rss_mb": peak}


def largest_worker() -> float:
    """The largest high-water mark of resident memory (MB) among the processes of the running
    clusters (Linux).
    """
    leader = next(iter(Cluster.objects.values_list("pid", flat=True)))
    found = [0.0]
    for entry in Path("/proc").iterdir():
        try:
            session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
            command = (entry / "cmdline").read_bytes()
            if entry.name.isdigit() and b"run_cluster" in command and session != leader:
                found.append(
                    int(
                        next(
                            line.split()[1]
                            for line in (entry / "status").read_text().splitlines()
                            if line.startswith("VmHWM")
                        )
                    )
                    / 1024
                )
        except (OSError, ValueError, StopIteration, IndexError):
            continue
    return max(found)


def medians(samples: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def speed(raw: Any, graph: Graph) -> dict[str, Any]:
    """The engine once, on one worker and on two, beside what the database allows."""
    with cluster(1):
        found = {
            "L1": raw.one_by_one(500),
            "L2": raw.by_hundreds(10_000),
            "one": bursts(graph),
            "alone": alone(graph, 30),
            "fan": fan_rate(fan(1000)),
        }
    with cluster(2):
        return found | {"two": bursts(graph)}


def prepared() -> Graph:
    """The tables are there, and the chain."""
    call_command("migrate", verbosity=0)
    return chain()


def by_turns() -> None:
    """For each word of stdin do what it says and print a line of JSON: "1" and "2" give so many
    workers, "0" none, a figure's name measures it.
    """
    graph = prepared()
    figures: dict[str, Callable[[], float]] = {
        "in flight": lambda: in_flight(graph)["steps_per_s"],
        "alone": lambda: alone(graph, 10),
        "fan": lambda: fan_rate(fan(1000)),
    }
    print(json.dumps(connection.vendor), flush=True)
    with ExitStack() as running:
        for word in map(str.strip, sys.stdin):
            if word in figures:
                print(json.dumps(figures[word]()), flush=True)
                continue
            running.close()
            if workers := int(word):
                running.enter_context(cluster(workers))
            print(json.dumps(workers), flush=True)


def measure() -> dict[str, Any]:
    plain, talking = prepared(), logging_chain()
    raw: Any = (
        baselines.Postgres(os.environ["DATABASE_URL"])
        if connection.vendor == "postgresql"
        else baselines.Sqlite()
    )
    result: dict[str, Any] = {"database": connection.vendor}
    samples: dict[str, list[Any]] = {
        name: [] for name in ("L1", "L2", "one", "two", "logged", "alone", "fan", "fan_10000")
    }
    for _ in range(ROUNDS):
        for name, sample in speed(raw, plain).items():
            samples[name].append(sample)
        with cluster(1):
            samples["logged"].append(in_flight(talking))
            samples["fan_10000"].append(fan_rate(fan(10_000)))
            result.setdefault("latency", start_latency(plain, 40 if QUICK else 200))
    raw.close()
    for name in ("one", "two", "logged"):
        result[name] = medians(samples[name])
    for name in ("L1", "L2", "alone", "fan", "fan_10000"):
        result[name] = statistics.median(samples[name])
    result["ratios"] = {
        "in flight / L2": statistics.median(
            product["steps_per_s"] / base
            for product, base in zip(samples["one"], samples["L2"], strict=True)
        ),
        "alone / L1": statistics.median(
            product / base for product, base in zip(samples["alone"], samples["L1"], strict=True)
        ),
        "2 workers / 1": statistics.median(
            two["steps_per_s"] / one["steps_per_s"]
            for two, one in zip(samples["two"], samples["one"], strict=True)
        ),
        "cost per state, 10,000 / 1,000": statistics.median(
            small / large for small, large in zip(samples["fan"], samples["fan_10000"], strict=True)
        ),
    }
    result["queries_per_step"] = queries_per_step()
    with cluster(1):
        result["export"] = export(100_000 if QUICK else 2_000_000)
    return result


def fan_rate(graph: Graph) -> float:
    run = start_run(graph)
    began = perf_counter()
    finished(run, pause=0.01)
    run.refresh_from_db()
    return run.success_count / (perf_counter() - began)


if __name__ == "__main__":
    by_turns() if "--by-turns" in sys.argv else print(json.dumps(measure()))
