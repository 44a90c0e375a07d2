"""Fast work beside slow work: `python -m tests.benchmarks.slow_beside_fast [--sqlite]`.

One tenant queues computing nodes of ten seconds, more than there are workers. Another tenant then
starts runs of one no-op node, one after the other. It prints how long these take from their start
to their end, without and beside the slow ones, and how long a slow one takes.
"""

import os
import random
import statistics
import sys
import tempfile
from time import perf_counter, sleep

from tests.benchmarks.__main__ import environment
from tests.postgres import Server

WORKERS = 2
SLOW_RUNS = 4
SLOW_SECONDS = 10.0
FAST_RUNS = 30
LONGEST_PAUSE_SECONDS = 0.5


def measure() -> dict[str, float]:
    """The figures on the database that DATABASE_URL names, which is empty."""
    from tests.benchmarks import one_database  # sets Django up

    one_database.prepare()
    with one_database.cluster(WORKERS):
        alone = _milliseconds()
        slow = _start_slow_runs()
        one_database.until(_are_workers_busy, 30)
        beside = _milliseconds()
        for run in slow:
            one_database.wait_for_end(run, 120)
    durations = [_seconds_of(run) for run in slow]
    return {
        "a no-op without slow nodes, p50": statistics.median(alone),
        "a no-op beside slow nodes, p50": statistics.median(beside),
        "a no-op beside slow nodes, longest": max(beside),
        "a slow node, p50": 1000 * statistics.median(durations),
    }


def _start_slow_runs() -> list[object]:
    from graphs.models import Namespace
    from graphs.services.publish import publish_graph
    from runs.engine.start import start_run

    big, _ = Namespace.objects.get_or_create(name="big")
    node = {"id": "a", "kind": "test.work", "data": {"inputs": {"seconds": SLOW_SECONDS}}}
    graph = publish_graph(big, "slow", {"nodes": [node], "edges": []})
    return [start_run(graph) for _ in range(SLOW_RUNS)]


def _are_workers_busy() -> bool:
    from runs.models import State

    return State.objects.filter(node="test.work", status="QUEUED").count() == WORKERS


def _milliseconds() -> list[float]:
    """How long runs of one node take, one after the other."""
    from runs.engine.start import start_run
    from tests.benchmarks import one_database

    graph = one_database.publish("one", [{"id": "a", "kind": "noop"}], [])
    taken = []
    for _ in range(FAST_RUNS):
        sleep(random.uniform(0, LONGEST_PAUSE_SECONDS))
        began = perf_counter()
        one_database.wait_for_end(start_run(graph))
        taken.append(1000 * (perf_counter() - began))
    return taken


def _seconds_of(run: object) -> float:
    from runs.models import State

    state = State.objects.get(run=run)
    assert state.started_at
    assert state.finished_at
    return (state.finished_at - state.started_at).total_seconds()


def main() -> None:
    with tempfile.TemporaryDirectory() as files:
        server = None if "--sqlite" in sys.argv else Server(quick=False)
        try:
            os.environ.update(environment(files, server.url if server else None))
            os.environ["APPS"] = "tests"
            figures = measure()
        finally:
            if server:
                server.stop()
    for name, milliseconds in figures.items():
        print(f"{name:>36}: {milliseconds:8,.0f} ms")


if __name__ == "__main__":
    main()
