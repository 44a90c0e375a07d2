"""The values that pass between the engine's rooms: what is known of a run, a claimed state, and what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from graphs.definition.plan import Plan, PlanNode
from graphs.models import namespace_id, plan_of

Line = tuple[datetime, str, str]  # when, level, message


@dataclass(slots=True)
class RunFacts:
    """What never changes of a run, so that a process may keep it."""

    pk: int
    run_id: str
    namespace_id: int
    namespace: str
    version_id: int
    dataset_id: int | None
    inputs: Mapping[str, Any]
    store: Mapping[str, Any]

    @property
    def plan(self) -> Plan:
        return plan_of(self.version_id)

    def worker_namespace(self, name: str) -> int | None:
        """The id of the namespace that an external node is registered in; None for nodes of our own processes."""
        return namespace_id(name) if name else None


@dataclass(slots=True)
class Claimed:
    """A state in the hands of a worker. `attempt` is the fence that every write of it carries."""

    id: str
    run: RunFacts
    identifier: str
    path: str
    inputs: Any
    attempt: int | None
    parent: str | None = None
    retry_count: int = 0
    lost_leases: int = 0
    answer: Any = None

    @property
    def node(self) -> PlanNode:
        return self.run.plan.nodes[self.identifier]

    @property
    def step(self) -> str:
        return f"{self.identifier}@{self.path}" if self.path else self.identifier


@dataclass(slots=True)
class Outcome:
    """What came of a claimed state.

    `kind`: done, error, prune, again (run once more after `delay` seconds), wait (for a person), release (not begun; gives the
    state back) or lost (its lease ended). `outputs` are JSON texts, one an output; `fanned` says that they are a list.
    """

    state: Claimed
    kind: str
    outputs: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    fanned: bool = False
    error: str = ""
    delay: float = 0.0
    waiting_for: str | None = None
    emitted: int = 0
    lines: list[Line] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    refused: bool = False  # it is an error because of what a worker reported


@dataclass(slots=True)
class NewState:
    """A state about to be stored. `delay` in seconds; None means that it isn't due before something happens."""

    id: str
    run: RunFacts
    identifier: str
    path: str
    parent: str | None
    inputs: Any
    inputs_json: str | None
    delay: float | None = 0.0
    retry_count: int = 0
    joined: bool = False
    status: str = "CREATED"
    outputs_json: str | None = None
    chosen_json: str | None = None
    error: str = ""

    def claimed(self) -> Claimed:
        return Claimed(
            self.id,
            self.run,
            self.identifier,
            self.path,
            self.inputs,
            1,
            self.parent,
            self.retry_count,
        )


@dataclass(slots=True)
class Lease:
    """Who takes the successors that it runs next, for how many seconds; `wants` is asked for each new state."""

    worker: str
    seconds: float
    wants: Callable[[NewState], bool]


def worker_name(cluster: str, process: int | str) -> str:
    """How a process of a cluster signs what it claims."""
    return f"{cluster}:{process}"
