"""The bodies of `/v0` for states and runs (contract sections A.2, A.8 and B). See `graphs.api.v0.schemas`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from graphs.api.v0.schemas import Name, Stamp
from runs.core import statuses
from runs.engine.start import MAX_DELAY_SECONDS
from runs.engine.store import MAX_LEASE_SECONDS

Status = Literal[statuses.STATE_STATUSES]  # type: ignore[valid-type]
Attempt = Annotated[
    int | None,
    Field(
        default=None,
        ge=1,
        lt=2**31,
        description="the attempt that the claim named; without it the status alone decides",
    ),
]
Millis = Annotated[int, Field(gt=0, le=MAX_DELAY_SECONDS * 1000)]
MAX_KINDS = 1000


class AskedState(BaseModel):
    identifier: Name
    inputs: dict[str, Any]


class CreateBody(BaseModel):
    run_id: Name
    states: list[AskedState] = Field(min_length=1, max_length=10_000)


class CreatedState(BaseModel):
    state_id: str
    node_name: str
    identifier: str
    graph_name: str
    run_id: str
    inputs: dict[str, Any]
    created_at: Stamp


class CreateAnswer(BaseModel):
    status: Literal["CREATED"]
    states: list[CreatedState]


class TriggerBody(BaseModel):
    """`inputs`, `store` and `start_delay` (ms), or the older form `states`; `run_id` may be the caller's own."""

    inputs: dict[str, Any] = Field(default_factory=dict)
    store: dict[str, Any] = Field(default_factory=dict)
    start_delay: int = Field(default=0, ge=0, le=MAX_DELAY_SECONDS * 1000)
    states: list[AskedState] | None = Field(default=None, min_length=1, max_length=10_000)
    run_id: Name | None = None


class TriggerAnswer(BaseModel):
    status: Literal["CREATED"]
    run_id: str
    states: list[CreatedState] = []


class EnqueueBody(BaseModel):
    """`worker` names the process that asks, for people to see."""

    nodes: list[Name] = Field(max_length=MAX_KINDS)
    batch_size: int = Field(gt=-(2**31), lt=2**31)
    worker: Annotated[str, StringConstraints(max_length=60)] = ""


class ClaimedState(BaseModel):
    """`attempt` is the fence: reports that carry it can't be mistaken for those of another attempt. `lease_seconds` is how long it may be held."""

    state_id: str
    node_name: str
    identifier: str
    inputs: dict[str, Any]
    created_at: Stamp
    run_id: str
    attempt: int
    lease_seconds: float


class EnqueueAnswer(BaseModel):
    count: int
    namespace: str
    status: Literal["QUEUED"]
    states: list[ClaimedState]


class ExecutedBody(BaseModel):
    outputs: list[dict[str, Any]]
    attempt: Attempt


class ErroredBody(BaseModel):
    error: str
    attempt: Attempt


class PruneBody(BaseModel):
    data: dict[str, Any]
    attempt: Attempt


class RequeueBody(BaseModel):
    """`enqueue_after` is a delay in milliseconds."""

    enqueue_after: Millis
    attempt: Attempt


class ReleaseBody(BaseModel):
    attempt: Attempt


class LogShape(BaseModel):
    message: Annotated[str, StringConstraints(max_length=10_000)]
    level: Literal["debug", "info", "warning", "error"] = "info"


class HeartbeatBody(BaseModel):
    attempt: Attempt
    lease_seconds: float | None = Field(default=None, ge=1, le=MAX_LEASE_SECONDS)
    progress: float | None = Field(default=None, ge=0, le=1)
    logs: list[LogShape] = Field(default_factory=list, max_length=1000)


class HeartbeatAnswer(BaseModel):
    status: Literal["QUEUED"]
    lease_seconds: float


class ReportShape(BaseModel):
    """What came of one state: exactly one of `outputs`, `error`, `prune`, `enqueue_after` (ms) and `release`."""

    state_id: Annotated[str, StringConstraints(max_length=64)]
    attempt: Attempt
    outputs: list[dict[str, Any]] | None = None
    error: str | None = None
    prune: dict[str, Any] | None = None
    enqueue_after: Millis | None = None
    release: Literal[True] | None = None


class ReportBody(BaseModel):
    """Reports of several states and, in the same request, a claim of up to `batch_size` more."""

    reports: list[ReportShape] = Field(max_length=1000)
    nodes: list[Name] = Field(default_factory=list, max_length=MAX_KINDS)
    batch_size: int = Field(default=0, ge=0, lt=2**31)
    worker: Annotated[str, StringConstraints(max_length=60)] = ""


class ReportedShape(BaseModel):
    """`code` is what the report alone would have been answered with: 200, or that of the refusal in `detail`."""

    state_id: str
    code: int
    status: str | None = None
    retry_created: bool | None = None
    detail: Any = None


class ReportAnswer(EnqueueAnswer):
    reports: list[ReportedShape]


class ExecutedAnswer(BaseModel):
    status: Literal["EXECUTED"]


class ErroredAnswer(BaseModel):
    status: Literal["ERRORED"]
    retry_created: bool


class PrunedAnswer(BaseModel):
    status: Literal["PRUNED"]
    enqueue_after: int


class RequeuedAnswer(BaseModel):
    """`enqueue_after` is when the state is due, in milliseconds since 1970."""

    status: Literal["CREATED"]
    enqueue_after: int


class ReleasedAnswer(BaseModel):
    status: Literal["CREATED"]


class ManualRetryBody(BaseModel):
    fanout_id: Name


class ManualRetryAnswer(BaseModel):
    id: str
    status: Literal["CREATED"]


class SecretsAnswer(BaseModel):
    secrets: dict[str, str]


class NodeDetails(BaseModel):
    """A state. `parents` maps the identifiers of all states on the way from the root to their ids; `data` is what a pruned one was given."""

    id: str
    node_name: str
    identifier: str
    graph_name: str
    run_id: str
    status: Status
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    error: str | None
    parents: dict[str, str]
    created_at: Stamp
    updated_at: Stamp
    attempt: int
    retry_count: int
    data: dict[str, Any] | None


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
    state: Literal[statuses.RUN_STATUSES]  # type: ignore[valid-type]


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
    status: Status
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
    """`status` is our own word for where the run is now; `retried` is the number of new states."""

    run_id: str
    status: Literal[statuses.RUN_STATUSES]  # type: ignore[valid-type]
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
    status: Literal[statuses.RUN_STATUSES]  # type: ignore[valid-type]
    duration_seconds: float | None
    states: int
    failed: int
    failure_rate: float
    nodes: list[NodeMetrics]


class GraphMetrics(BaseModel):
    """Over the graph's newest runs, at most 100."""

    graph_name: str
    runs: int
    failed: int
    failure_rate: float
    p50_seconds: float | None
    p95_seconds: float | None
    nodes: list[NodeMetrics]
