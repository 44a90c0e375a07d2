"""What a concurrency limit costs: `python -m tests.benchmarks.limits [--sqlite]`.

Runs of a chain of ten no-op nodes are started one by one and executed in one process, without a
limit and with limits of 1,000 (never reached), 10 and 1, in turn. The figures are medians of five
rounds, in nodes a second, starts included.
"""

import os
import statistics
import sys
import tempfile
from time import perf_counter
from typing import Any

from tests.benchmarks.__main__ import environment
from tests.postgres import Server

RUNS = 100
ROUNDS = 5
LIMITS = (None, 1000, 10, 1)


def measure() -> dict[int | None, float]:
    """Nodes a second by limit, on the database that DATABASE_URL names, which is empty."""
    from tests.benchmarks import one_database  # sets Django up

    one_database.prepare()
    graphs = {limit: _publish(limit) for limit in LIMITS}
    rates: dict[int | None, list[float]] = {limit: [] for limit in LIMITS}
    for number in range(ROUNDS + 1):
        for limit in LIMITS:
            rate = _rate(graphs[limit])
            if number:  # the first round warms up
                rates[limit].append(rate)
    return {limit: statistics.median(each) for limit, each in rates.items()}


def _publish(limit: int | None) -> Any:
    from graphs.models import Graph, Namespace
    from graphs.services.publish import publish_graph

    chain = Graph.objects.with_version().get(name="chain")
    assert chain.current
    settings = {"concurrency": {"limit": limit}} if limit else {}
    definition: Any = {**chain.current.definition, "settings": settings}
    return publish_graph(Namespace.objects.get(name="bench"), f"limit-{limit}", definition)


def _rate(graph: Any) -> float:
    from runs.engine.executor import Executor
    from runs.engine.start import start_run
    from runs.models import Run
    from tests.benchmarks import one_database

    executor = Executor(threads=False)
    began = perf_counter()
    runs = [start_run(graph).pk for _ in range(RUNS)]
    while Run.objects.filter(pk__in=runs, pending_count__gt=0).exists():
        executor.drain()
    taken = perf_counter() - began
    assert Run.objects.filter(pk__in=runs, status="completed").count() == RUNS
    return RUNS * one_database.CHAIN / taken


def main() -> None:
    with tempfile.TemporaryDirectory() as files:
        server = None if "--sqlite" in sys.argv else Server(quick=False)
        try:
            os.environ.update(environment(files, server.url if server else None))
            rates = measure()
        finally:
            if server:
                server.stop()
    for limit, rate in rates.items():
        name = f"limit of {limit:,}" if limit else "no limit"
        print(f"{name:>15}: {rate:6,.0f} nodes/s, {rate / rates[None]:.2f} of that without a limit")


if __name__ == "__main__":
    main()
