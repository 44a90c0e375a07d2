"""What `statemanager.slow_clients` costs: the ASGI application beside the WSGI one that it wraps.

`python -m tests.benchmarks.interfaces [ROUNDS]`

Both run under granian with two processes of eight threads, on one SQLite database. Each round
measures both within seconds of each other, in turns; the first ratio is the median of the rounds.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 7
INTERFACES = ("wsgi", "asgi")
CLIENTS = (1, 8)
RUNS = "/v0/namespace/bench/runs/1/20"


def requests(graph: int) -> dict[str, tuple[int, Callable[[Any], object]]]:
    """{name: (how many in a round, what sends one)}."""
    run = f"/graphs/{graph}/run"
    return {
        "GET /healthz": (400, lambda connection: connection.json("GET", "/healthz")),
        "GET a page of runs": (100, lambda connection: connection.json("GET", RUNS)),
        "POST /graphs/{id}/run": (60, lambda connection: connection.json("POST", run, {})),
    }


def rate(send: Callable[[Any], object], times: int, clients: int, address: str, key: str) -> float:
    """Requests a second."""
    from tests.benchmarks.http import at_once

    def work(connection: Any) -> int:
        for _ in range(times):
            send(connection)
        return times

    return at_once(clients, work, address, key)


def measure() -> None:
    import django

    django.setup()
    from django.core.management import call_command

    from graphs.auth import api_keys
    from graphs.models import Namespace
    from graphs.services.publish import publish_graph
    from tests.support.clusters import served
    from tests.support.definitions import definition

    call_command("migrate", verbosity=0)
    namespace = Namespace.objects.get_or_create(name="bench")[0]
    graph = publish_graph(namespace, "chain", definition("a>b"))
    key = api_keys.create_key((), "admin")[1]
    with ExitStack() as stack:
        settings = {
            "DJANGO_SETTINGS_MODULE": "statemanager.settings",
            "WEB_THREADS": "8",
            "LOG_LEVEL": "ERROR",
        }
        servers = {name: stack.enter_context(served(name, **settings)) for name in INTERFACES}
        print(
            "| | wsgi/s | asgi/s | asgi / wsgi | wsgi, CPU | asgi, CPU |\n|---|---|---|---|---|---|"
        )
        for name, (times, send) in requests(graph.pk).items():
            for clients in CLIENTS:
                rounds = [
                    compare(send, max(times // clients, 1), clients, servers, key, at)
                    for at in range(ROUNDS + 1)
                ]
                print(f"| {name}, N={clients} | {row(rounds[1:])} |", flush=True)


Figures = dict[str, tuple[float, float]]  # {interface: (requests a second, CPU seconds of each)}


def compare(
    send: Callable[[Any], object],
    times: int,
    clients: int,
    servers: dict[str, str],
    key: str,
    at: int,
) -> Figures:
    figures = {}
    for interface in INTERFACES if at % 2 else INTERFACES[::-1]:
        before = cpu_seconds(servers[interface])
        per_second = rate(send, times, clients, servers[interface], key)
        cpu = cpu_seconds(servers[interface]) - before
        figures[interface] = per_second, cpu / (times * clients)
    return figures


def cpu_seconds(address: str) -> float:
    """The processor time that the processes of a server have used."""
    port = address.rpartition(":")[2].encode()
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            command = (stat.parent / "cmdline").read_bytes()
            if b"granian" in command and port in command.split(b"\0"):
                fields = stat.read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def row(rounds: list[Figures]) -> str:
    wsgi, asgi = (statistics.median(r[name][0] for r in rounds) for name in INTERFACES)
    ratio = statistics.median(r["asgi"][0] / r["wsgi"][0] for r in rounds)
    cpu = [sum(r[name][1] for r in rounds) for name in INTERFACES]
    each = [1000 * seconds / len(rounds) for seconds in cpu]
    return f"{wsgi:,.0f} | {asgi:,.0f} | {ratio:.2f} | {each[0]:.2f} ms | {each[1]:.2f} ms"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="statemanager-bench-") as folder:
        os.environ.pop("DATABASE_URL", None)
        os.environ |= {
            "VAR_DIR": folder,
            "DJANGO_SETTINGS_MODULE": "statemanager.settings",
            "SECRET_KEY": "only-for-tests-and-as-long-as-a-real-one",
            "SECRETS_KEYS": "b25seS1mb3ItdGVzdHMtLi4uLi4uLi4uLi4uLi4uLi4=",
            "ALLOWED_HOSTS": "*",
            "HTTPS": "0",
            "LOG_LEVEL": "ERROR",
        }
        measure()


if __name__ == "__main__":
    main()
