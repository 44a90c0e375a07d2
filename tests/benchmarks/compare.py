"""`python -m tests.benchmarks.compare REVISION [--rounds N]`: an older revision beside this one.

The revisions are measured in turns, within seconds of each other. While one is measured, all
processes of the other one are stopped: idle clusters of older revisions ask their database dozens
of times a second. The command prints medians, and the median of the ratios (now / then) of all
turns. On a noisy machine only the ratios mean something.

Both are measured with this revision's benchmark and this environment's packages. A revision before
0.9.0, whose modules had other names, is measured with its own benchmark.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from tests.benchmarks.__main__ import environment
from tests.postgres import Server

ROOT = Path(__file__).parent.parent.parent
SETTLED_SECONDS = 0.3
MAX_SETTLING = 5.0
TURNS = 5  # how often a round measures each figure
FIGURES = {
    "chains of 10, 100 in flight, 1 worker (steps/s)": ("1", "in flight"),
    "one run at a time (steps/s)": ("1", "alone"),
    "1 → 1,000 → 1 (states/s)": ("1", "fan"),
    "chains of 10, 100 in flight, 2 workers (steps/s)": ("2", "in flight"),
}


class Side:
    """The benchmark of one revision on one database, which measures what it is asked for."""

    def __init__(self, folder: Path, files: str, url: str | None) -> None:
        benchmark = "one_database" if _has_current_layout(folder) else "lane"
        command = [sys.executable, "-m", f"tests.benchmarks.{benchmark}", "--by-turns"]
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(files, url),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.database = self._answer()

    def request(self, line: str) -> Any:
        """Send a line of the protocol of `one_database.by_turns`; gives the answer."""
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Keep all processes of this side from running.

        Afterwards they do what was due meanwhile. The context ends when they have done it.
        """
        processes = psutil.Process(self._process.pid).children(recursive=True)
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()
            _let_settle(processes)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)


def _let_settle(processes: Sequence[psutil.Process]) -> None:
    """Wait until these processes do next to nothing, for at most MAX_SETTLING seconds."""
    until = monotonic() + MAX_SETTLING
    used = _processor_seconds(processes)
    while monotonic() < until:
        sleep(SETTLED_SECONDS)
        before, used = used, _processor_seconds(processes)
        if used - before < 0.1 * SETTLED_SECONDS:
            return


def _processor_seconds(processes: Sequence[psutil.Process]) -> float:
    seconds = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            seconds += sum(process.cpu_times()[:2])
    return seconds


def _has_current_layout(folder: Path) -> bool:
    """Whether the benchmark has its current name; before 0.9.0 it was `tests.benchmarks.lane`."""
    return (folder / "tests" / "benchmarks" / "one_database.py").exists()


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A folder with the revision, and with this revision's benchmarks if they fit it."""
    with tempfile.TemporaryDirectory(prefix="statemanager-compare-") as name:
        folder = Path(name) / "then"
        subprocess.run(
            ["git", "worktree", "add", "--detach", "-f", str(folder), revision],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        try:
            if _has_current_layout(folder):
                ours, theirs = (place / "tests" / "benchmarks" for place in (ROOT, folder))
                shutil.copytree(ours, theirs, dirs_exist_ok=True)
            yield folder
        finally:
            subprocess.run(
                ["git", "worktree", "remove", "--force", str(folder)],
                cwd=ROOT,
                check=True,
                capture_output=True,
            )


def measure(sides: Sequence[Side], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """The pairs (then, now) of each figure. The sides take turns in going first."""
    pairs: dict[str, list[tuple[float, float]]] = {label: [] for label in FIGURES}
    for at in range(rounds):
        for workers in sorted({workers for workers, _ in FIGURES.values()}):
            for side in sides:
                side.request(workers)
            labels = [label for label in FIGURES if FIGURES[label][0] == workers]
            for label in labels:
                _, figure = FIGURES[label]
                for turn in range(TURNS):
                    first = (at + turn) % 2
                    second = 1 - first
                    with sides[second].stopped():
                        rates = {first: sides[first].request(figure)}
                    with sides[first].stopped():
                        rates[second] = sides[second].request(figure)
                    pairs[label].append((rates[0], rates[1]))
    return pairs


def print_comparison(revision: str, rounds: int, server: Server | None) -> None:
    """Compare on PostgreSQL, or on SQLite without a server, and print the table."""
    with ExitStack() as stack:
        sides = []
        for name, folder in (("then", stack.enter_context(checked_out(revision))), ("now", ROOT)):
            files = stack.enter_context(tempfile.TemporaryDirectory(prefix="statemanager-bench-"))
            sides.append(Side(folder, files, server and server.database(name)))
            stack.callback(sides[-1].close)
        figures = measure(sides, rounds)
    print(f"\n{sides[0].database}\n\n| | {revision} | now | now / then |\n|---|---|---|---|")
    for label, pairs in figures.items():
        then, now = (statistics.median(rates) for rates in zip(*pairs, strict=True))
        ratio = statistics.median(new / old for old, new in pairs)
        print(f"| {label} | {then:,.0f} | {now:,.0f} | {ratio:.2f} |", flush=True)


def main() -> None:
    rounds = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 4
    print_comparison(sys.argv[1], rounds, None)
    server = Server(quick=False)
    try:
        print_comparison(sys.argv[1], rounds, server)
    finally:
        server.close()


if __name__ == "__main__":
    main()
