"""Waiting until a run has a status, for requests that are answered late.

One thread of the process looks after the runs of all its waiters, with one statement at a time. The
waiters themselves neither poll nor hold a database connection. The thread ends with the last
waiter.
"""

import logging
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from time import sleep

from django.db import DatabaseError, connection

from runs.models import Run

log = logging.getLogger(__name__)
MAX_WAITERS = 4  # of a process, half of the threads that its web server has for requests
MAX_SECONDS = 60
POLL_SECONDS = 0.25


class TooManyWaiters(Exception):
    """The process has as many waiters as it may have."""


@dataclass(eq=False)
class _Waiter:
    run: int
    wanted: Collection[str]
    woken: threading.Event = field(default_factory=threading.Event)


class RunWatch:
    """The waiters of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._is_watching = False

    @property
    def waiters(self) -> int:
        return len(self._waiters)

    def wait(self, run: int, wanted: Collection[str], seconds: float) -> None:
        """Return when the run has one of these statuses, is deleted, or the time is over.

        Closes this thread's database connection. Raises TooManyWaiters.
        """
        waiter = _Waiter(run, wanted)
        with self._lock:
            if len(self._waiters) >= MAX_WAITERS:
                raise TooManyWaiters
            self._waiters.append(waiter)
            if not self._is_watching:
                threading.Thread(target=self._watch, name="run-watch", daemon=True).start()
                self._is_watching = True
        try:
            if not connection.in_atomic_block:
                connection.close()
            waiter.woken.wait(seconds)
        finally:
            with self._lock:
                self._waiters.remove(waiter)

    def _watch(self) -> None:
        while waiters := self._current():
            try:
                _wake(waiters)
            except DatabaseError:
                # The waiters' own requests say so when their time is over.
                log.warning("the database did not tell how runs are", exc_info=True)
                connection.close()
            sleep(POLL_SECONDS)
        connection.close()

    def _current(self) -> list[_Waiter]:
        """The waiters; if there are none, the watching ends."""
        with self._lock:
            self._is_watching = bool(self._waiters)
            return list(self._waiters)


def _wake(waiters: Collection[_Waiter]) -> None:
    """Wake those whose run is as they want it, or gone."""
    pks = {waiter.run for waiter in waiters}
    statuses = dict(Run.objects.filter(pk__in=pks).values_list("pk", "status"))
    for waiter in waiters:
        if statuses.get(waiter.run, "") in ("", *waiter.wanted):
            waiter.woken.set()


watch = RunWatch()
