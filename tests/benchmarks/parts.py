"""What batches and leased successors each gain, in one process without a cluster.

`python -m tests.postgres python -m tests.benchmarks.parts`
"""

import os
from contextlib import ExitStack
from time import perf_counter
from unittest import mock

os.environ.setdefault("SECRET_KEY", "only-for-benchmarks-and-long-enough-for-a-site")
os.environ.setdefault("SECRETS_KEYS", "b25seS1mb3ItdGVzdHMtLi4uLi4uLi4uLi4uLi4uLi4=")
os.environ.setdefault("ALLOWED_HOSTS", "localhost")
os.environ.setdefault("LOG_LEVEL", "ERROR")

from django.core.management import call_command

from tests.benchmarks import one_database

CASES = {
    "all of it": {},
    "successors not leased": {"chooser": lambda self: lambda state: False},
    "one state per batch": {"MAX_BATCH": 1},
}


def rate(runs: int, at_once: bool) -> float:
    """Steps a second of chains that are started all at once, or one after the other."""
    graph = one_database.chain()
    worker = one_database.Executor(threads=False)
    for _ in range(5):
        one_database.start_run(graph)
        worker.drain()
    began = perf_counter()
    if at_once:
        for _ in range(runs):
            one_database.start_run(graph)
        began = perf_counter()
    for _ in range(1 if at_once else runs):
        if not at_once:
            one_database.start_run(graph)
        while worker.drain(budget=60):
            pass
    return runs * one_database.CHAIN / (perf_counter() - began)


def main() -> None:
    from runs.engine import lanes

    call_command("migrate", verbosity=0)
    print("| | 100 in flight (steps/s) | one at a time (steps/s) |\n|---|---|---|")
    for name, changes in CASES.items():
        with ExitStack() as stack:
            for attribute, value in changes.items():
                owner = lanes.Lanes if attribute == "chooser" else lanes
                stack.enter_context(mock.patch.object(owner, attribute, value))
            print(f"| {name} | {rate(100, True):,.0f} | {rate(30, False):,.0f} |")


if __name__ == "__main__":
    main()
