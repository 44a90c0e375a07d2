"""A definition compiled for the engine, once per version and process. Pure.

`graphs.definition.types` describes a definition, `graphs.definition.schema` its JSON Schema.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from graphs.definition import expressions, references, retry_delay, topology
from graphs.definition.concurrency import Concurrency
from graphs.definition.topology import Topology
from graphs.definition.types import (
    Definition,
    GraphSettings,
    Json,
    JsonObject,
    NodeDefinition,
    RerunOnFailure,
)

BUILTIN = "builtin"  # the namespace of the nodes that run in our own processes


@dataclass(frozen=True, eq=False)
class Edge:
    """An edge to a node, which is taken only where the condition holds."""

    to: str
    condition: expressions.Expression | expressions.Refused | None


@dataclass(frozen=True, eq=False)
class PlanNode:
    """One node of a plan, ready to run. `timeout` and `lease` are seconds.

    `index` is the node's place in the topological order, `worker_namespace` is "" for nodes that
    run in our own processes, `render` makes the inputs, and `needs` are the references in them.
    """

    id: str
    index: int
    kind: str
    worker_namespace: str
    render: Callable[[references.Resolve], Json]
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
        """Whether one of the edges has a condition."""
        return any(edge.condition for edge in self.edges)


@dataclass(frozen=True, eq=False)
class Plan:
    """A graph version as the engine sees it."""

    nodes: Mapping[str, PlanNode]
    shape: Topology
    stop_at_failure: bool
    max_failures: str | float | None
    max_steps: int | None
    priority: int  # of runs that are started without one
    timeout: float | None  # seconds that a run may take
    start_by: float | None  # seconds that it may wait for its start
    concurrency: Concurrency | None
    store_defaults: JsonObject
    store_required: tuple[str, ...]
    inputs_schema: JsonObject | None
    rerun_on_failure: RerunOnFailure | None = None
    # The fan-outs above each node, which the engine works out when it needs them.
    fan_outs: dict[str, Container[str]] = field(default_factory=dict, repr=False)

    @cached_property
    def input_defaults(self) -> JsonObject:
        """The defaults of the run's inputs."""
        properties = (self.inputs_schema or {}).get("properties") or {}
        return {
            name: schema["default"]
            for name, schema in properties.items()
            if isinstance(schema, dict) and "default" in schema
        }

    @property
    def reruns(self) -> int:
        """How often a failed run is rerun automatically."""
        return int((self.rerun_on_failure or {}).get("times", 0))

    @property
    def order(self) -> tuple[str, ...]:
        """The ids of the nodes in topological order."""
        return self.shape.order

    def failures_allowed(self, known: int) -> float:
        """How many states may fail for good before the run stops; infinity if there is no limit.

        A percentage counts from the states that the run has so far, at least one per node.
        """
        if self.stop_at_failure:
            return 0
        if self.max_failures is None:
            return float("inf")
        if isinstance(self.max_failures, str):
            share = float(self.max_failures.rstrip("%")) / 100
            return share * max(len(self.order), known)
        return self.max_failures


def edges_of(definition: Definition) -> list[tuple[str, str]]:
    """The (from, to) pairs of the edges.

    A node that unites another and that no edge leads to gets an edge from the node it unites.
    """
    pairs = [(edge["from"], edge["to"]) for edge in definition["edges"]]
    reached = {end for _, end in pairs}
    for name, united in unites_of(definition).items():
        if name not in reached:
            pairs.append((united, name))
    return pairs


def unites_of(definition: Definition) -> dict[str, str]:
    """The nodes that unite another one, with the id of that one."""
    united = {}
    for node in definition["nodes"]:
        unites = (node.get("data") or {}).get("unites")
        if unites:
            united[node["id"]] = unites["identifier"]
    return united


def nodes_before(definition: Definition, name: str) -> list[str]:
    """Every node from which a path leads to this one, nearest first. Cycles are allowed."""
    parents: dict[str, list[str]] = {}
    for start, end in edges_of(definition):
        parents.setdefault(end, []).append(start)
    todo = list(parents.get(name, ()))
    ancestors = dict.fromkeys(todo)
    for node in todo:
        new = [parent for parent in parents.get(node, ()) if parent not in ancestors]
        ancestors |= dict.fromkeys(new)
        todo += new
    ancestors.pop(name, None)
    return list(ancestors)


def compile_plan(definition: Definition) -> Plan:
    """The plan of a definition that validation accepted."""
    settings = definition.get("settings") or {}
    store = settings.get("store") or {}
    shape = _topology(definition)
    return Plan(
        nodes=_nodes(definition, shape, settings),
        shape=shape,
        stop_at_failure=settings.get("failure_policy") == "stop",
        max_failures=settings.get("max_failures"),
        max_steps=settings.get("max_steps"),
        priority=settings.get("priority", 0),
        timeout=settings.get("timeout"),
        start_by=settings.get("start_by"),
        concurrency=Concurrency.of(settings.get("concurrency")),
        store_defaults=store.get("default_values") or {},
        store_required=tuple(store.get("required_keys") or ()),
        inputs_schema=definition.get("inputs"),
        rerun_on_failure=settings.get("rerun_on_failure"),
    )


def _topology(definition: Definition) -> Topology:
    ids = [node["id"] for node in definition["nodes"]]
    all_done = {node["id"] for node in definition["nodes"] if _unites_all_done(node)}
    return topology.build(ids, edges_of(definition), unites_of(definition), all_done)


def _unites_all_done(node: NodeDefinition) -> bool:
    unites = (node.get("data") or {}).get("unites")
    return unites is not None and unites.get("strategy") == "ALL_DONE"


def _nodes(definition: Definition, shape: Topology, settings: GraphSettings) -> dict[str, PlanNode]:
    conditions = {
        (edge["from"], edge["to"]): (edge.get("data") or {}).get("when")
        for edge in definition["edges"]
    }
    by_id = {node["id"]: node for node in definition["nodes"]}
    nodes = {}
    for index, name in enumerate(shape.order):
        edges = [_edge(to, conditions.get((name, to))) for to in shape.children[name]]
        nodes[name] = _node(by_id[name], index, tuple(edges), settings)
    return nodes


def _edge(to: str, condition: str | None) -> Edge:
    return Edge(to, expressions.stored(condition) if condition else None)


def _node(
    node: NodeDefinition, index: int, edges: tuple[Edge, ...], settings: GraphSettings
) -> PlanNode:
    data = node.get("data") or {}
    inputs = data.get("inputs") or {}
    unites = data.get("unites")
    return PlanNode(
        id=node["id"],
        index=index,
        kind=node["kind"],
        worker_namespace="" if node["namespace"] == BUILTIN else node["namespace"],
        render=references.compiled(inputs, node.get("text") or ()),
        needs=tuple(dict.fromkeys(references.find(inputs))),
        edges=edges,
        unites=unites["identifier"] if unites else "",
        all_done=_unites_all_done(node),
        policy=retry_delay.Policy.of(settings.get("retry"), data.get("retry")),
        timeout=data.get("timeout"),
        lease=data.get("lease") or settings.get("lease"),
        side_effects=bool(data.get("side_effects")),
    )
