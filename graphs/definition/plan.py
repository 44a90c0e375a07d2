"""A stored definition compiled into what the engine asks of it, once per version and process.

A definition is JSON: `nodes` [{id, kind, namespace, label?, data?, position?}], `edges` [{id?, from, to, data?}], and
optionally `inputs` (JSON Schema of the run's inputs), `settings` and `metadata`. `data` of a node may hold `inputs`, `unites`
{identifier, strategy}, `retry`, `timeout`, `lease` (seconds) and `side_effects`; `data.when` of an edge is a condition on `outputs`.
Publishing adds to a node `text`: those of its inputs that its registered schema wants as text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphs.definition import expressions, references, retry_delay, topology
from graphs.definition.topology import Topology

BUILTIN = "builtin"


@dataclass(frozen=True, eq=False)
class Edge:
    to: str
    condition: expressions.Expression | None


@dataclass(frozen=True, eq=False)
class PlanNode:
    """One node template, ready to run. `worker_namespace` is "" for nodes that run in our own processes."""

    id: str
    index: int
    kind: str
    worker_namespace: str
    render: Callable[[references.Resolve], Any]
    needs: tuple[references.Reference, ...]
    edges: tuple[Edge, ...]
    unites: str
    all_done: bool
    policy: retry_delay.Policy
    timeout: float | None
    lease: float | None
    side_effects: bool

    @cached_property
    def conditional(self) -> bool:
        return any(edge.condition for edge in self.edges)


@dataclass(frozen=True, eq=False)
class Plan:
    """A graph version as the engine sees it."""

    nodes: Mapping[str, PlanNode]
    shape: Topology
    stop_at_failure: bool
    max_failures: str | float | None
    max_steps: int | None
    store_defaults: Mapping[str, Any]
    store_required: tuple[str, ...]
    inputs_schema: Mapping[str, Any] | None
    rerun_on_failure: Mapping[str, Any] | None = None

    @cached_property
    def input_defaults(self) -> Mapping[str, Any]:
        """What the run's inputs are where nobody gives them."""
        properties = (self.inputs_schema or {}).get("properties") or {}
        return {
            name: each["default"]
            for name, each in properties.items()
            if isinstance(each, dict) and "default" in each
        }

    @property
    def reruns(self) -> int:
        """How often a failed run is run again by itself."""
        return int((self.rerun_on_failure or {}).get("times", 0))

    @property
    def order(self) -> tuple[str, ...]:
        return self.shape.order

    def failures_allowed(self, known: int) -> float:
        """How many states may fail for good before the run stops; infinity when the graph sets no bound."""
        if self.stop_at_failure:
            return 0
        if self.max_failures is None:
            return float("inf")
        if isinstance(self.max_failures, str):
            return float(self.max_failures.rstrip("%")) / 100 * max(len(self.order), known)
        return self.max_failures


def edges_of(definition: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The (from, to) pairs, plus X → J for a J that unites X and has no edge leading to it."""
    pairs = [(edge["from"], edge["to"]) for edge in definition["edges"]]
    reached = {end for _, end in pairs}
    return pairs + [
        (united, node) for node, united in unites_of(definition).items() if node not in reached
    ]


def unites_of(definition: Mapping[str, Any]) -> dict[str, str]:
    return {
        node["id"]: united["identifier"]
        for node in definition["nodes"]
        if (united := (node.get("data") or {}).get("unites"))
    }


def compile_plan(definition: Mapping[str, Any]) -> Plan:
    """The plan of a definition that validation accepted."""
    settings = definition.get("settings") or {}
    all_done = {
        node["id"]
        for node in definition["nodes"]
        if ((node.get("data") or {}).get("unites") or {}).get("strategy") == "ALL_DONE"
    }
    shape = topology.build(
        [node["id"] for node in definition["nodes"]],
        edges_of(definition),
        unites_of(definition),
        all_done,
    )
    conditions = {
        (edge["from"], edge["to"]): (edge.get("data") or {}).get("when")
        for edge in definition["edges"]
    }
    by_id = {node["id"]: node for node in definition["nodes"]}
    nodes = {
        name: _node(by_id[name], index, shape, conditions, settings)
        for index, name in enumerate(shape.order)
    }
    store = settings.get("store") or {}
    return Plan(
        nodes=nodes,
        shape=shape,
        stop_at_failure=settings.get("failure_policy") == "stop",
        max_failures=settings.get("max_failures"),
        max_steps=settings.get("max_steps"),
        store_defaults=store.get("default_values") or {},
        store_required=tuple(store.get("required_keys") or ()),
        inputs_schema=definition.get("inputs"),
        rerun_on_failure=settings.get("rerun_on_failure"),
    )


def _node(
    node: Mapping[str, Any],
    index: int,
    shape: Topology,
    conditions: Mapping[tuple[str, str], str | None],
    settings: Mapping[str, Any],
) -> PlanNode:
    data = node.get("data") or {}
    inputs = data.get("inputs") or {}
    unites = data.get("unites") or {}

    def edge(to: str) -> Edge:
        text = conditions.get((node["id"], to))
        return Edge(to, expressions.compiled(text) if text else None)

    return PlanNode(
        id=node["id"],
        index=index,
        kind=node["kind"],
        worker_namespace="" if node["namespace"] == BUILTIN else node["namespace"],
        render=references.compiled(inputs, node.get("text") or ()),
        needs=tuple(dict.fromkeys(references.find(inputs))),
        edges=tuple(edge(to) for to in shape.children[node["id"]]),
        unites=unites.get("identifier", ""),
        all_done=unites.get("strategy") == "ALL_DONE",
        policy=retry_delay.Policy.of(settings.get("retry"), data.get("retry")),
        timeout=data.get("timeout"),
        lease=data.get("lease") or settings.get("lease"),
        side_effects=bool(data.get("side_effects")),
    )
