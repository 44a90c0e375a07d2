"""Where a worker begins to look for ready states."""

import math
from collections.abc import Sequence
from datetime import datetime
from time import monotonic

from runs.core import sql

FULL_SCAN_SECONDS = 1.0


class ScanFloors:
    """For each node, the due time at which a worker begins to look for ready states.

    An old snapshot (a dump, a forgotten transaction) keeps states that were taken long ago in
    PostgreSQL's index, and every claim would read them again. A claim therefore begins where the
    last one found something. States may still become ready before that time, when a slow
    transaction commits or a lease ends; so a claim looks at everything once a second, and whenever
    a worker is woken.
    """

    def __init__(self) -> None:
        self._floors: dict[str, datetime] = {}
        self._other_nodes: datetime | None = None
        self._latest_due: datetime | None = None  # of all states that were ever claimed
        self._full_scan = -math.inf

    def renew(self) -> None:
        """Drop the floors if the last full scan is too long ago. To be called before a claim."""
        if monotonic() - self._full_scan > FULL_SCAN_SECONDS:
            self._floors = {}
            self._other_nodes = None
            self._full_scan = monotonic()

    def of(self, node: str) -> datetime | str:
        return self._floors.get(node, self._other_nodes) or "-infinity"

    def note(self, rows: Sequence[sql.Row]) -> None:
        """Note the rows that a claim returned.

        The oldest state of each node is its new floor. Other nodes had nothing older than that.
        """
        oldest: dict[str, datetime] = {}
        for *_, node, due in rows:
            oldest[node] = min(due, oldest.get(node, due))
            self._latest_due = max(due, self._latest_due or due)
        self._floors |= oldest
        if self._other_nodes is None:
            self._other_nodes = min(oldest.values(), default=self._latest_due)

    def reset(self) -> None:
        """Let the next claim look at everything."""
        self._full_scan = -math.inf
