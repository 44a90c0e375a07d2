"""`python -m tests.benchmarks.compare REVISION [--rounds N]`: the engine's speed at an older revision and now, measured alternately, N times each.

Prints medians and their ratios (now / then); of a noisy machine only the ratios mean something. Both use this environment's packages.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
FIGURES = {
    "chains of 10, 100 in flight (steps/s)": lambda r: r["one"]["steps_per_s"],
    "the same, 2 workers (steps/s)": lambda r: r["two"]["steps_per_s"],
    "one run at a time (steps/s)": lambda r: r["alone"],
    "1 → 1,000 → 1 (states/s)": lambda r: r["fan"],
    "100 in flight / L2": lambda r: r["ratios"]["in flight / L2"],
    "alone / L1": lambda r: r["ratios"]["alone / L1"],
}


def measured(folder: Path, work: Path) -> list[dict[str, Any]]:
    subprocess.run([sys.executable, "-m", "tests.benchmarks", "--quick", "--json", str(work / "out.json")], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return list(json.loads((work / "out.json").read_text()))


def main() -> None:
    revision = sys.argv[1]
    rounds = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 3
    then: list[list[dict[str, Any]]] = []
    now: list[list[dict[str, Any]]] = []
    with tempfile.TemporaryDirectory(prefix="statemanager-compare-") as name:
        work = Path(name)
        subprocess.run(["git", "worktree", "add", "--detach", "-f", str(work / "then"), revision], cwd=ROOT, check=True, capture_output=True)
        try:
            for _ in range(rounds):
                then.append(measured(work / "then", work))
                now.append(measured(ROOT, work))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(work / "then")], cwd=ROOT, check=True, capture_output=True)
    for at, database in enumerate(("SQLite", "PostgreSQL")):
        print(f"\n{database}\n\n| | {revision} | now | now / then |\n|---|---|---|---|")
        for label, figure in FIGURES.items():
            before, after = (statistics.median(figure(each[at]) for each in side) for side in (then, now))
            print(f"| {label} | {before:,.2f} | {after:,.2f} | {after / before:.2f} |")


if __name__ == "__main__":
    main()
