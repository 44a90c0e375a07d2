"""Following a run on a terminal, or as plain lines if the output goes elsewhere."""

import sys
from collections.abc import Callable
from time import sleep

from runs.core import statuses
from runs.models import Run

WIDTH = 30
MARKS = {
    statuses.COMPLETED: "✔",
    statuses.PARTIAL: "◐",
    statuses.FAILED: "✘",
    statuses.RUN_CANCELLED: "✘",
}


def watch(run: Run, meanwhile: Callable[[], object] = lambda: None, every: float = 0.1) -> Run:
    """Show the run's progress on standard error until it has ended; return the run.

    The run is read every `every` seconds, and `meanwhile` is called before each time.
    """
    shown = None
    while True:
        meanwhile()
        run.refresh_from_db()
        current = (run.revision, run.status)
        if current != shown:
            shown = current
            _show(run)
        if run.ended:
            break
        sleep(every)
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    return run


def _show(run: Run) -> None:
    filled = WIDTH * run.progress // 100
    bar = "█" * filled + "░" * (WIDTH - filled)
    line = f"{bar} {run.progress:3d} %  {MARKS.get(run.status, '')}{run.status}  {run.current_node}"
    # On a terminal the line replaces the one before.
    sys.stderr.write(f"\r\x1b[K{line}" if sys.stderr.isatty() else f"{line}\n")
    sys.stderr.flush()
