"""The benchmark on one database, which DATABASE_URL names, with a real supervised cluster.

`python -m tests.benchmarks.one_database` prints one JSON object; `python -m tests.benchmarks` runs
it on both databases and prints the table. With `--by-turns` it measures what it reads from stdin,
so that `python -m tests.benchmarks.compare` can let two revisions take turns.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from graphs.services import dataset_files, datasets  # noqa: E402
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
    """Ten no-op nodes, each of which passes on the value of the one before."""
    values = [1, *(f"${{{{ n{at - 1}.outputs.value }}}}" for at in range(1, CHAIN))]
    nodes = [
        {"id": f"n{at}", "kind": "noop", "data": {"inputs": {"value": value}}}
        for at, value in enumerate(values)
    ]
    return publish("chain", nodes, [(f"n{at}", f"n{at + 1}") for at in range(CHAIN - 1)])


def logging_chain() -> Graph:
    """Ten nodes as in `chain`, each of which writes a log line."""
    values = ["step", *(f"${{{{ n{at - 1}.outputs.value }}}}" for at in range(1, CHAIN))]
    nodes = [
        {"id": f"n{at}", "kind": "log", "data": {"inputs": {"message": value}}}
        for at, value in enumerate(values)
    ]
    return publish("logging-chain", nodes, [(f"n{at}", f"n{at + 1}") for at in range(CHAIN - 1)])


def fan(width: int) -> Graph:
    """A fan-out of `width` items and a join: 1 → width → 1."""
    nodes = [
        {"id": "start", "kind": "noop"},
        {"id": "out", "kind": "fan_out", "data": {"inputs": {"items": list(range(width))}}},
        {"id": "each", "kind": "noop", "data": {"inputs": {"value": "${{ out.outputs.item }}"}}},
        {"id": "all", "kind": "noop", "data": {"unites": {"identifier": "start"}}},
    ]
    return publish(f"fan-{width}", nodes, [("start", "out"), ("out", "each"), ("each", "all")])


@contextmanager
def cluster(workers: int) -> Iterator[int]:
    """Start a supervised cluster and run some graphs; gives the supervisor's process id."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "supervise", "--workers", str(workers)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: Cluster.objects.filter(workers=workers).exists(), 30)
        warm_up = chain()
        for _ in range(20):
            wait_for_end(start_run(warm_up))
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def until(condition: Callable[[], Any], seconds: float, pause: float = 0.002) -> None:
    """Wait for a condition. Raises TimeoutError after `seconds`."""
    deadline = perf_counter() + seconds
    while not condition():
        if perf_counter() > deadline:
            raise TimeoutError("the benchmark waited too long")
        sleep(pause)


def wait_for_end(run: Run, seconds: float = 300, pause: float = 0.002) -> None:
    until(lambda: Run.objects.filter(pk=run.pk, pending_count=0).exists(), seconds, pause)


def in_flight(graph: Graph, runs: int = 100) -> dict[str, float]:
    """Start the runs in one transaction and wait until all have ended.

    Gives the steps a second until the end of the last run, and what the database wrote per step.
    """
    with transaction.atomic():
        started = Run.objects.filter(pk__in=[start_run(graph).pk for _ in range(runs)])
    commits_before, wal_before = written()
    began = timezone.now()
    until(lambda: not started.filter(pending_count__gt=0).exists(), 300, 0.02)
    seconds = (started.aggregate(last=Max("finished_at"))["last"] - began).total_seconds()
    steps = runs * CHAIN
    commits, wal = written()
    return {
        "steps_per_s": steps / seconds,
        "commits_per_step": (commits - commits_before) / steps,
        "wal_bytes_per_step": (wal - wal_before) / steps,
    }


def bursts(graph: Graph) -> dict[str, float]:
    """The medians of several bursts of 100 runs: one burst ends in a fraction of a second."""
    return medians([in_flight(graph) for _ in range(BURSTS)])


WRITTEN = """
    SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
           pg_current_wal_insert_lsn() - '0/0'::pg_lsn
"""


def written() -> tuple[float, float]:
    """Write commits and WAL bytes so far; zeros on SQLite.

    Commits are counted by transaction ids, which only transactions that write have.
    """
    if connection.vendor != "postgresql":
        return 0.0, 0.0
    with connection.cursor() as cursor:
        cursor.execute(WRITTEN)
        commits, wal = cursor.fetchone()
    return float(commits), float(wal)


PENDING = "SELECT 1 FROM statemanager_runs_run WHERE id = %s AND pending_count > 0"


def alone(graph: Graph, runs: int) -> float:
    """Steps a second of one run after the other, from each start call until its end is seen."""
    began = perf_counter()
    for _ in range(runs):
        params = [start_run(graph).pk]
        until(lambda params=params: not sql.run(PENDING, params), 60)
    return runs * CHAIN / (perf_counter() - began)


def start_latency(graph: Graph, runs: int) -> dict[str, float]:
    """Milliseconds from a run's creation to the first claim of a state, in an idle system."""
    latencies = []
    for _ in range(runs):
        sleep(0.05)
        run = start_run(graph)
        wait_for_end(run)
        first = State.objects.filter(run=run).order_by("started_at").first()
        assert first is not None
        assert first.started_at is not None
        latencies.append((first.started_at - run.created_at).total_seconds() * 1000)
    latencies.sort()
    return {
        "p50_ms": statistics.median(latencies),
        "p95_ms": latencies[int(len(latencies) * 0.95)],
    }


def queries_per_step() -> float:
    """Statements that a worker in this process sends for each step, with 100 runs in flight."""
    graph = chain()
    worker = Executor(threads=False)
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
    """Rows a second of dataset.read → table.export, and the peak memory (MB) of a worker."""
    path = Path(os.environ["VAR_DIR"]) / "big.csv"
    with path.open("w") as file:
        file.write("id,name,amount,day\n")
        for at in range(rows):
            file.write(f"{at},customer {at % 9973},{at % 1000}.5,2026-01-{at % 28 + 1:02d}\n")
    namespace, _ = Namespace.objects.get_or_create(name="bench")
    with dataset_files.sources_at(path) as sources:
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
    """The highest resident memory (MB) that a process of the running cluster ever had (Linux)."""
    supervisor = next(iter(Cluster.objects.values_list("pid", flat=True)))
    peaks = [0.0]
    for process in Path("/proc").iterdir():
        try:
            session = int((process / "stat").read_text().rpartition(")")[2].split()[3])
            command = (process / "cmdline").read_bytes()
            if process.name.isdigit() and b"run_cluster" in command and session != supervisor:
                peaks.append(peak_memory(process))
        except (OSError, ValueError, StopIteration, IndexError):
            continue  # not a process, or one that has ended
    return max(peaks)


def peak_memory(process: Path) -> float:
    """The highest resident memory of a process in MB, read from its folder in /proc."""
    lines = (process / "status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def medians(samples: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def speed(raw: Any, graph: Graph) -> dict[str, Any]:
    """Each rate once, with one worker and with two, beside what the database allows."""
    with cluster(1):
        rates = {
            "L1": raw.one_by_one(500),
            "L2": raw.by_hundreds(10_000),
            "one": bursts(graph),
            "alone": alone(graph, 30),
            "fan": fan_rate(fan(1000)),
        }
    with cluster(2):
        return rates | {"two": bursts(graph)}


def prepare() -> Graph:
    """Create the tables and the chain."""
    call_command("migrate", verbosity=0)
    return chain()


def by_turns() -> None:
    """Answer each line of stdin with a line of JSON.

    A number starts a cluster with that many workers and stops the one before; "0" only stops it.
    The name of a figure measures it. The first line of the output names the database.
    """
    graph = prepare()
    figures: dict[str, Callable[[], float]] = {
        "in flight": lambda: in_flight(graph)["steps_per_s"],
        "alone": lambda: alone(graph, 10),
        "fan": lambda: fan_rate(fan(1000)),
    }
    print(json.dumps(connection.vendor), flush=True)
    with ExitStack() as running:
        for request in map(str.strip, sys.stdin):
            if request in figures:
                print(json.dumps(figures[request]()), flush=True)
                continue
            running.close()
            workers = int(request)
            if workers:
                running.enter_context(cluster(workers))
            print(json.dumps(workers), flush=True)


def measure() -> dict[str, Any]:
    """All figures of this database."""
    samples, latency = collect_samples()
    result: dict[str, Any] = {"database": connection.vendor, "latency": latency}
    for name in ("one", "two", "logged"):
        result[name] = medians(samples[name])
    for name in ("L1", "L2", "alone", "fan", "fan_10000"):
        result[name] = statistics.median(samples[name])
    result["ratios"] = ratios(samples)
    result["queries_per_step"] = queries_per_step()
    with cluster(1):
        result["export"] = export(100_000 if QUICK else 2_000_000)
    return result


def collect_samples() -> tuple[dict[str, list[Any]], dict[str, float]]:
    """The samples of each figure, one for each round, and the latency of a start."""
    plain = prepare()
    logging = logging_chain()
    raw: Any = (
        baselines.Postgres(os.environ["DATABASE_URL"])
        if connection.vendor == "postgresql"
        else baselines.Sqlite()
    )
    samples: dict[str, list[Any]] = defaultdict(list)
    latency: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, sample in speed(raw, plain).items():
            samples[name].append(sample)
        with cluster(1):
            samples["logged"].append(in_flight(logging))
            samples["fan_10000"].append(fan_rate(fan(10_000)))
            latency = latency or start_latency(plain, 40 if QUICK else 200)
    raw.close()
    return samples, latency


def ratios(samples: dict[str, list[Any]]) -> dict[str, float]:
    """The medians of the ratios of figures that were measured in the same round."""

    def median_ratio(numerators: list[float], denominators: list[float]) -> float:
        pairs = zip(numerators, denominators, strict=True)
        return statistics.median(numerator / denominator for numerator, denominator in pairs)

    one_worker = [sample["steps_per_s"] for sample in samples["one"]]
    two_workers = [sample["steps_per_s"] for sample in samples["two"]]
    return {
        "in flight / L2": median_ratio(one_worker, samples["L2"]),
        "alone / L1": median_ratio(samples["alone"], samples["L1"]),
        "2 workers / 1": median_ratio(two_workers, one_worker),
        "cost per state, 10,000 / 1,000": median_ratio(samples["fan"], samples["fan_10000"]),
    }


def fan_rate(graph: Graph) -> float:
    """States a second of one run."""
    run = start_run(graph)
    began = perf_counter()
    wait_for_end(run, pause=0.01)
    run.refresh_from_db()
    return run.success_count / (perf_counter() - began)


if __name__ == "__main__":
    if "--by-turns" in sys.argv:
        by_turns()
    else:
        print(json.dumps(measure()))
