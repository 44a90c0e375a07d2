"""A run as one document, which a program can store, read back and resume from: `RunState` with a `NodeState` for each node. Pure.

The document says in `version` how it is written. Version 1 knew neither pending actions, nor references to memory snapshots, nor when a node
began and ended; `from_dict` brings older documents up to date and refuses newer ones. Times are seconds since 1970 (UTC), 0 for never.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from graphs.definition import errors, payloads

VERSION = 2
KEPT_ACTIONS = 50
STRICT = ConfigDict(extra="forbid", strict=True)
Json = dict[str, Any]


class RunStatus(StrEnum):
    """Where a run is, in the document's words."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass
class NodeState:
    """One node of a run. `idempotency_key` is the same for all its attempts."""

    __pydantic_config__ = STRICT

    node_id: str
    status: str = "pending"
    input_data: Json = field(default_factory=dict)
    output_data: Json = field(default_factory=dict)
    started_at: float = 0.0
    finished_at: float = 0.0
    error: str | None = None
    attempts: int = 0
    idempotency_key: str = field(default_factory=lambda: uuid.uuid4().hex[:16])


@dataclass
class RunState:
    """Everything that is needed to go on with a run after an interruption.

    `pending_actions` are those that were decided on and not yet done; `memory_snapshots` name what is kept elsewhere, say a memory's state.
    """

    __pydantic_config__ = STRICT

    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    session_id: str = ""
    status: RunStatus = RunStatus.PENDING
    purpose: str = ""
    current_node: str = ""
    current_step: int = 0
    max_steps: int = 20
    data: Json = field(default_factory=dict)
    node_states: dict[str, NodeState] = field(default_factory=dict)
    completed_nodes: list[str] = field(default_factory=list)
    action_history: list[Json] = field(default_factory=list)
    started_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
    finished_at: float = 0.0
    tool_results_cache: Json = field(default_factory=dict)
    heuristic_count_at_checkpoint: int = 0
    experience_count_at_checkpoint: int = 0
    metadata: Json = field(default_factory=dict)
    pending_actions: list[Json] = field(default_factory=list)
    memory_snapshots: list[Any] = field(default_factory=list)
    version: int = VERSION

    def mark_node_started(self, node_id: str) -> None:
        """An attempt of the node begins."""
        node = self._node(node_id)
        node.status, node.started_at, node.finished_at, node.error = (
            "running",
            time.time(),
            0.0,
            None,
        )
        node.attempts += 1
        self.current_node = node_id
        self._did("started", node)

    def mark_node_completed(self, node_id: str, output: Json | None = None) -> None:
        """The node is done. Said twice, it is done once."""
        node = self._node(node_id)
        node.status, node.finished_at, node.error = "completed", time.time(), None
        if output:
            node.output_data = output
        if node_id not in self.completed_nodes:
            self.completed_nodes.append(node_id)
        self._did("completed", node)

    def mark_node_failed(self, node_id: str, error: str) -> None:
        """The attempt failed."""
        node = self._node(node_id)
        node.status, node.finished_at, node.error = "failed", time.time(), error
        self._did("failed", node, error=error[:500])

    def get_idempotency_key(self, tool_name: str, args_hash: str) -> str:
        """The key of a tool call: the same whenever this step calls this tool with these arguments."""
        return f"{self.run_id}:{self.current_step}:{tool_name}:{args_hash}"

    def has_cached_result(self, key: str) -> bool:
        return key in self.tool_results_cache

    def get_cached_result(self, key: str) -> Any:
        return self.tool_results_cache.get(key)

    def cache_result(self, key: str, result: Any) -> None:
        """Keep the result of a tool call. What is recorded stays: a second result under the same key is dropped."""
        self.tool_results_cache.setdefault(key, result)

    def to_dict(self) -> Json:
        """The document: JSON of the current version, with the last 50 actions."""
        return {
            **asdict(self),
            "status": self.status.value,
            "action_history": self.action_history[-KEPT_ACTIONS:],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read a document of this or an older version. Raises Malformed with every problem and its place."""
        try:
            found = _ADAPTER.validate_json(payloads.dump(upgraded(dict(document))))
        except payloads.NotJson as error:
            raise errors.Malformed(
                f"The document is no JSON that can be stored: {error}."
            ) from None
        except ValidationError as error:
            raise errors.Malformed(
                error.errors(include_url=False, include_context=False, include_input=False)
            ) from None
        return cls(**{name: getattr(found, name) for name in cls.__dataclass_fields__})

    def _node(self, node_id: str) -> NodeState:
        return self.node_states.setdefault(node_id, NodeState(node_id))

    def _did(self, action: str, node: NodeState, **more: Any) -> None:
        self.updated_at = time.time()
        self.action_history.append(
            {
                "action": action,
                "node": node.node_id,
                "attempt": node.attempts,
                "at": self.updated_at,
                **more,
            }
        )
        del self.action_history[:-KEPT_ACTIONS]


_ADAPTER = TypeAdapter(RunState)


# --- documents of older versions ------------------------------------------------------------------------------------


def upgraded(document: Json) -> Json:
    """The document as the current version writes it. Raises Malformed for a version that is newer, or none."""
    version = document.get("version", 1)
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= VERSION:
        raise errors.Malformed(
            f"version is a whole number from 1 to {VERSION}; this document says {version!r}. Newer documents need a newer State Manager."
        )
    for step in range(version, VERSION):
        document = _UPGRADES[step](document)
    return {**document, "version": VERSION}


def _from_1(document: Json) -> Json:
    """What version 1 left out got these values when it was read."""
    missing = {
        "run_id": "",
        "started_at": 0.0,
        "updated_at": 0.0,
        "pending_actions": [],
        "memory_snapshots": [],
    }
    nodes = document.get("node_states")
    if isinstance(nodes, dict):
        nodes = {
            key: {"node_id": key, "idempotency_key": "", **node} if isinstance(node, dict) else node
            for key, node in nodes.items()
        }
        document = {**document, "node_states": nodes}
    return missing | document


_UPGRADES: Mapping[int, Callable[[Json], Json]] = {1: _from_1}
