"""Outcomes that wait because something else has locked their runs.

A person's transaction may lock a run for minutes. The worker goes on with other runs meanwhile: it
keeps these outcomes, renews the leases of their states, and tries to record them again and again.
"""

from collections.abc import Iterable
from time import monotonic

from runs.engine import record
from runs.engine.heartbeat import SignOfLife
from runs.engine.types import Outcome

RETRY_SECONDS = 0.25
MAX_DEFERRED = 1000  # with so many, the worker claims nothing more


class Deferred:
    """The outcomes of one worker that wait for locked runs."""

    def __init__(self) -> None:
        self._outcomes: list[Outcome] = []
        self._tried = 0.0

    def __len__(self) -> int:
        return len(self._outcomes)

    @property
    def full(self) -> bool:
        return len(self) >= MAX_DEFERRED

    def add(self, outcomes: Iterable[Outcome]) -> None:
        self._outcomes += outcomes
        self._tried = monotonic()

    def record(self) -> record.RecordedBatch:
        """Record those whose runs are no longer locked, if it is time to try.

        Raises the errors of the database.
        """
        done = record.RecordedBatch()
        if not self._outcomes or monotonic() - self._tried < RETRY_SECONDS:
            return done
        self._tried = monotonic()
        waiting, self._outcomes = self._outcomes, []
        for at in range(0, len(waiting), record.MAX_BATCH):
            batch = waiting[at : at + record.MAX_BATCH]
            try:
                recorded = record.record_outcomes(batch, skip_locked=True)
            except Exception:
                self._outcomes += waiting[at:]
                raise
            done.add(recorded)
            self._outcomes += recorded.locked
        return done

    def signs(self) -> list[SignOfLife]:
        """The signs of life of their states."""
        return [SignOfLife(outcome.state, (), None) for outcome in self._outcomes]
