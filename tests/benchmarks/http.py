"""External workers and lists over HTTP on PostgreSQL, beside a bare view.

`python -m tests.benchmarks.http [--quick] [--json FILE]`

The server is granian with two processes, as `up` starts it. The clients run in this process, on the
same machine. Each ratio is the median of rounds that measured both sides within seconds of each
other.
"""

import json
import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.postgres import Server

QUICK = "--quick" in sys.argv
ROUNDS, RUNS_STORED = (2, 5_000) if QUICK else (5, 100_000)
CHAIN = 10
NS = "/v0/namespace/bench"


def timed(calls: int, call: Callable[[], Any]) -> float:
    """Calls a second."""
    began = perf_counter()
    for _ in range(calls):
        call()
    return calls / (perf_counter() - began)


def at_once(clients: int, work: Callable[[Any], int], address: str, key: str) -> float:
    """What all clients together do in a second, each with a connection of its own.

    `work` is called once for each client and gives the number of things that it did.
    """
    from tests.benchmarks.client import Connection

    connections = [Connection(address, key) for _ in range(clients)]
    counts = [0] * clients

    def run_client(at: int) -> None:
        counts[at] = work(connections[at])

    threads = [threading.Thread(target=run_client, args=(at,)) for at in range(clients)]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = perf_counter() - began
    for connection in connections:
        connection.close()
    return sum(counts) / seconds


def put_chain(connection: Any) -> None:
    """Register the node "Step" and put a graph of ten of them."""
    schema = {"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]}
    node = {"name": "Step", "inputs_schema": schema, "outputs_schema": schema, "secrets": []}
    connection.json("PUT", f"{NS}/nodes/", {"runtime_name": "bench", "nodes": [node]})
    names = [f"n{at}" for at in range(CHAIN)]
    inputs = [{"value": "1"}, *({"value": f"${{{{ {name}.outputs.value }}}}"} for name in names)]
    nodes = [
        {
            "node_name": "Step",
            "namespace": "bench",
            "identifier": name,
            "inputs": inputs[at],
            "next_nodes": names[at + 1 : at + 2],
        }
        for at, name in enumerate(names)
    ]
    connection.json("PUT", f"{NS}/graph/chain", {"secrets": {}, "nodes": nodes})


def trigger(connection: Any, runs: int) -> None:
    for _ in range(runs):
        connection.json("POST", f"{NS}/graph/chain/trigger", {})


def step_by_step(connection: Any) -> int:
    """Claim a state and report it until none is ready: two requests a step."""
    claim = {"nodes": ["Step"], "batch_size": 1}
    steps = 0
    while states := connection.json("POST", f"{NS}/states/enqueue", claim)["states"]:
        [state] = states
        report = {"outputs": [{"value": "1"}], "attempt": state["attempt"]}
        connection.json("POST", f"{NS}/state/{state['state_id']}/executed", report)
        steps += 1
    return steps


def complete_and_claim(size: int) -> Callable[[Any], int]:
    """A client that reports a batch and claims the next one in the same request."""

    def work(connection: Any) -> int:
        steps = 0
        reports: list[dict[str, Any]] = []
        while True:
            body = {"reports": reports, "nodes": ["Step"], "batch_size": size}
            states = connection.json("POST", f"{NS}/states/report", body)["states"]
            if not states:
                return steps
            steps += len(states)
            reports = [
                {
                    "state_id": state["state_id"],
                    "attempt": state["attempt"],
                    "outputs": [{"value": "1"}],
                }
                for state in states
            ]

    return work


def workers(address: str, key: str) -> dict[str, float]:
    """The rates of external workers, each beside a bare view."""
    from tests.benchmarks.client import Connection

    connection = Connection(address, key)
    put_chain(connection)
    rates: dict[str, float] = {
        "bare view, N=1 (requests/s)": timed(300, lambda: connection.call("GET", "/bare"))
    }
    trigger(connection, 30)
    rates["claim, then report, N=1 (steps/s)"] = at_once(1, step_by_step, address, key)
    trigger(connection, 30)
    rates["complete and claim, N=1 (steps/s)"] = at_once(1, complete_and_claim(1), address, key)
    trigger(connection, 150)
    rates["claim, then report, N=50 (steps/s)"] = at_once(50, step_by_step, address, key)
    trigger(connection, 1000)
    rates["complete and claim, N=50, batches of 20 (steps/s)"] = at_once(
        50, complete_and_claim(20), address, key
    )
    rates["idle polls, N=50 (requests/s)"] = at_once(50, poll_idle, address, key)
    connection.close()
    return rates


def poll_idle(connection: Any, polls: int = 40) -> int:
    """Claim while nothing is ready; gives the number of answers."""
    claim = {"nodes": ["Step"], "batch_size": 16}
    return sum(1 for _ in range(polls) if connection.json("POST", f"{NS}/states/enqueue", claim))


def fill(runs: int) -> None:
    """Store ended runs, so that the lists have many pages."""
    from datetime import timedelta

    from django.utils import timezone

    from graphs.models import Graph
    from runs.models import Run

    graph = Graph.objects.select_related("namespace").get(name="chain")
    now = timezone.now() - timedelta(days=1)
    for first in range(0, runs, 5000):
        Run.objects.bulk_create(
            Run(
                namespace=graph.namespace,
                graph=graph,
                version_id=graph.current_id,
                run_id=f"stored-{at}",
                status="completed",
                success_count=CHAIN,
                created_at=now - timedelta(seconds=at),
                started_at=now,
                finished_at=now,
                progress=100,
            )
            for at in range(first, min(first + 5000, runs))
        )


def lists(address: str, key: str) -> dict[str, float]:
    """The rates of lists with eight clients, beside a bare view."""

    def rate(path: str, times: int = 60) -> float:
        def work(connection: Any) -> int:
            return sum(1 for _ in range(times) if connection.call("GET", path)[0] == 200)

        return at_once(8, work, address, key)

    paths = {
        "bare view, N=8 (requests/s)": "/bare",
        "runs list, page 1 (requests/s)": f"{NS}/runs/1/20",
        "runs list, page 1,000 (requests/s)": f"{NS}/runs/{1000 if not QUICK else 100}/20",
        "runs list, 1 % of them (requests/s)": f"{NS}/runs/1/20?run_id=*7",
        "graphs list (requests/s)": f"{NS}/graphs/?limit=20",
        "states list (requests/s)": f"{NS}/states/?limit=20",
    }
    return {name: rate(path) for name, path in paths.items()}


def measure() -> dict[str, Any]:
    import django

    django.setup()
    from django.core.management import call_command

    from graphs.auth import api_keys
    from tests.benchmarks import one_database
    from tests.support.clusters import served

    call_command("migrate", verbosity=0)
    key = api_keys.create_key((), "admin")[1]
    rounds: list[dict[str, float]] = []
    with served(
        DJANGO_SETTINGS_MODULE="tests.benchmarks.bare_settings", LOG_LEVEL="ERROR"
    ) as address:
        for at in range(ROUNDS):
            rates = workers(address, key)
            if at == 0:
                fill(RUNS_STORED)
            with one_database.cluster(1):
                burst = one_database.in_flight(one_database.chain(), 100)
            rates["T1: our own worker, 100 in flight (steps/s)"] = burst["steps_per_s"]
            rounds.append({**rates, **lists(address, key)})
    return {
        "rounds": rounds,
        "medians": {name: statistics.median(rates[name] for rates in rounds) for name in rounds[0]},
        "ratios": ratios(rounds),
    }


def ratios(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The medians of ratios of two rates of the same round."""
    pairs = {
        "complete and claim / bare view, N=1": (
            "complete and claim, N=1 (steps/s)",
            "bare view, N=1 (requests/s)",
        ),
        "complete and claim, N=50, batches / T1": (
            "complete and claim, N=50, batches of 20 (steps/s)",
            "T1: our own worker, 100 in flight (steps/s)",
        ),
        "runs list, page 1 / bare view": (
            "runs list, page 1 (requests/s)",
            "bare view, N=8 (requests/s)",
        ),
        "runs list, page 1,000 / bare view": (
            "runs list, page 1,000 (requests/s)",
            "bare view, N=8 (requests/s)",
        ),
        "graphs list / bare view": ("graphs list (requests/s)", "bare view, N=8 (requests/s)"),
        "states list / bare view": ("states list (requests/s)", "bare view, N=8 (requests/s)"),
    }
    return {
        name: statistics.median(rates[ours] / rates[theirs] for rates in rounds)
        for name, (ours, theirs) in pairs.items()
    }


def main() -> None:
    server = Server(quick=False)
    try:
        with tempfile.TemporaryDirectory(prefix="statemanager-bench-") as folder:
            os.environ |= {
                "DATABASE_URL": server.url,
                "VAR_DIR": folder,
                "SECRET_KEY": "only-for-tests-and-as-long-as-a-real-one",
                "ALLOWED_HOSTS": "*",
                "HTTPS": "0",
            }
            os.environ |= {
                "SECRETS_KEYS": "b25seS1mb3ItdGVzdHMtLi4uLi4uLi4uLi4uLi4uLi4=",
                "DJANGO_SETTINGS_MODULE": "statemanager.settings",
            }
            os.environ |= {"LOG_LEVEL": "ERROR", "STATEMANAGER_TEST_DATABASE": "postgresql"}
            result = measure()
    finally:
        server.close()
    print("| | |\n|---|---|")
    for name, value in result["medians"].items():
        print(f"| {name} | {value:,.0f} |")
    for name, value in result["ratios"].items():
        print(f"| {name} | {value:.2f} |")
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
