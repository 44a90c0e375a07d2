"""The values that the engine's modules pass to each other: what is known about a run, a claimed
state, what came of it, and the states that follow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import quote
from weakref import ref

from graphs.definition import payloads
from graphs.definition.plan import Plan, PlanNode
from graphs.definition.types import Json
from graphs.models import namespace_id, plan_of
from graphs.nodes.base import File
from runs.core import statuses

if TYPE_CHECKING:
    from runs.models import Run

Line = tuple[datetime, str, str]  # time, level, message
Moment = datetime | str  # a time as the database returns it: SQLite's are texts
OutcomeKind = Literal["done", "error", "prune", "again", "wait", "release", "lost"]


class OutputFile(File):
    """A file that a node made. `kind` is "file" or "table"."""

    kind: str


@dataclass(slots=True)
class RunFacts:
    """The columns of a run that never change, so that a process may cache them."""

    pk: int
    created_at: Moment | None  # as the database returns it
    run_id: str
    namespace_id: int
    namespace: str
    version_id: int
    checksum: str  # of the version
    dataset_id: int | None
    inputs: Mapping[str, Json]
    store: Mapping[str, Json]
    priority: int = 0
    _plan: ref[Plan] | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, run: "Run", checksum: str) -> Self:
        """The facts about a run, stored or not, given the checksum of its version."""
        return cls(
            pk=run.pk or 0,
            created_at=None,
            run_id=run.run_id,
            namespace_id=run.namespace_id,
            namespace=run.namespace.name,
            version_id=run.version_id or 0,
            checksum=checksum,
            dataset_id=run.dataset_id,
            inputs=run.initial_data,
            store=run.store,
            priority=run.priority,
        )

    @property
    def plan(self) -> Plan:
        """The plan of the version.

        It is remembered weakly, because the cache of plans bounds their size.
        """
        known = self._plan() if self._plan is not None else None
        if known is None:
            known = plan_of(self.version_id, self.checksum)
            self._plan = ref(known)
        return known

    def worker_namespace(self, name: str) -> int | None:
        """The id of the namespace in which an external node is registered; None for our nodes."""
        return namespace_id(name) if name else None


def idempotency_key(namespace: str, run_id: str, step: str) -> str:
    """The key that all attempts of a step share, and nothing else in this installation.

    It goes into headers, so it is ASCII: other characters are percent-encoded (RFC 3986), as are
    those that would make two keys alike.
    """
    return ":".join([quote(namespace, safe=""), quote(run_id, safe=""), quote(step, safe="@:")])


def step_name(identifier: str, path: str) -> str:
    """The name of a step, which all attempts and retries share, and no other step of the run.

    An identifier may have an @ of its own; it is percent-encoded.
    """
    identifier = identifier.replace("%", "%25").replace("@", "%40")
    return f"{identifier}@{path}" if path else identifier


@dataclass(slots=True)
class Claimed:
    """A state in the hands of a worker. `attempt` is the fence of everything it writes."""

    id: str
    run: RunFacts
    identifier: str
    path: str
    inputs: Json
    attempt: int | None
    parent: str | None = None
    retry_count: int = 0
    lost_leases: int = 0
    answer: Json = None
    _node: PlanNode | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def node(self) -> PlanNode:
        if self._node is None:
            self._node = self.run.plan.nodes[self.identifier]
        return self._node

    @property
    def step(self) -> str:
        return step_name(self.identifier, self.path)


@dataclass(slots=True)
class Outcome:
    """What came of a claimed state. `kind` is one of:

    - `done`: it has outputs. `outputs` are JSON texts, one for each output, and `values` the same
      decoded. `fanned` says that they are a fan-out, even if there is one or none.
    - `error`: it failed, because of `error`.
    - `prune`: its branch ends here, without failing.
    - `again`: run it once more after `delay` seconds.
    - `wait`: it needs the answer of a person (`waiting_for`, as JSON).
    - `release`: it was not begun; give it back.
    - `lost`: its lease ended.

    `answer_by` are the seconds within which a person is to answer, None without a limit.

    `holder` is the worker that was lost, and since when it had the state.

    `stuck` says why nothing may follow from it, neither next states nor a retry. Without `joins` it
    doesn't make joins run either.
    """

    state: Claimed
    kind: OutcomeKind
    outputs: list[str] = field(default_factory=list)
    values: list[Json] = field(default_factory=list)
    fanned: bool = False
    error: str = ""
    delay: float = 0.0
    waiting_for: str | None = None
    answer_by: float | None = None
    emitted: int = 0
    lines: list[Line] = field(default_factory=list)
    files: list[OutputFile] = field(default_factory=list)
    refused: bool = False  # an error because the worker's report was not acceptable
    stuck: str = ""
    joins: bool = True
    holder: str = ""

    @property
    def size(self) -> int:
        """The bytes that its first output and its files take; the other outputs are siblings."""
        files = sum(file["size"] for file in self.files)
        return files + payloads.size(self.outputs[0] if self.outputs else None)


@dataclass(slots=True)
class NewState:
    """A state to be stored. `delay` is in seconds; None means that it is not due at any time."""

    id: str
    run: RunFacts
    identifier: str
    path: str
    parent: str | None
    inputs: Json
    inputs_json: str | None
    delay: float | None = 0.0
    retry_count: int = 0
    joined: bool = False
    status: str = statuses.CREATED
    outputs_json: str | None = None
    chosen_json: str | None = None
    error: str = ""

    @property
    def size(self) -> int:
        """The bytes of its inputs and outputs."""
        return payloads.size(self.inputs_json) + payloads.size(self.outputs_json)

    def claimed(self) -> Claimed:
        """The state as its first worker sees it."""
        return Claimed(
            self.id,
            self.run,
            self.identifier,
            self.path,
            self.inputs,
            attempt=1,
            parent=self.parent,
            retry_count=self.retry_count,
        )


@dataclass(slots=True)
class Lease:
    """A worker that takes successors as soon as they are stored, for this many seconds.

    `wants` is called once for each new state that is free to be taken.
    """

    worker: str
    seconds: float
    wants: Callable[[NewState], bool]


def worker_name(cluster: str, process: int | str) -> str:
    """The name under which a process of a cluster claims states."""
    return f"{cluster}:{process}"
