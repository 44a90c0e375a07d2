"""`python -m tests.benchmarks.far_database`: a worker far away from its PostgreSQL server.

Prints how often the worker waits for the server (round trips) in chains of ten no-op nodes, and how
many steps a second remain when each way takes 50 ms. The way is a proxy on this machine.
"""

import os
import socket
import tempfile
import threading
from time import perf_counter, sleep
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.benchmarks.__main__ import environment
from tests.postgres import Server

if TYPE_CHECKING:  # importing them sets Django up, which needs the environment of the server
    from graphs.models import Graph
    from runs.engine.executor import Executor

WAY_SECONDS = 0.05


class Way:
    """A port that leads to the server. `delay` is the time that each way takes, in seconds."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay = 0.0
        self.round_trips = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            last = [client]  # the side that sent last
            for sides in ((client, server), (server, client)):
                threading.Thread(
                    target=self._carry, args=(*sides, client, last), daemon=True
                ).start()

    def _carry(
        self,
        source: socket.socket,
        target: socket.socket,
        client: socket.socket,
        last: list[socket.socket],
    ) -> None:
        while data := source.recv(1 << 20):
            if source is client and last[0] is not client:
                self.round_trips += 1
            last[0] = source
            sleep(self.delay)
            target.sendall(data)
        target.close()


def main() -> None:
    server = Server(quick=True)
    try:
        url = server.database("far")
        port = urlsplit(url).port
        assert port
        way = Way(port)
        with tempfile.TemporaryDirectory(prefix="statemanager-bench-") as folder:
            os.environ.update(environment(folder, url.replace(f":{port}/", f":{way.port}/")))
            measure(way)
    finally:
        server.close()


def measure(way: Way) -> None:
    from tests.benchmarks import one_database as bench

    bench.call_command("migrate", verbosity=0)
    graph = bench.chain()
    worker = bench.Executor(threads=False)
    bench.start_run(graph)
    worker.drain(budget=30)  # prepares the statements
    print("| runs in flight | steps | round trips | steps/s, 50 ms each way |\n|---|---|---|---|")
    for runs in (1, 10, 100):
        trips, steps, _ = _drained(way, worker, graph, runs, 0.0)
        _, _, seconds = _drained(way, worker, graph, runs, WAY_SECONDS)
        print(f"| {runs} | {steps:,} | {trips} | {steps / seconds:,.1f} |", flush=True)


def _drained(
    way: Way, worker: "Executor", graph: "Graph", runs: int, delay: float
) -> tuple[int, int, float]:
    """The round trips, the steps and the seconds that it takes to finish these runs."""
    from tests.benchmarks import one_database as bench

    for _ in range(runs):
        bench.start_run(graph)
    way.delay, way.round_trips = delay, 0
    began = perf_counter()
    steps = worker.drain(budget=120)
    seconds = perf_counter() - began
    way.delay = 0.0
    return way.round_trips, steps, seconds


if __name__ == "__main__":
    main()
