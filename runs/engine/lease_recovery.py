"""The sweeper: what a lost worker, a lost hint or a past due time would leave undone. Safe in any number of copies."""

from collections.abc import Callable, Iterable

from graphs.nodes.base import registry
from runs.core import sql, statuses
from runs.core.failpoints import failpoint
from runs.engine import claim, record, store, wakeup
from runs.engine.record import RecordedBatch
from runs.engine.types import Claimed, Outcome, worker_name
from runs.models import OUTSIDE, Run

BATCH = 100
_OVER = f"""
    s.status = 'QUEUED' AND s.node <> '{OUTSIDE}' AND (s.lease_expires_at < {{now}} OR s.lease_expires_at > {{far}} OR s.lease_expires_at IS NULL)
    ORDER BY s.lease_expires_at LIMIT %s
"""


def rescue_expired() -> int:
    """Give back the states whose lease is over (or absurd); after the third lost lease they end TIMEDOUT."""
    rescued = 0
    while True:
        condition = _OVER.format(now=sql.now(), far=sql.later(str(store.LONGEST_LEASE_SECONDS)))
        states = claim.leased_states(condition, [BATCH])
        done = (
            record.record_outcomes([_lost(state) for state in states])
            if states
            else RecordedBatch()
        )
        rescued += len(done.accepted)
        if len(states) < BATCH or not done.accepted:
            break
    if rescued:
        failpoint("in-sweep-between-mark-and-hint")
        wakeup.hint()
    return rescued


def _lost(state: Claimed) -> Outcome:
    gone = state.lost_leases + 1 >= record.LOST_LEASES
    return Outcome(
        state,
        "lost",
        error=f"worker lost: attempt {state.attempt} never reported back" if gone else "",
    )


def end_leases_of_dead(cluster: str, living: Callable[[], Iterable[int] | None]) -> None:
    """End the leases of a cluster's processes that are none of the `living` (process ids) any more, so that they are rescued now.

    Who lives is asked after who holds: a process that was born meanwhile isn't taken for dead. None means that nobody knows.
    """
    condition, params = _leased_by(cluster)
    holders = {
        row[0]
        for row in sql.run(
            f"SELECT DISTINCT s.worker FROM statemanager_runs_state s WHERE {condition}", params
        )
    }
    pids = living() if holders else None
    if pids is not None and (dead := holders - {worker_name(cluster, pid) for pid in pids}):
        theirs = f"SELECT s.id FROM statemanager_runs_state s WHERE {condition} AND {sql.among('s.worker', 'text')} ORDER BY s.id{sql.lock('UPDATE', skip=True)}"
        sql.send(
            f"UPDATE statemanager_runs_state SET lease_expires_at = {sql.later('-1')} WHERE id IN ({theirs})",
            [*params, sql.choices(dead)],
        )


def release_workers(cluster: str) -> int:
    """Give back at once what the processes of a cluster held; for a stop that was asked for, so nothing counts as lost."""
    states = claim.leased_states(*_leased_by(cluster))
    return (
        len(record.record_batch([Outcome(state, "release") for state in states]).accepted)
        if states
        else 0
    )


def _leased_by(cluster: str) -> tuple[str, list[str]]:
    """A condition and its parameters; the names of external workers are their own and may be anything."""
    prefix = worker_name(cluster, "")
    return (
        f"s.status = 'QUEUED' AND s.worker_namespace_id IS NULL AND substr(s.worker, 1, {len(prefix)}) = %s",
        [prefix],
    )


def hint_ready() -> None:
    """Hint when something is ready: due retries, delayed starts, and what a lost hint left."""
    if claim.work_is_ready(registry):
        wakeup.hint()


def mark_running() -> int:
    """Runs whose first state was claimed while their row was locked still say queued."""
    return Run.objects.filter(
        status=statuses.RUN_QUEUED,
        archived_at=None,
        version__isnull=False,
        states__status=statuses.QUEUED,
    ).move(statuses.RUNNING)
