"""`python -m tests.benchmarks.compare REVISION [--rounds N]`: the engine's speed at an older
revision and now, N times.

The clusters of both wait side by side, and the revisions take turns within a second. Prints
medians, and the median of the ratios (now / then) of all turns; of a noisy machine only those mean
something. Both are measured by this revision's benchmark, with this environment's packages; a
revision before 0.9.0, whose modules had other names, brings its own benchmark.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.__main__ import environment
from tests.postgres import Server

ROOT = Path(__file__).parent.parent.parent
TURNS = 5  # of each figure in a round
FIGURES = {
    "chains of 10, 100 in flight, 1 worker (steps/s)": ("1", "in flight"),
    "one run at a time (steps/s)": ("1", "alone"),
    "1 → 1,000 → 1 (states/s)": ("1", "fan"),
    "chains of 10, 100 in flight, 2 workers (steps/s)": ("2", "in flight"),
}


class Side:
    """One revision on one database, waiting for its turns."""

    def __init__(self, folder: Path, files: str, url: str | None) -> None:
        benchmark = "one_database" if _has_todays_layout(folder) else "lane"
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

    def do(self, word: str) -> Any:
        assert self._process.stdin
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)


def _has_todays_layout(folder: Path) -> bool:
    return (folder / "tests" / "benchmarks" / "one_database.py").exists()


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A folder with the revision and this revision's benchmarks."""
    with tempfile.TemporaryDirectory(prefix="statemanager-compare-") as name:
        folder = Path(name) / "then"
        subprocess.run(
            ["git", "worktree", "add", "--detach", "-f", str(folder), revision],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        try:
            if _has_todays_layout(folder):
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


def measured(sides: Sequence[Side], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """For each figure its pairs (then, now)."""
    found: dict[str, list[tuple[float, float]]] = {label: [] for label in FIGURES}
    for at in range(rounds):
        for workers in sorted({workers for workers, _ in FIGURES.values()}):
            for side in sides:
                side.do(workers)
            for label, figure in [
                (label, figure) for label, (wanted, figure) in FIGURES.items() if wanted == workers
            ]:
                for turn in range(TURNS):
                    first = (at + turn) % 2
                    pair = {first: sides[first].do(figure), 1 - first: sides[1 - first].do(figure)}
                    found[label].append((pair[0], pair[1]))
    return found


def compared(revision: str, rounds: int, server: Server | None) -> None:
    with ExitStack() as stack:
        sides = []
        for name, folder in (("then", stack.enter_context(checked_out(revision))), ("now", ROOT)):
            files = stack.enter_context(tempfile.TemporaryDirectory(prefix="statemanager-bench-"))
            sides.append(Side(folder, files, server and server.database(name)))
            stack.callback(sides[-1].close)
        found = measured(sides, rounds)
    print(f"\n{sides[0].database}\n\n| | {revision} | now | now / then |\n|---|---|---|---|")
    for label, pairs in found.items():
        then, now = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"| {label} | {then:,.0f} | {now:,.0f} |"
            f" {statistics.median(new / old for old, new in pairs):.2f} |",
            flush=True,
        )


def main() -> None:
    rounds = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 4
    compared(sys.argv[1], rounds, None)
    server = Server(quick=False)
    try:
        compared(sys.argv[1], rounds, server)
    finally:
        server.close()


if __name__ == "__main__":
    main()
