"""The engine's speed on SQLite and PostgreSQL, beside what the databases themselves allow.

`python -m tests.benchmarks [--quick] [--json FILE]` prints the table of docs/performance.md. Each
ratio is the median of pairs that were measured within seconds of each other. Quote the ratios, not
the rates: the rates change with the machine.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.postgres import Server

ROWS = (
    (
        "chains of 10, 100 in flight, 1 worker (steps/s)",
        lambda r: f"{r['one']['steps_per_s']:,.0f}",
    ),
    ("the same, 2 workers (steps/s)", lambda r: f"{r['two']['steps_per_s']:,.0f}"),
    ("one run at a time, start call to end (steps/s)", lambda r: f"{r['alone']:,.0f}"),
    ("1 → 1,000 → 1 (states/s)", lambda r: f"{r['fan']:,.0f}"),
    ("1 → 10,000 → 1 (states/s)", lambda r: f"{r['fan_10000']:,.0f}"),
    ("L1: one transaction a step (steps/s)", lambda r: f"{r['L1']:,.0f}"),
    ("L2: two transactions for 100 steps (steps/s)", lambda r: f"{r['L2']:,.0f}"),
    ("100 in flight / L2", lambda r: f"{r['ratios']['in flight / L2']:.2f}"),
    ("alone / L1", lambda r: f"{r['ratios']['alone / L1']:.2f}"),
    ("2 workers / 1 worker", lambda r: f"{r['ratios']['2 workers / 1']:.2f}"),
    (
        "cost per state, 10,000 / 1,000",
        lambda r: f"{r['ratios']['cost per state, 10,000 / 1,000']:.2f}",
    ),
    (
        "start call to first claim, p50 / p95 (ms)",
        lambda r: f"{r['latency']['p50_ms']:.1f} / {r['latency']['p95_ms']:.1f}",
    ),
    (
        "write commits a step, 100 in flight",
        lambda r: f"{r['one']['commits_per_step']:.3f}" if r["database"] == "postgresql" else "–",
    ),
    (
        "WAL bytes a step",
        lambda r: (
            f"{r['one']['wal_bytes_per_step']:,.0f}" if r["database"] == "postgresql" else "–"
        ),
    ),
    (
        "WAL bytes a step with a log line",
        lambda r: (
            f"{r['logged']['wal_bytes_per_step']:,.0f}" if r["database"] == "postgresql" else "–"
        ),
    ),
    ("statements a step, 100 in flight", lambda r: f"{r['queries_per_step']:.3f}"),
    ("rows exported a second", lambda r: f"{r['export']['rows_per_s']:,.0f}"),
    ("largest worker while exporting (MB)", lambda r: f"{r['export']['peak_rss_mb']:.0f}"),
)


def environment(folder: str, url: str | None) -> dict[str, str]:
    """The environment for one database: the server at `url`, or SQLite in `folder`.

    Files are written to `folder` in both cases.
    """
    inherited = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    variables = inherited | {"VAR_DIR": folder, "LOG_LEVEL": "ERROR"}
    if not url:
        return variables
    secrets = {
        "SECRET_KEY": "only-for-benchmarks-and-long-enough-for-a-site",
        "SECRETS_KEYS": "b25seS1mb3ItdGVzdHMtLi4uLi4uLi4uLi4uLi4uLi4=",
    }
    return variables | secrets | {"DATABASE_URL": url, "ALLOWED_HOSTS": "localhost"}


def measure(url: str | None) -> dict[str, Any]:
    """The figures of one database, measured in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.one_database"]
    if "--quick" in sys.argv:
        command.append("--quick")
    with tempfile.TemporaryDirectory(prefix="statemanager-bench-") as folder:
        process = subprocess.run(
            command, env=environment(folder, url), stdout=subprocess.PIPE, text=True, check=True
        )
    return dict(json.loads(process.stdout.splitlines()[-1]))


def main() -> None:
    server = Server(quick=False)
    try:
        results = [measure(None), measure(server.url)]
    finally:
        server.close()
    print("| | SQLite | PostgreSQL |\n|---|---|---|")
    for label, show in ROWS:
        print(f"| {label} | {show(results[0])} | {show(results[1])} |")
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
