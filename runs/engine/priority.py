"""The place of a ready state among those of its namespace: `State.claim_at`.

States are claimed in the order of `claim_at`. For a state that is due at once, this is the present
minus a head start, which grows with the priority of its run. So a state of high priority overtakes
others only if they are older by less than the difference of the head starts: nothing waits for
ever.

A delayed state has no head start, `claim_at = due_at`, so that a claim never reads states that are
not yet due: there may be a million of them. When it is due, it is claimed as one of very low
priority, or gets its head start within a second (`give_head_starts`) if there is a backlog.
"""

from graphs.definition import errors
from graphs.definition.schema import MAX_PRIORITY, MIN_PRIORITY
from runs.core import sql

# A state with one point more overtakes those that are up to this much older.
SECONDS_PER_POINT = 36
MAX_HEAD_STARTS = 1000  # in one statement
MAX_ROUNDS = 20


def check(priority: int) -> int:
    """The priority. Raises Malformed if there is no such priority."""
    if not MIN_PRIORITY <= priority <= MAX_PRIORITY:
        raise errors.Malformed(f"The priority is from {MIN_PRIORITY} to {MAX_PRIORITY}.")
    return priority


def head_start(priority: int) -> float:
    """By how many seconds a state that is due now goes ahead of one that becomes due now."""
    return (priority - MIN_PRIORITY + 1) * SECONDS_PER_POINT


def claim_in(delay: float | None, priority: int) -> float:
    """The `claim_at` of a state that is due after `delay` seconds, in seconds from now."""
    return delay or -head_start(priority)


def head_start_of(priority: str) -> str:
    """`head_start` as an SQL expression, given one for the priority."""
    return f"({priority} - {MIN_PRIORITY} + 1) * {SECONDS_PER_POINT}"


@sql.statement
def _head_starts_statement() -> str:
    """Give head starts to states that have been due for a second, those that wait longest first.

    The partial index sm_state_delayed holds only states that have none. Returns a row for each.
    """
    return f"""
        UPDATE statemanager_runs_state AS s
        SET claim_at = {sql.earlier("s.due_at", head_start_of("r.priority"))}
        FROM statemanager_runs_run AS r
        WHERE r.id = s.run_id AND s.status = 'CREATED' AND s.claim_at = s.due_at AND s.id IN (
            SELECT id FROM statemanager_runs_state
            WHERE status = 'CREATED' AND NOT paused AND claim_at = due_at
              AND claim_at < {sql.later("-1.0")}
            ORDER BY claim_at LIMIT {MAX_HEAD_STARTS}{sql.lock("UPDATE", skip_locked=True)}
        )
        RETURNING claim_at
    """


@sql.statement
def _adopt_statement() -> str:
    """Give states that an old version stored after the migration their namespaces and places."""
    return f"""
        UPDATE statemanager_runs_state AS s
        SET namespace_key = r.namespace_id, claim_at = s.due_at
        FROM statemanager_runs_run AS r
        WHERE r.id = s.run_id AND s.status = 'CREATED' AND s.id IN (
            SELECT id FROM statemanager_runs_state
            WHERE status = 'CREATED' AND worker_namespace_id IS NULL AND NOT paused
              AND due_at IS NOT NULL AND namespace_key = 0
            LIMIT {MAX_HEAD_STARTS}{sql.lock("UPDATE", skip_locked=True)}
        )
    """


def adopt_states() -> None:
    """Bring states that an old version stored meanwhile into the order of their namespaces."""
    sql.send(_adopt_statement())


def give_head_starts() -> None:
    """Order the states that waited for a delay or a retry by their priorities, too."""
    for _ in range(MAX_ROUNDS):
        if len(sql.run(_head_starts_statement())) < MAX_HEAD_STARTS:
            return
