"""What slices and leased successors each bring: `python -m tests.postgres python -m
tests.benchmarks.parts` (one process, no cluster).
"""

import os
from time import perf_counter

os.environ.setdefault("SECRET_KEY", "benchmark")
os.environ.setdefault("SECRETS_KEYS", "b25seS1mb3ItdGVzdHMtLi4uLi4uLi4uLi4uLi4uLi4=")
os.environ.setdefault("ALLOWED_HOSTS", "localhost")
os.environ.setdefault("LOG_LEVEL", "ERROR")

from django.core.management import call_command

from tests.benchmarks import one_database

CASES = {
    "all of it": {},
    "successors not leased": {"_chooser": lambda self: lambda state: False},
    "one state a slice": {"MAX_BATCH": 1},
}


def rate(runs: int, at_once: bool) -> float:
    """Steps a second of chains, all submitted first or one after the other."""
    graph, worker = one_database.chain(), one_database.Executor(threads=False)
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
    from runs.engine import executor

    call_command("migrate", verbosity=0)
    print("| | 100 in flight (steps/s) | one at a time (steps/s) |\n|---|---|---|")
    for name, change in CASES.items():
        kept = {
            key: getattr(executor.Executor if key.startswith("_") else executor, key)
            for key in change
        }
        for key, value in change.items():
            setattr(executor.Executor if key.startswith("_") else executor, key, value)
        print(f"| {name} | {rate(100, True):,.0f} | {rate(30, False):,.0f} |")
        for key, value in kept.items():
            setattr(executor.Executor if key.startswith("_") else executor, key, value)


if __name__ == "__main__":
    main()
