"""The bodies of `/v0` for runs and states. See `graphs.api.v0.schemas`."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from graphs.api.v0.schemas import Name, Stamp, StrictModel
from graphs.definition.schema import MAX_PRIORITY, MIN_PRIORITY
from graphs.definition.types import JsonObject
from runs.core import statuses
from runs.engine.new_run import MAX_DELAY_SECONDS

StateStatus = Literal[statuses.STATE_STATUSES]  # type: ignore[valid-type]
RunStatus = Literal[statuses.RUN_STATUSES]  # type: ignore[valid-type]
MAX_CREATED_STATES = 10_000
# With its blanks: a run id that begins or ends with one is refused, not that of another run.
RunId = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class AskedState(StrictModel):
    identifier: Name
    inputs: JsonObject


class CreateBody(StrictModel):
    """`inputs` are those of the run, which later nodes may refer to; each state has its own.

    `start_delay` is in milliseconds, until the states can be claimed.
    """

    run_id: RunId
    inputs: JsonObject | None = None
    start_delay: int = Field(default=0, ge=0, le=MAX_DELAY_SECONDS * 1000)
    states: list[AskedState] = Field(min_length=1, max_length=MAX_CREATED_STATES)


class CreatedState(BaseModel):
    state_id: str
    node_name: str
    identifier: str
    graph_name: str
    run_id: str
    inputs: JsonObject
    created_at: Stamp


class CreateAnswer(BaseModel):
    status: Literal["CREATED"]
    states: list[CreatedState]


class TriggerBody(StrictModel):
    """`inputs`, `store` and `start_delay` (milliseconds), or `states` in the older form.

    `run_id` may be chosen by the caller.
    """

    inputs: JsonObject = Field(default_factory=dict)
    store: JsonObject = Field(default_factory=dict)
    start_delay: int = Field(default=0, ge=0, le=MAX_DELAY_SECONDS * 1000)
    states: list[AskedState] | None = Field(
        default=None, min_length=1, max_length=MAX_CREATED_STATES
    )
    run_id: RunId | None = None
    priority: int | None = Field(default=None, ge=MIN_PRIORITY, le=MAX_PRIORITY)


class TriggerAnswer(BaseModel):
    status: Literal["CREATED"]
    run_id: str
    states: list[CreatedState] = []


class NodeDetails(BaseModel):
    """A state.

    `parents` maps the identifiers of its ancestors, from the root on, to their ids. `data` is the
    data of a report that pruned it.
    """

    id: str
    node_name: str
    identifier: str
    graph_name: str
    run_id: str
    status: StateStatus
    inputs: JsonObject
    outputs: JsonObject
    error: str | None
    parents: dict[str, str]
    created_at: Stamp
    updated_at: Stamp
    attempt: int
    retry_count: int
    data: JsonObject | None


class StateItem(NodeDetails):
    namespace_name: str


class RunStatesAnswer(BaseModel):
    namespace: str
    run_id: str
    count: int
    states: list[StateItem]
    next: str | None


class StatesAnswer(BaseModel):
    namespace: str
    count: int
    states: list[StateItem]
    run_ids: list[str]
    next: str | None


class RunRow(BaseModel):
    run_id: str
    graph_name: str
    success_count: int
    pending_count: int
    errored_count: int
    retried_count: int
    total_count: int
    status: Literal["PENDING", "SUCCESS", "FAILED"]
    created_at: Stamp
    state: RunStatus


class RunsAnswer(BaseModel):
    namespace: str
    total: int
    page: int
    size: int
    runs: list[RunRow]


class GraphNode(BaseModel):
    id: str
    node_name: str
    identifier: str
    status: StateStatus
    error: str | None


class GraphEdge(BaseModel):
    source: str
    target: str


class RunGraphAnswer(BaseModel):
    root_states: list[GraphNode]
    graph_name: str
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    node_count: int
    edge_count: int
    execution_summary: dict[str, int]
    next: str | None


class SteeredAnswer(BaseModel):
    """`status` is the run's status now; `retried` is the number of new states."""

    run_id: str
    status: RunStatus
    retried: int | None = None


class NodeMetrics(BaseModel):
    identifier: str
    states: int
    succeeded: int
    failed: int
    retried: int
    failure_rate: float
    mean_seconds: float | None
    p50_seconds: float | None
    p95_seconds: float | None


class RunMetrics(BaseModel):
    run_id: str
    status: RunStatus
    duration_seconds: float | None
    states: int
    failed: int
    failure_rate: float
    nodes: list[NodeMetrics]


class GraphMetrics(BaseModel):
    """Of the graph's newest runs, at most 100."""

    graph_name: str
    runs: int
    failed: int
    failure_rate: float
    p50_seconds: float | None
    p95_seconds: float | None
    nodes: list[NodeMetrics]
