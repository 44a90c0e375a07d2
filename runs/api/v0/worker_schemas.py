"""The bodies of `/v0` for external workers. See `graphs.api.v0.schemas`."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from graphs.api.v0.schemas import Name, Stamp, StrictModel
from graphs.definition.types import Json, JsonObject
from runs.engine import store
from runs.engine.new_run import MAX_DELAY_SECONDS

Attempt = Annotated[
    int | None,
    Field(
        default=None,
        ge=1,
        lt=2**31,
        description="The attempt that the claim named; without it the status alone decides.",
    ),
]
Milliseconds = Annotated[int, Field(gt=0, le=MAX_DELAY_SECONDS * 1000)]
WorkerName = Annotated[str, StringConstraints(max_length=60)]
MAX_NODES = 1000  # node names in one claim


class EnqueueBody(StrictModel):
    """`worker` names the calling process on pages and in logs."""

    nodes: list[Name] = Field(max_length=MAX_NODES)
    batch_size: int = Field(gt=-(2**31), lt=2**31)
    worker: WorkerName = ""


class ClaimedState(BaseModel):
    """`attempt` is the fence: a report that names it isn't taken for one of another attempt.

    The lease ends after `lease_seconds` unless a heartbeat renews it.
    """

    state_id: str
    node_name: str
    identifier: str
    inputs: JsonObject
    created_at: Stamp
    run_id: str
    attempt: int
    lease_seconds: float


class EnqueueAnswer(BaseModel):
    count: int
    namespace: str
    status: Literal["QUEUED"]
    states: list[ClaimedState]


class ExecutedBody(StrictModel):
    outputs: list[JsonObject]
    attempt: Attempt


class ErroredBody(StrictModel):
    error: str
    attempt: Attempt


class PruneBody(StrictModel):
    data: JsonObject
    attempt: Attempt


class RequeueBody(StrictModel):
    """`enqueue_after` is a delay in milliseconds."""

    enqueue_after: Milliseconds
    attempt: Attempt


class ReleaseBody(StrictModel):
    attempt: Attempt


class LogShape(StrictModel):
    message: Annotated[str, StringConstraints(max_length=10_000)]
    level: Literal["debug", "info", "warning", "error"] = "info"


class HeartbeatBody(StrictModel):
    attempt: Attempt
    lease_seconds: float | None = Field(default=None, ge=1, le=store.MAX_LEASE_SECONDS)
    progress: float | None = Field(default=None, ge=0, le=1)
    logs: list[LogShape] = Field(default_factory=list, max_length=1000)


class HeartbeatAnswer(BaseModel):
    status: Literal["QUEUED"]
    lease_seconds: float


class ReportShape(StrictModel):
    """The outcome of one state.

    It has exactly one of `outputs`, `error`, `prune`, `enqueue_after` (milliseconds) and `release`.
    """

    state_id: Annotated[str, StringConstraints(max_length=64)]
    attempt: Attempt
    outputs: list[JsonObject] | None = None
    error: str | None = None
    prune: JsonObject | None = None
    enqueue_after: Milliseconds | None = None
    release: Literal[True] | None = None


class ReportBody(StrictModel):
    """Reports on several states and a claim of up to `batch_size` more."""

    reports: list[ReportShape] = Field(max_length=1000)
    nodes: list[Name] = Field(default_factory=list, max_length=MAX_NODES)
    batch_size: int = Field(default=0, ge=0, lt=2**31)
    worker: WorkerName = ""


class ReportedShape(BaseModel):
    """`code` is the status that the report alone would have had.

    It is 200, or that of the refusal in `detail`.
    """

    state_id: str
    code: int
    status: str | None = None
    retry_created: bool | None = None
    detail: Json = None


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


class ManualRetryBody(StrictModel):
    fanout_id: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class ManualRetryAnswer(BaseModel):
    id: str
    status: Literal["CREATED"]


class SecretsAnswer(BaseModel):
    secrets: dict[str, str]
