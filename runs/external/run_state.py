"""A run as one document that a program can store, read back and resume from.

`RunState` is the document and holds a `NodeState` for each node. Nothing here touches the database.

The member `version` tells how a document is written. Version 1 had no pending actions, no
references to memory snapshots and no times of nodes. `RunState.from_dict` upgrades older documents
and refuses newer ones. Times are seconds since 1970 (UTC), with 0 for "never".
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from graphs.definition import errors, payloads
from graphs.definition.types import Json, JsonObject

VERSION = 2
KEPT_ACTIONS = 50
MAX_ERROR_IN_ACTION = 500
STRICT = ConfigDict(extra="forbid", strict=True)


class RunStatus(StrEnum):
    """The status of a run as documents spell it."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass
class NodeState:
    """One node of a run. All attempts of the node share `idempotency_key`.

    `status` is usually "pending", "running", "completed", "failed", "cancelled" or "skipped". Other
    values are stored as they are and treated as "pending".
    """

    __pydantic_config__ = STRICT

    node_id: str
    status: str = "pending"
    input_data: JsonObject = field(default_factory=dict)
    output_data: JsonObject = field(default_factory=dict)
    started_at: float = 0.0
    finished_at: float = 0.0
    error: str | None = None
    attempts: int = 0
    idempotency_key: str = field(default_factory=lambda: uuid.uuid4().hex[:16])


@dataclass
class RunState:
    """Everything that a program needs to continue a run after an interruption.

    `pending_actions` are actions that were decided on but not carried out yet. `memory_snapshots`
    refer to data that is stored elsewhere, such as the state of a memory. `action_history` holds
    the last 50 actions, oldest first.
    """

    __pydantic_config__ = STRICT

    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    session_id: str = ""
    status: RunStatus = RunStatus.PENDING
    purpose: str = ""
    current_node: str = ""
    current_step: int = 0
    max_steps: int = 20
    data: JsonObject = field(default_factory=dict)
    node_states: dict[str, NodeState] = field(default_factory=dict)
    completed_nodes: list[str] = field(default_factory=list)
    action_history: list[JsonObject] = field(default_factory=list)
    started_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
    finished_at: float = 0.0
    tool_results_cache: JsonObject = field(default_factory=dict)
    heuristic_count_at_checkpoint: int = 0
    experience_count_at_checkpoint: int = 0
    metadata: JsonObject = field(default_factory=dict)
    pending_actions: list[JsonObject] = field(default_factory=list)
    memory_snapshots: list[Json] = field(default_factory=list)
    version: int = VERSION

    def mark_node_started(self, node_id: str) -> None:
        """Record that a new attempt of the node has started. An unknown node is added."""
        node = self._node(node_id)
        node.status = "running"
        node.started_at = time.time()
        node.finished_at = 0.0
        node.error = None
        node.attempts += 1
        self._not_completed(node_id)
        self.current_node = node_id
        self._record_action("started", node)

    def mark_node_completed(self, node_id: str, output: JsonObject | None = None) -> None:
        """Record that the node has completed. Without `output`, an earlier output is kept."""
        node = self._node(node_id)
        node.status = "completed"
        node.finished_at = time.time()
        node.error = None
        if output is not None:
            node.output_data = output
        if node_id not in self.completed_nodes:
            self.completed_nodes.append(node_id)
        self._record_action("completed", node)

    def mark_node_failed(self, node_id: str, error: str) -> None:
        """Record that the current attempt of the node has failed with this error message."""
        node = self._node(node_id)
        node.status = "failed"
        node.finished_at = time.time()
        node.error = error
        self._not_completed(node_id)
        self._record_action("failed", node, error=error[:MAX_ERROR_IN_ACTION])

    def _not_completed(self, node_id: str) -> None:
        """A node that starts again or fails is no longer completed."""
        if node_id in self.completed_nodes:
            self.completed_nodes.remove(node_id)

    def get_idempotency_key(self, tool_name: str, args_hash: str) -> str:
        """Return the key of a tool call. It is the same for the same step, tool and arguments."""
        return f"{self.run_id}:{self.current_step}:{tool_name}:{args_hash}"

    def has_cached_result(self, key: str) -> bool:
        """Return whether a result is recorded under this key."""
        return key in self.tool_results_cache

    def get_cached_result(self, key: str) -> Json:
        """Return the result that is recorded under this key, or None."""
        return self.tool_results_cache.get(key)

    def cache_result(self, key: str, result: Json) -> None:
        """Record the result of a tool call. A result that is already recorded is not replaced."""
        self.tool_results_cache.setdefault(key, result)

    def to_dict(self) -> JsonObject:
        """Return the document as JSON of the current version, with the last 50 actions."""
        return {
            **asdict(self),
            "status": self.status.value,
            "action_history": self.action_history[-KEPT_ACTIONS:],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Json]) -> Self:
        """Read a document of the current version or an older one.

        Raises Malformed if the document can't be stored, is of an unknown version or doesn't fit
        the schema. The error then lists every problem with its place.
        """
        try:
            state = _ADAPTER.validate_json(payloads.dump(upgrade(dict(document))))
        except payloads.NotJson as error:
            raise errors.Malformed(f"The document can't be stored as JSON: {error}.") from None
        except ValidationError as error:
            raise errors.Malformed(
                error.errors(include_url=False, include_context=False, include_input=False)
            ) from None
        return cls(**{name: getattr(state, name) for name in cls.__dataclass_fields__})

    def _node(self, node_id: str) -> NodeState:
        return self.node_states.setdefault(node_id, NodeState(node_id))

    def _record_action(self, action: str, node: NodeState, **details: Json) -> None:
        self.updated_at = time.time()
        self.action_history.append(
            {
                "action": action,
                "node": node.node_id,
                "attempt": node.attempts,
                "at": self.updated_at,
                **details,
            }
        )
        del self.action_history[:-KEPT_ACTIONS]


_ADAPTER = TypeAdapter(RunState)


# --- documents of older versions ----------------------------------------------------------------


def upgrade(document: JsonObject) -> JsonObject:
    """Return the document as the current version writes it.

    A document without a version is of version 1. Raises Malformed if the version is newer than ours
    or not a version at all.
    """
    version = document.get("version", 1)
    is_number = isinstance(version, int) and not isinstance(version, bool)
    if not is_number or not 1 <= version <= VERSION:
        raise errors.Malformed(
            f"The version of a document is a whole number from 1 to {VERSION}, not {version!r}."
            " A newer document needs a newer State Manager."
        )
    for step in range(version, VERSION):
        document = _UPGRADES[step](document)
    return {**document, "version": VERSION}


def _upgrade_from_1(document: JsonObject) -> JsonObject:
    """Add the members that version 1 left out, with the values that its readers assumed."""
    missing: JsonObject = {
        "run_id": "",
        "started_at": 0.0,
        "updated_at": 0.0,
        "pending_actions": [],
        "memory_snapshots": [],
    }
    nodes = document.get("node_states")
    if isinstance(nodes, dict):
        document = {
            **document,
            "node_states": {key: _upgrade_node_from_1(key, node) for key, node in nodes.items()},
        }
    return missing | document


def _upgrade_node_from_1(key: str, node: Json) -> Json:
    if not isinstance(node, dict):
        return node  # the schema refuses it and says where it is
    return {"node_id": key, "idempotency_key": "", **node}


_UPGRADES: Mapping[int, Callable[[JsonObject], JsonObject]] = {1: _upgrade_from_1}
