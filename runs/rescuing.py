"""The sweeper: what a lost worker, a lost hint or a past due time would leave undone. Safe in any number of copies."""

from collections.abc import Iterable

from graphs.nodes.base import registry
from runs import claiming, finishing, queueing, sql, statuses, storing
from runs.failpoints import failpoint
from runs.finishing import Slice
from runs.models import OUTSIDE, Run
from runs.work import Claimed, Outcome

BATCH = 100
_OVER = f"""
    s.status = 'QUEUED' AND s.node <> '{OUTSIDE}' AND (s.lease_expires_at < {{now}} OR s.lease_expires_at > {{far}} OR s.lease_expires_at IS NULL)
    ORDER BY s.lease_expires_at LIMIT %s
"""


def rescue_expired() -> int:
    """Give back the states whose lease is over (or absurd); after the third lost lease they end TIMEDOUT."""
    rescued = 0
    while True:
        condition = _OVER.format(now=sql.now(), far=sql.later(str(storing.LONGEST_LEASE_SECONDS)))
        states = claiming.held(condition, [BATCH])
        done = finishing.record([_lost(state) for state in states]) if states else Slice()
        rescued += len(done.accepted)
        if len(states) < BATCH or not done.accepted:
            break
    if rescued:
        failpoint("in-sweep-between-mark-and-hint")
        queueing.hint()
    return rescued


def _lost(state: Claimed) -> Outcome:
    gone = state.lost + 1 >= finishing.LOST_LEASES
    return Outcome(state, "lost", error=f"worker lost: attempt {state.attempt} never reported back" if gone else "")


def release_workers(names: Iterable[str]) -> int:
    """Give back at once what these workers held; for a stop that was asked for, so nothing counts as lost."""
    states = claiming.held(f"s.status = 'QUEUED' AND {sql.among('s.worker', 'text')}", [sql.choices(names)])
    return len(finishing.finish([Outcome(state, "release") for state in states]).accepted) if states else 0


def hint_ready() -> None:
    """Hint when something is ready: due retries, delayed starts, and what a lost hint left."""
    if claiming.work_is_ready(registry):
        queueing.hint()


def mark_running() -> int:
    """Runs whose first state was claimed while their row was locked still say queued."""
    return Run.objects.filter(status=statuses.RUN_QUEUED, archived_at=None, version__isnull=False, states__status=statuses.QUEUED).move(statuses.RUNNING)
