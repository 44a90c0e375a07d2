"""Writing to the outbox of notifications what happens to runs.

An event is stored for each rule that it fits, in the transaction that changes the run.
`runs.actions.notifications` sends it later.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from graphs.web.ttl_cache import cached
from runs.core import sql, statuses
from runs.models.notification import NotificationRule

if TYPE_CHECKING:
    from runs.engine.counters import RunCounters

WAITING = "waiting"
# For how long a process knows whether there are rules. Most runs complete, so that a look at the
# rules for each of them would cost: a new rule about completed runs holds after this time at the
# latest, the others at once.
RULES_SECONDS = 2.0


@sql.statement
def _statement(gate: str) -> str:
    """Store these events for the rules that they fit. Parameters: rows of a run and its event."""
    return f"""
        INSERT INTO statemanager_runs_notificationevent (rule_id, run_id, event, at, message_id)
        SELECT n.id, v.run, v.event, {sql.now()}, NULL
        FROM {sql.rows("v", run="bigint", event="text")}
        JOIN statemanager_runs_run AS r ON r.id = v.run
        JOIN statemanager_runs_notificationrule AS n
          ON n.enabled
         AND (n.namespace_id IS NULL OR n.namespace_id = r.namespace_id)
         AND (n.graph_id IS NULL OR n.graph_id = r.graph_id)
         AND CASE v.event
                WHEN 'failed' THEN n.on_failed
                WHEN 'partial' THEN n.on_partial
                WHEN 'cancelled' THEN n.on_cancelled
                WHEN 'completed' THEN n.on_completed
                ELSE n.on_waiting
             END
        WHERE {gate}
    """


def add(
    changed: Iterable["RunCounters"],
    statements: sql.Statements | None,
    gate: str = sql.ALWAYS,
) -> None:
    """Store what has happened to these runs since their counters were read, at once or with the
    given statements.
    """
    rows = [[counters.pk, event] for counters in changed for event in _events(counters)]
    if not rows:
        return
    if statements is None:
        sql.send(_statement(gate), sql.values(rows))
    else:
        statements.add(_statement(gate), sql.values(rows))


def _events(counters: "RunCounters") -> list[str]:
    found = []
    if counters.waiting_count > counters.known_waiting:
        found.append(WAITING)
    if counters.status != counters.known_status and counters.status in statuses.ENDED_RUNS:
        is_told = counters.status != statuses.COMPLETED or _tells_of_completed()
        found += [counters.status] if is_told else []
    counters.known_status, counters.known_waiting = counters.status, counters.waiting_count
    return found


def _tells_of_completed() -> bool:
    rules = NotificationRule.objects.filter(enabled=True, on_completed=True)
    return cached("rules of completed runs", rules.exists, seconds=RULES_SECONDS)
