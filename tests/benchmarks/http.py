"""`python -m tests.benchmarks.http [--quick] [--json FILE]`: external workers and lists over HTTP,
beside a bare view, on PostgreSQL.

The server is granian with two processes, as `up` starts it; the clients run in this process on the
same machine. Ratios are medians of rounds, each of which measures both sides within seconds of each
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
    """What so many clients do in a second, each on a connection of its own; `work` gives how much
    it did.
    """
    from tests.benchmarks.client import Link

    links = [Link(address, key) for _ in range(clients)]
    done = [0] * clients

    def one(at: int) -> None:
        done[at] = work(links[at])

    threads = [threading.Thread(target=one, args=(at,)) for at in range(clients)]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = perf_counter() - began
    for link in links:
        link.close()
    return sum(done) / seconds


def put_chain(link: Any) -> None:
    schema = {"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]}
    node = {"name": "Step", "inputs_schema": schema, "outputs_schema": schema, "secrets": []}
    link.json("PUT", f"{NS}/nodes/", {"runtime_name": "bench", "nodes": [node]})
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
    link.json("PUT", f"{NS}/graph/chain", {"secrets": {}, "nodes": nodes})


def trigger(link: Any, runs: int) -> None:
    for _ in range(runs):
        link.json("POST", f"{NS}/graph/chain/trigger", {})


def step_by_step(link: Any) -> int:
    """Claim one, report it, claim the next: two requests a step."""
    steps = 0
    while states := link.json("POST", f"{NS}/states/enqueue", {"nodes": ["Step"], "batch_size": 1})[
        "states"
    ]:
        link.json(
            "POST",
            f"{NS}/state/{states[0]['state_id']}/executed",
            {"outputs": [{"value": "1"}], "attempt": states[0]["attempt"]},
        )
        steps += 1
    return steps


def complete_and_claim(size: int) -> Callable[[Any], int]:
    """Report what was claimed and claim more in the same request."""

    def work(link: Any) -> int:
        steps, reports = 0, []
        while True:
            body = {"reports": reports, "nodes": ["Step"], "batch_size": size}
            states = link.json("POST", f"{NS}/states/report", body)["states"]
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
    from tests.benchmarks.client import Link

    link = Link(address, key)
    put_chain(link)
    found: dict[str, float] = {
        "bare view, N=1 (requests/s)": timed(300, lambda: link.call("GET", "/bare"))
    }
    trigger(link, 30)
    found["claim, then report, N=1 (steps/s)"] = at_once(1, step_by_step, address, key)
    trigger(link, 30)
    found["complete and claim, N=1 (steps/s)"] = at_once(1, complete_and_claim(1), address, key)
    trigger(link, 150)
    found["claim, then report, N=50 (steps/s)"] = at_once(50, step_by_step, address, key)
    trigger(link, 1000)
    found["complete and claim, N=50, batches of 20 (steps/s)"] = at_once(
        50, complete_and_claim(20), address, key
    )
    idle = {"nodes": ["Step"], "batch_size": 16}
    found["idle polls, N=50 (requests/s)"] = at_once(
        50,
        lambda each: sum(1 for _ in range(40) if each.json("POST", f"{NS}/states/enqueue", idle)),
        address,
        key,
    )
    link.close()
    return found


def fill(runs: int) -> None:
    """So many ended runs, so that lists have something to page through."""
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
    def asks(path: str, times: int = 60) -> float:
        return at_once(
            8,
            lambda link: sum(1 for _ in range(times) if link.call("GET", path)[0] == 200),
            address,
            key,
        )

    paths = {
        "bare view, N=8 (requests/s)": "/bare",
        "runs list, page 1 (requests/s)": f"{NS}/runs/1/20",
        "runs list, page 1,000 (requests/s)": f"{NS}/runs/{1000 if not QUICK else 100}/20",
        "runs list, 1 % of them (requests/s)": f"{NS}/runs/1/20?run_id=*7",
        "graphs list (requests/s)": f"{NS}/graphs/?limit=20",
        "states list (requests/s)": f"{NS}/states/?limit=20",
    }
    return {name: asks(path) for name, path in paths.items()}


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
            found = workers(address, key)
            if at == 0:
                fill(RUNS_STORED)
            with one_database.cluster(1):
                found["T1: our own worker, 100 in flight (steps/s)"] = one_database.in_flight(
                    one_database.chain(), 100
                )["steps_per_s"]
            rounds.append({**found, **lists(address, key)})
    return {
        "rounds": rounds,
        "medians": {name: statistics.median(each[name] for each in rounds) for name in rounds[0]},
        "ratios": ratios(rounds),
    }


def ratios(rounds: list[dict[str, float]]) -> dict[str, float]:
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
        name: statistics.median(each[ours] / each[theirs] for each in rounds)
        for name, (ours, theirs) in pairs.items()
    }


def main() -> None:
    server = Server(quick=False)
    try:
        with tempfile.TemporaryDirectory(prefix="statemanager-bench-") as folder:
            os.environ |= {
                "DATABASE_URL": server.url,
                "VAR_DIR": folder,
                "SECRET_KEY": "only-for-tests",
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
