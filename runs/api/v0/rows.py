"""Stored states and runs as `/v0` shows them."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from graphs.definition import errors, uuids
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from runs.core import sql, statuses
from runs.engine.types import Claimed
from runs.models import Run, State
from runs.queries.lists import StateRow

EXOSPHERE_ID_DIGITS = 24
STATE_ID_DIGITS = 32
HEX_DIGITS = frozenset("0123456789abcdef")
MAX_PARENTS = 100_000  # parents that the items of one answer name in total
SUMMARY = (
    "CREATED",
    "QUEUED",
    "EXECUTED",
    "NEXT_CREATED_ERROR",
    "SUCCESS",
    "ERRORED",
    "RETRY_CREATED",
    "PRUNED",
    "CANCELLED",
    "TIMEDOUT",
)
RUN_COLUMNS = (
    "run_id",
    "graph__name",
    "success_count",
    "pending_count",
    "errored_count",
    "cancelled_count",
    "retried_count",
    "status",
    "created_at",
)


# The ancestors of some states. UNION without ALL reads an ancestor that they share only once.
@sql.statement
def _ancestors_statement() -> str:
    """The ancestors of states, by following their parents. Each step reads a primary key."""
    return f"""
        WITH RECURSIVE up(id, parent, identifier) AS (
            SELECT id, parent, identifier FROM statemanager_runs_state
            WHERE {sql.among("id", "uuid")}
            UNION
            SELECT s.id, s.parent, s.identifier
            FROM up JOIN statemanager_runs_state s ON s.id = up.parent
        )
        SELECT id, parent, identifier FROM up
    """


def state_key(text: str, error: type[errors.StateManagerError] = errors.NotFound) -> str:
    """The 32 hex digits of a state's id.

    States that were imported from an Exosphere system may be named by their ids there, which have
    24 digits. Raises the error for text that is neither.
    """
    digits = text.replace("-", "").lower()
    if len(digits) == EXOSPHERE_ID_DIGITS:
        digits = digits.rjust(STATE_ID_DIGITS, "0")
    if len(digits) != STATE_ID_DIGITS or not HEX_DIGITS.issuperset(digits):
        raise error(f"{text[:50]!r} is not a state id.")
    return digits


def items(states: Sequence[StateRow], namespace: str) -> list[JsonObject]:
    """The items of a page of states.

    They are fewer than the states if together they would name too many parents.
    """
    State.objects.fill_inputs(states)
    shown: list[JsonObject] = []
    ancestors = _Ancestors(states)
    room = MAX_PARENTS
    for state in states:
        parents = ancestors.of(state)
        room -= len(parents)
        if room < 0 and shown:
            break
        shown.append({"namespace_name": namespace, **_item(state, parents)})
    return shown


def details(state: StateRow) -> JsonObject:
    """One state of a run, without the namespace."""
    item = items([state], "")[0]
    del item["namespace_name"]
    return item


def _item(state: StateRow, parents: dict[str, str]) -> JsonObject:
    is_pruned = state.status == statuses.PRUNED
    return {
        "graph_name": state.graph_name or "",
        "run_id": state.thread,
        "id": str(state.id),
        "node_name": state.node,
        "identifier": state.identifier,
        "status": state.status,
        "inputs": state.inputs or {},
        "outputs": {} if is_pruned else state.outputs or {},
        "error": state.error or None,
        "parents": parents,
        "created_at": when(state.created_at),
        "updated_at": when(state.finished_at or state.started_at or state.created_at),
        "attempt": state.attempt,
        "retry_count": state.retry_count,
        "data": state.outputs if is_pruned else None,
    }


class _Ancestors:
    """The ancestors of some states, read in one statement."""

    def __init__(self, states: Iterable[StateRow]) -> None:
        self._by_id: dict[str, tuple[str | None, str]] = {}
        parents = {state.parent.hex for state in states if state.parent}
        if not parents:
            return
        rows = sql.run(_ancestors_statement(), [sql.choices(parents)])
        for state_id, parent, identifier in rows:
            self._by_id[sql.key(state_id)] = (sql.key(parent) if parent else None, identifier)

    def of(self, state: StateRow) -> dict[str, str]:
        """{identifier: state id} from the root to the direct parent."""
        chain: list[tuple[str, str]] = []
        current = state.parent.hex if state.parent else None
        # Imported states might be their own ancestors; the second condition ends their chains.
        while current in self._by_id and len(chain) < len(self._by_id):
            parent, identifier = self._by_id[current]
            chain.append((identifier, uuids.dashed(current)))
            current = parent
        return dict(reversed(chain))


def claimed(state: Claimed, lease_seconds: float) -> JsonObject:
    return {
        "state_id": uuids.dashed(state.id),
        "node_name": state.node.kind,
        "identifier": state.identifier,
        "inputs": state.inputs,
        "created_at": when(uuids.made_at(state.id)),
        "run_id": state.run.run_id,
        "attempt": state.attempt,
        "lease_seconds": lease_seconds,
    }


def run_row(row: tuple[str, str | None, int, int, int, int, int, str, datetime]) -> JsonObject:
    """A run's `RUN_COLUMNS` as `/v0` lists it.

    TIMEDOUT and CANCELLED states count among the errored ones.
    """
    run_id, graph, success, pending, errored, cancelled, retried, status, created_at = row
    return {
        "run_id": run_id,
        "graph_name": graph or "",
        "success_count": success,
        "pending_count": pending,
        "errored_count": errored + cancelled,
        "retried_count": retried,
        "total_count": success + pending + errored + cancelled + retried,
        "status": statuses.V0_RUN_STATUSES[status],
        "created_at": when(created_at),
        "state": status,
    }


def run_graph(run: Run | None, states: Sequence[StateRow], cursor: str | None) -> JsonObject:
    """A page of a run's states as a graph. The summary counts all states, whatever the page."""
    summary = dict.fromkeys(SUMMARY, 0)
    if run is not None:
        summary |= State.objects.filter(run=run).summary()
    edges = [
        {"source": str(state.parent), "target": str(state.id)} for state in states if state.parent
    ]
    return {
        "root_states": [_node(state) for state in states if state.parent is None],
        "graph_name": run.graph.name if run and run.graph else "",
        "nodes": [_node(state) for state in states],
        "edges": edges,
        "node_count": len(states),
        "edge_count": len(edges),
        "execution_summary": summary,
        "next": cursor,
    }


def _node(state: StateRow) -> JsonObject:
    return {
        "id": str(state.id),
        "node_name": state.node,
        "identifier": state.identifier,
        "status": state.status,
        "error": state.error or None,
    }
