"""The bodies of `/v0` for nodes and graphs. Pydantic reads them, because the protocol's 422 answers are its error lists.

Unknown members are ignored, blanks around names don't count, and values are JSON of any type.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from graphs.definition import cron, retry_delay, validation

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Stamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
MAX_NODES_AT_ONCE = 1000


def _json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        validation.schema_validator(schema)
    except ValueError as error:
        raise ValueError(f"it is no JSON Schema: {error}"[:300]) from None
    return schema


Schema = Annotated[dict[str, Any], AfterValidator(_json_schema)]


class NodeShape(BaseModel):
    name: Name
    inputs_schema: Schema
    outputs_schema: Schema
    secrets: list[Name] = Field(max_length=100)


class RegisterBody(BaseModel):
    runtime_name: Annotated[str, StringConstraints(max_length=200)]
    nodes: list[NodeShape] = Field(max_length=MAX_NODES_AT_ONCE)


class RegisteredAnswer(BaseModel):
    runtime_name: str
    registered_nodes: list[NodeShape]


class RegisteredNodeShape(NodeShape):
    model_config = ConfigDict(populate_by_name=True)
    id: str = Field(alias="_id")
    namespace: str
    runtime_name: str
    runtime_namespace: str
    created_at: Stamp
    updated_at: Stamp


class NodesAnswer(BaseModel):
    namespace: str
    count: int
    nodes: list[RegisteredNodeShape]
    next: str | None


class NamespacesAnswer(BaseModel):
    namespaces: list[str]
    count: int
    next: str | None


Lease = Annotated[
    float | None,
    Field(
        default=None,
        ge=1,
        le=7 * 24 * 3600,
        description="seconds that a worker may hold a state without a sign of life",
    ),
]


class UnitesShape(BaseModel):
    identifier: Name
    strategy: Literal["ALL_SUCCESS", "ALL_DONE"] = "ALL_SUCCESS"


def _identifier(text: str) -> str:
    if text == "store":
        raise ValueError("the identifier 'store' is reserved")
    return text


class TemplateNode(BaseModel):
    """One node of a graph template. `namespace` is where the node is registered."""

    node_name: Name
    namespace: Annotated[str, StringConstraints(strip_whitespace=True, max_length=100)]
    identifier: Annotated[Name, AfterValidator(_identifier)]
    inputs: dict[str, Any]
    next_nodes: list[Name] = Field(default_factory=list)
    unites: UnitesShape | None = None
    lease: Lease

    @field_validator("next_nodes", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return [] if value is None else value

    @field_validator("next_nodes")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if (
            twice := sorted({name for name in value if value.count(name) > 1})
            if len(set(value)) < len(value)
            else []
        ):
            raise ValueError(f"next nodes stand here more than once: {', '.join(twice)}")
        return value


class RetryPolicyShape(BaseModel):
    """When a failed state is tried again; times in milliseconds."""

    max_retries: int = Field(default=3, ge=0, le=1000)
    strategy: Literal[tuple(sorted(retry_delay.STRATEGIES))] = "EXPONENTIAL"  # type: ignore[valid-type]
    backoff_factor: int = Field(default=2000, gt=0, lt=2**53)
    exponent: int = Field(default=2, gt=0, lt=2**53)
    max_delay: int | None = Field(default=None, gt=0, lt=2**53)


def _store_key(text: str) -> str:
    if "." in text:
        raise ValueError(f"the store key {text!r} may not hold a dot")
    return text


StoreKey = Annotated[Name, AfterValidator(_store_key)]


class StoreConfigShape(BaseModel):
    required_keys: list[StoreKey] = Field(default_factory=list, max_length=1000)
    default_values: dict[StoreKey, Any] = Field(default_factory=dict)

    @field_validator("required_keys")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("a required key stands here more than once")
        return value


class CronShape(BaseModel):
    expression: Annotated[str, StringConstraints(strip_whitespace=True)]
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _is_one(self) -> "CronShape":
        cron.check(self.expression, self.timezone)
        return self


class TriggerShape(BaseModel):
    type: Literal["CRON"]
    value: CronShape


class StoredTrigger(TriggerShape):
    """`error` says why the last due time could not start a run."""

    error: str | None = None


class GraphBody(BaseModel):
    """A graph template. What is left out gets its default, also in an update."""

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


class RollbackBody(BaseModel):
    version: int = Field(ge=1, lt=2**31)


class SecretNamesAnswer(BaseModel):
    secrets: dict[str, bool]


class SecretBody(BaseModel):
    value: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]


class DeletedAnswer(BaseModel):
    status: Literal["DELETED"]
    runs: int


class Refusal(BaseModel):
    """Every refusal: a sentence, or with 422 the list of what is wrong with the request."""

    detail: Any
