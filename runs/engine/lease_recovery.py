"""What the sweeper does about lost workers and lost hints.

1. `rescue_expired` gives back the states whose lease is over.
2. `end_leases_of_dead` ends the leases of processes that have died, so that step 1 comes sooner.
3. `hint_ready` wakes workers for states that are ready: due retries, delayed starts, and whatever
   a lost hint left behind.
4. `mark_running` moves on the runs that a claim could not, because their row was locked.

Every step may run in any number of processes at the same time.
"""

from collections.abc import Callable, Iterable

from django.db import transaction
from django.db.models.functions import Coalesce, Now

from graphs.nodes.base import registry
from runs.core import sql, statuses
from runs.core.failpoints import failpoint
from runs.engine import claim, priority, record, wakeup
from runs.engine.claimed_states import CLAIMED_COLUMNS, select_states
from runs.engine.count_outcomes import lost_too_often
from runs.engine.store import MAX_LEASE_SECONDS
from runs.engine.types import Claimed, Outcome, worker_name
from runs.models import OUTSIDE, Run, State

BATCH = 100


def rescue_expired() -> int:
    """Give back the states whose lease is over, or absurdly long. Returns their number.

    After its third lost lease a state ends as TIMEDOUT.
    """
    rescued = 0
    locked: set[int] = set()  # runs whose states wait for the next sweep
    while True:
        states = select_states(expired_statement(), [sql.choices(locked), BATCH])
        holders = _holders(states)
        outcomes = [_lost(state, holders.get(state.id, "")) for state in states]
        done = record.record_outcomes(outcomes, skip_locked=True)
        rescued += len(done.accepted)
        locked |= {outcome.state.run.pk for outcome in done.locked}
        if len(states) < BATCH or not (done.accepted or done.locked):
            break
    if rescued:
        failpoint("in-sweep-between-mark-and-hint")
        wakeup.hint()
    return rescued


@sql.statement
def expired_statement() -> str:
    """The leased states whose lease is over, the oldest first, by the index of leased states.

    Parameters: the runs whose states are left out; the limit. Recording looks at the lease again,
    because a heartbeat may renew it meanwhile.
    """
    return f"""
        SELECT {CLAIMED_COLUMNS}
        FROM statemanager_runs_state AS s
        WHERE s.status = 'QUEUED'
          AND s.node <> '{OUTSIDE}'
          AND NOT ({sql.among("s.run_id", "bigint")})
          AND (
            s.lease_expires_at < {sql.now()}
            OR s.lease_expires_at > {sql.later(str(MAX_LEASE_SECONDS))}
            OR s.lease_expires_at IS NULL
          )
        ORDER BY s.lease_expires_at
        LIMIT %s
    """


def _holders(states: Iterable[Claimed]) -> dict[str, str]:
    """The worker of each state and since when it has it; `runs.queries.attempts` reads the log."""
    held = State.objects.filter(pk__in=[state.id for state in states])
    rows = held.values_list("pk", "worker", "started_at")
    return {pk.hex: f"{worker}, since {since.isoformat()}" for pk, worker, since in rows if since}


def _lost(state: Claimed, holder: str = "") -> Outcome:
    error = ""
    if lost_too_often(state):
        error = f"worker lost: attempt {state.attempt} never reported back"
    return Outcome(state, "lost", error=error, holder=holder)


# --- the states of one cluster -----------------------------------------------------------------

# The worker of a state is named for its cluster and process. The names of external workers may be
# anything, so their states are left out.


def end_leases_of_dead(cluster: str, living: Callable[[], Iterable[int] | None]) -> None:
    """End the leases that processes of this cluster hold which no longer live.

    `living` returns the ids of the living processes, or None if nobody knows them. It is called
    after the holders are read, so that a process born meanwhile is not taken for dead.
    """
    prefix = worker_name(cluster, "")
    holders = {row[0] for row in sql.run(_holders_statement(), [len(prefix), prefix])}
    process_ids = living() if holders else None
    if process_ids is None:
        return
    dead = holders - {worker_name(cluster, process_id) for process_id in process_ids}
    if dead:
        sql.send(_end_leases_statement(), [len(prefix), prefix, sql.choices(dead)])


@sql.statement
def _holders_statement() -> str:
    """The processes of a cluster that hold states."""
    return """
        SELECT DISTINCT s.worker
        FROM statemanager_runs_state AS s
        WHERE s.status = 'QUEUED' AND s.worker_namespace_id IS NULL
          AND substr(s.worker, 1, %s) = %s
    """


@sql.statement
def _end_leases_statement() -> str:
    """End the leases of some processes of a cluster. States that are being recorded are skipped."""
    return f"""
        UPDATE statemanager_runs_state
        SET lease_expires_at = {sql.later("-1")}
        WHERE id IN (
            SELECT s.id
            FROM statemanager_runs_state AS s
            WHERE s.status = 'QUEUED' AND s.worker_namespace_id IS NULL
              AND substr(s.worker, 1, %s) = %s
              AND {sql.among("s.worker", "text")}
            ORDER BY s.id{sql.lock("UPDATE", skip_locked=True)}
        )
    """


def release_workers(cluster: str) -> int:
    """Give back all states that the processes of a cluster hold. Returns their number.

    This is for a cluster that was asked to stop, so no lease counts as lost.
    """
    prefix = worker_name(cluster, "")
    states = select_states(_held_statement(), [len(prefix), prefix])
    if not states:
        return 0
    outcomes = [Outcome(state, "release") for state in states]
    return len(record.record_batch(outcomes, skip_locked=True).accepted)


@sql.statement
def _held_statement() -> str:
    """The states that the processes of a cluster hold."""
    return f"""
        SELECT {CLAIMED_COLUMNS}
        FROM statemanager_runs_state AS s
        WHERE s.status = 'QUEUED' AND s.worker_namespace_id IS NULL
          AND substr(s.worker, 1, %s) = %s
    """


# --- hints and runs ----------------------------------------------------------------------------


def hint_ready() -> None:
    """Hint if a state of our own nodes is ready, and order the states that were delayed."""
    if claim.work_is_ready(registry):
        wakeup.hint()
    priority.give_head_starts()


def mark_running() -> int:
    """Move queued runs on whose states were claimed while the run was locked. Returns how many."""
    begun = Run.objects.filter(
        status=statuses.RUN_QUEUED,
        archived_at=None,
        version__isnull=False,
        states__status=statuses.QUEUED,
    )
    with transaction.atomic():
        unlocked = begun.select_for_update(of=("self",), skip_locked=True, no_key=True)
        pks = {run.pk for run in unlocked.only("pk")}
        started_at = Coalesce("started_at", Now())
        return Run.objects.filter(pk__in=pks).move(statuses.RUNNING, started_at=started_at)
