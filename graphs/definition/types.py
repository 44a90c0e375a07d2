"""The types of JSON values and of a graph's definition."""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

# What a tenant puts into inputs, outputs and labels: any JSON value. Python's type system can't
# describe one usefully, so these names say at least that JSON is meant.
Json = Any
JsonObject = dict[str, Any]
Schema = Mapping[str, Any]  # a JSON Schema


class Position(TypedDict, total=False):
    """Where a node was put by hand: its upper left corner in the picture."""

    x: float
    y: float


class Unites(TypedDict):
    """The node whose fan-out a node unites, and what happens when one of the branches failed."""

    identifier: str
    strategy: NotRequired[Literal["ALL_SUCCESS", "ALL_DONE"]]


class RetryPolicy(TypedDict, total=False):
    """How often and how late a failed step is tried again. Delays are milliseconds."""

    max_retries: int
    strategy: str
    backoff_factor: float
    exponent: float
    max_delay: float | None


class NodeData(TypedDict, total=False):
    """What a node works on and how it runs. `timeout` and `lease` are seconds."""

    inputs: JsonObject
    unites: Unites | None
    retry: RetryPolicy
    timeout: float
    lease: float | None
    side_effects: bool


class NodeDefinition(TypedDict):
    """A node of a graph.

    Publishing writes out the `namespace` and adds `text`: the inputs that the node's registered
    schema wants as text.
    """

    id: str
    kind: str
    namespace: NotRequired[str]
    text: NotRequired[list[str]]
    label: NotRequired[str]
    data: NotRequired[NodeData | None]
    position: NotRequired[Position | None]


class EdgeData(TypedDict, total=False):
    """`when` is the condition on the outputs under which a run takes the edge."""

    when: str | None


# `from` is a keyword in Python, so these types can't be written as classes.
EdgeDefinition = TypedDict(
    "EdgeDefinition",
    {
        "id": NotRequired[str],
        "from": str,
        "to": str,
        "kind": NotRequired[str | None],
        "data": NotRequired[EdgeData | None],
    },
)


# How often a failed run is run again automatically, from where, and after how many seconds.
RerunOnFailure = TypedDict(
    "RerunOnFailure",
    {
        "times": int,
        "from": Literal["failed", "start"],
        "delay": float,
    },
    total=False,
)


class StoreSettings(TypedDict, total=False):
    """The keys of a run's store: those that a start must set, and the defaults of the others."""

    required_keys: list[str]
    default_values: JsonObject


class ConcurrencySettings(TypedDict):
    """How many runs of a graph may be active at once (`graphs.definition.concurrency`)."""

    limit: int
    key: NotRequired[str | None]
    at_limit: NotRequired[str]


class GraphSettings(TypedDict, total=False):
    """How the runs of a graph behave. `lease`, `timeout` and `start_by` are in seconds, and
    `max_failures` may be a percentage.

    `indexed_inputs` are paths into the inputs of a run (`value_paths`) by which runs are searched.
    """

    failure_policy: Literal["continue", "stop"]
    max_failures: int | str | None
    max_steps: int | None
    priority: int
    timeout: float | None
    start_by: float | None
    concurrency: ConcurrencySettings | None
    rerun_on_failure: RerunOnFailure | None
    retry: RetryPolicy
    lease: float | None
    indexed_inputs: list[str]
    store: StoreSettings


class Definition(TypedDict):
    """A graph: its nodes and edges, the JSON Schema of its runs' inputs, and its settings."""

    nodes: list[NodeDefinition]
    edges: list[EdgeDefinition]
    inputs: NotRequired[JsonObject | None]
    settings: NotRequired[GraphSettings | None]
    metadata: NotRequired[JsonObject | None]
