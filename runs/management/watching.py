"""Following a run on a terminal: a progress bar that is redrawn, or plain lines when nobody looks."""

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
    """Draw the run's progress until it has ended; `meanwhile` is called between two looks."""
    drawn = None
    while True:
        meanwhile()
        run.refresh_from_db()
        if (run.revision, run.status) != drawn:
            drawn = run.revision, run.status
            _draw(run)
        if run.ended:
            break
        sleep(every)
    sys.stderr.write("\n" if sys.stderr.isatty() else "")
    return run


def _draw(run: Run) -> None:
    filled = WIDTH * run.progress // 100
    line = f"{'█' * filled}{'░' * (WIDTH - filled)} {run.progress:3d} %  {MARKS.get(run.status, '')}{run.status}  {run.current_node}"
    sys.stderr.write(f"\r\x1b[K{line}" if sys.stderr.isatty() else f"{line}\n")
    sys.stderr.flush()
