"""The bodies of `/v0` for graphs.

Pydantic reads them, because the protocol's 422 answers are its lists of errors. Unknown members are
ignored, spaces around names are removed, and values are JSON of any type.
"""

from collections import Counter
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from graphs.definition import cron, retry_delay
from graphs.definition.types import Json, JsonObject

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Stamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


Lease = Annotated[
    float | None,
    Field(
        default=None,
        ge=1,
        le=7 * 24 * 3600,
        description="The seconds for which a worker may hold a state without a heartbeat.",
    ),
]


class StrictModel(BaseModel):
    # What a body consists of. A number in quotes or a true is no number. (A docstring would be
    # shown in the schema for every model that has none.)
    model_config = ConfigDict(strict=True)


class UnitesShape(StrictModel):
    identifier: Name
    strategy: Literal["ALL_SUCCESS", "ALL_DONE"] = "ALL_SUCCESS"


def _identifier(text: str) -> str:
    if text == "store":
        raise ValueError("the identifier 'store' is reserved")
    return text


class TemplateNode(StrictModel):
    """One node of a graph template. `namespace` is where the node is registered."""

    node_name: Name
    namespace: Annotated[str, StringConstraints(strip_whitespace=True, max_length=100)]
    identifier: Annotated[Name, AfterValidator(_identifier)]
    inputs: JsonObject
    next_nodes: list[Name] = Field(default_factory=list)
    unites: UnitesShape | None = None
    lease: Lease

    @field_validator("next_nodes", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Json) -> Json:
        return [] if value is None else value

    @field_validator("next_nodes")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        repeated = sorted(name for name, count in Counter(value).items() if count > 1)
        if repeated:
            raise ValueError(f"these next nodes are listed more than once: {', '.join(repeated)}")
        return value


class RetryPolicyShape(StrictModel):
    """When a failed state is retried; times are in milliseconds."""

    max_retries: int = Field(default=3, ge=0, le=1000)
    strategy: Literal[tuple(sorted(retry_delay.STRATEGIES))] = "EXPONENTIAL"  # type: ignore[valid-type]
    backoff_factor: int = Field(default=2000, gt=0, lt=2**53)
    exponent: int = Field(default=2, gt=0, lt=2**53)
    max_delay: int | None = Field(default=None, gt=0, lt=2**53)


def _store_key(text: str) -> str:
    if "." in text:
        raise ValueError(f"the store key {text!r} can't contain a dot")
    return text


StoreKey = Annotated[Name, AfterValidator(_store_key)]


class StoreConfigShape(StrictModel):
    required_keys: list[StoreKey] = Field(default_factory=list, max_length=1000)
    default_values: dict[StoreKey, Json] = Field(default_factory=dict)

    @field_validator("required_keys")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("a required key is listed more than once")
        return value


class CronShape(StrictModel):
    expression: Annotated[str, StringConstraints(strip_whitespace=True)]
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _check(self) -> "CronShape":
        cron.check(self.expression, self.timezone)
        return self


class TriggerShape(StrictModel):
    type: Literal["CRON"]
    value: CronShape


class StoredTrigger(TriggerShape):
    """`error` says why no run could be started when the trigger was last due."""

    error: str | None = None


class GraphBody(StrictModel):
    """A graph template. Members that are left out get their defaults, also in an update."""

    secrets: dict[Name, Annotated[str, StringConstraints(min_length=1, max_length=100_000)]]
    nodes: list[TemplateNode]
    retry_policy: RetryPolicyShape | None = None
    store_config: StoreConfigShape | None = None
    triggers: list[TriggerShape] | None = Field(default=None, max_length=100)
    lease: Lease


class GraphAnswer(BaseModel):
    nodes: list[TemplateNode]
    secrets: dict[str, bool]
    retry_policy: RetryPolicyShape
    store_config: StoreConfigShape
    lease: Lease
    triggers: list[StoredTrigger]
    created_at: Stamp
    updated_at: Stamp
    validation_status: Literal["VALID", "INVALID"]
    validation_errors: list[str]
    version: int


class NamedGraphAnswer(GraphAnswer):
    model_config = ConfigDict(populate_by_name=True)
    id: str = Field(alias="_id")
    name: str
    namespace: str


class GraphsAnswer(BaseModel):
    namespace: str
    count: int
    templates: list[NamedGraphAnswer]
    next: str | None


class VersionShape(BaseModel):
    version: int
    current: bool
    validation_status: Literal["VALID", "INVALID"]
    checksum: str
    note: str
    created_at: Stamp
    created_by: str | None


class VersionsAnswer(BaseModel):
    namespace: str
    graph_name: str
    count: int
    versions: list[VersionShape]
    next: str | None


class VersionAnswer(VersionShape):
    nodes: list[TemplateNode]
    retry_policy: RetryPolicyShape
    store_config: StoreConfigShape
    lease: Lease
    validation_errors: list[str]


class RollbackBody(StrictModel):
    version: int = Field(ge=1, lt=2**31)


class SecretNamesAnswer(BaseModel):
    secrets: dict[str, bool]


class SecretBody(StrictModel):
    value: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]


class DeletedAnswer(BaseModel):
    status: Literal["DELETED"]
    runs: int


class Refusal(BaseModel):
    """Every refusal: a sentence, or with 422 the list of the request's errors."""

    detail: Json
