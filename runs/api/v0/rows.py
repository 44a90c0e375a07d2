"""Stored states and runs as `/v0` shows them."""

from collections.abc import Iterable, Sequence
from typing import Any

from graphs.api.v0.views import stamp
from graphs.definition import uuids
from runs.core import sql, statuses
from runs.engine.types import Claimed
from runs.models import Run, State
from runs.queries.lists import StateRow

MAX_PARENTS = 100_000  # that the items of one answer name in all
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
    "run_id", "graph__name", "success_count", "pending_count", "errored_count", "cancelled_count", "retried_count", "status", "created_at",
)  # fmt: skip

_UP = """
    WITH RECURSIVE up(id, parent, identifier) AS (
        SELECT id, parent, identifier FROM statemanager_runs_state WHERE {among}
        UNION SELECT s.id, s.parent, s.identifier FROM up JOIN statemanager_runs_state s ON s.id = up.parent)
    SELECT id, parent, identifier FROM up
"""


def items(states: Sequence[StateRow], namespace: str) -> list[dict[str, Any]]:
    """The items of a page of states, read with their runs; fewer than asked when together they would name too many parents."""
    State.objects.fill_inputs(states)
    shown: list[dict[str, Any]] = []
    lineage, room = _Lineage(states), MAX_PARENTS
    for state in states:
        parents = lineage.of(state)
        room -= len(parents)
        if room < 0 and shown:
            break
        shown.append(
            {
                "namespace_name": namespace,
                "graph_name": state.graph_name or "",
                "run_id": state.thread,
                **_item(state, parents),
            }
        )
    return shown


def _item(state: StateRow, parents: dict[str, str]) -> dict[str, Any]:
    pruned = state.status == statuses.PRUNED
    return {
        "id": str(state.id),
        "node_name": state.node,
        "identifier": state.identifier,
        "status": state.status,
        "inputs": state.inputs or {},
        "outputs": {} if pruned else state.outputs or {},
        "error": state.error or None,
        "parents": parents,
        "created_at": stamp(state.created_at),
        "updated_at": stamp(state.finished_at or state.started_at or state.created_at),
        "attempt": state.attempt,
        "retry_count": state.retry_count,
        "data": state.outputs if pruned else None,
    }


def details(state: StateRow) -> dict[str, Any]:
    """Contract A.2, route 18."""
    shown = items([state], "")[0]
    del shown["namespace_name"]
    return shown


class _Lineage:
    """The ancestors of some states, read in one statement."""

    def __init__(self, states: Iterable[StateRow]) -> None:
        first = {state.parent.hex for state in states if state.parent}
        rows = (
            sql.run(_UP.format(among=sql.among("id", "uuid")), [sql.choices(first)])
            if first
            else []
        )
        self._rows = {sql.key(row[0]): (row[1] and sql.key(row[1]), row[2]) for row in rows}

    def of(self, state: StateRow) -> dict[str, str]:
        """{identifier: state id} from the root to the direct parent."""
        chain: list[tuple[str, str]] = []
        at = state.parent and state.parent.hex
        while (
            at and at in self._rows and len(chain) < len(self._rows)
        ):  # imported rows might run in a circle
            parent, identifier = self._rows[at]
            chain.append((identifier, uuids.dashed(at)))
            at = parent
        return dict(reversed(chain))


def claimed(state: Claimed, seconds: float) -> dict[str, Any]:
    return {
        "state_id": uuids.dashed(state.id),
        "node_name": state.node.kind,
        "identifier": state.identifier,
        "inputs": state.inputs,
        "created_at": stamp(uuids.made_at(state.id)),
        "run_id": state.run.run_id,
        "attempt": state.attempt,
        "lease_seconds": seconds,
    }


def run_row(row: tuple[Any, ...]) -> dict[str, Any]:
    """A run's `RUN_COLUMNS` as a row of the runs list: TIMEDOUT and CANCELLED states count among the errored."""
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
        "created_at": stamp(created_at),
        "state": status,
    }


def run_graph(run: Run | None, states: Sequence[StateRow], following: str | None) -> dict[str, Any]:
    """Contract A.8. The summary counts all states of the run, whatever the page."""
    nodes = [_node(state) for state in states]
    edges = [
        {"source": str(state.parent), "target": str(state.id)} for state in states if state.parent
    ]
    counted = dict.fromkeys(SUMMARY, 0)
    if run is not None:
        counted |= State.objects.filter(run=run).summary()
    return {
        "root_states": [
            node for node, state in zip(nodes, states, strict=True) if state.parent is None
        ],
        "graph_name": run.graph.name if run and run.graph else "",
        "nodes": nodes,
        "edges": edges,
        "node_count": len(nodes),
        "edge_count": len(edges),
        "execution_summary": counted,
        "next": following,
    }


def _node(state: StateRow) -> dict[str, Any]:
    return {
        "id": str(state.id),
        "node_name": state.node,
        "identifier": state.identifier,
        "status": state.status,
        "error": state.error or None,
    }
