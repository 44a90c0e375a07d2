"""What is wrong with a definition: every problem at once, each with its place. Pure.

Malformed nodes and edges are reported and left out, and the rest is judged without them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jsonschema_rs

from graphs.definition import expressions, plan, references, topology
from graphs.definition.schema import EDGE_SCHEMA, GRAPH_SCHEMA, NODE_SCHEMA


def _closed(retrieve_nothing: str) -> Any:
    raise ValueError(f"a schema may not refer to {retrieve_nothing}")


def schema_validator(schema: Mapping[str, Any]) -> Any:
    """A JSON Schema validator that never fetches anything. Raises ValueError for what is no schema."""
    return jsonschema_rs.validator_for(dict(schema), retriever=_closed)


@dataclass(frozen=True)
class Problem:
    """One mistake. `type` is a word for programs, `path` a JSON pointer into the definition.

    `registry` says that the definition is sound in itself, but doesn't fit the registered nodes or the given secrets.
    """

    type: str
    message: str
    path: str
    nodeId: str | None = None  # noqa: N815  (the wire name, contract of seed 004)
    edgeId: str | None = None  # noqa: N815
    registry: bool = False

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "registry"}


@dataclass(frozen=True)
class Kind:
    """What validation must know of a registered node; schemas may be None when nothing is declared."""

    namespace: str
    inputs_schema: Mapping[str, Any] | None
    outputs_schema: Mapping[str, Any] | None
    secrets: tuple[str, ...] = ()


FindKind = Callable[[str, str], Kind | None]  # (namespace or "", name)

_graph_shape, _node_shape, _edge_shape = (
    schema_validator(schema) for schema in (GRAPH_SCHEMA, NODE_SCHEMA, EDGE_SCHEMA)
)


def problems(
    definition: Any, find_kind: FindKind, secrets: Collection[str] | None = None
) -> list[Problem]:
    """Everything wrong with the definition, in reading order; an empty list means that it can run.

    `secrets` are the names of the graph's secrets; without them it isn't looked at what the nodes ask for.
    """
    found = list(_misshapen(_graph_shape, definition, ""))
    if not isinstance(definition, dict) or not all(
        isinstance(definition.get(key), list) for key in ("nodes", "edges")
    ):
        return found
    nodes, edges = [], []
    for at, node in enumerate(definition["nodes"]):
        wrong = list(_misshapen(_node_shape, node, f"/nodes/{at}", node=_text(node, "id")))
        found += wrong
        if not wrong:
            nodes.append((at, node))
    for at, edge in enumerate(definition["edges"]):
        wrong = list(_misshapen(_edge_shape, edge, f"/edges/{at}", edge=_text(edge, "id")))
        found += wrong
        if not wrong:
            edges.append((at, edge))
    return found + list(_Judge(definition, nodes, edges, find_kind, secrets).everything())


def shape_problems(definition: Any) -> list[Problem]:
    """Why a definition can't even be drawn: it has no nodes and edges of the right shape, or two nodes of one id. A draft has none of these."""
    found = list(_misshapen(_graph_shape, definition, ""))
    if found or not isinstance(definition, dict):
        return found
    for at, node in enumerate(definition["nodes"]):
        found += _misshapen(_node_shape, node, f"/nodes/{at}", node=_text(node, "id"))
    for at, edge in enumerate(definition["edges"]):
        found += _misshapen(_edge_shape, edge, f"/edges/{at}", edge=_text(edge, "id"))
    if found:
        return found
    counts = Counter(node["id"] for node in definition["nodes"])
    twice = [
        (at, node["id"]) for at, node in enumerate(definition["nodes"]) if counts[node["id"]] > 1
    ]
    found += [
        Problem(
            "duplicate_id", f"the id {name!r} stands {counts[name]} times", f"/nodes/{at}/id", name
        )
        for at, name in twice
    ]
    pairs = Counter((edge["from"], edge["to"]) for edge in definition["edges"])
    return found + [
        Problem("duplicate_edge", f"{count} edges from {start!r} to {end!r}", "/edges", start)
        for (start, end), count in pairs.items()
        if count > 1
    ]


def _text(value: Any, key: str) -> str | None:
    return value.get(key) if isinstance(value, dict) and isinstance(value.get(key), str) else None


def _misshapen(
    validator: Any, value: Any, at: str, node: str | None = None, edge: str | None = None
) -> Iterator[Problem]:
    for error in validator.iter_errors(value):
        kind = (
            "missing_field" if type(error.kind).__name__.endswith("Required") else "invalid_config"
        )
        place = at + "".join(f"/{part}" for part in error.instance_path)
        if "type" in list(error.schema_path)[-1:]:
            kind = "type_mismatch"
        yield Problem(kind, error.message[:300], place or "/", node, edge)


class _Judge:
    """The rules that need more than one part of the definition, or the registry."""

    def __init__(
        self,
        definition: Mapping[str, Any],
        nodes: list[tuple[int, Any]],
        edges: list[tuple[int, Any]],
        find_kind: FindKind,
        secrets: Collection[str] | None,
    ) -> None:
        self.secrets = secrets
        self.settings = (
            definition.get("settings") if isinstance(definition.get("settings"), dict) else {}
        )
        self.inputs = definition.get("inputs")
        self.nodes, self.edges = nodes, edges
        self.by_id = {node["id"]: node for _, node in nodes}
        self.kinds = {
            node["id"]: find_kind(node.get("namespace") or "", node["kind"]) for _, node in nodes
        }

    def everything(self) -> Iterator[Problem]:
        if not self.nodes:
            yield Problem("missing_field", "a graph needs at least one node", "/nodes")
        yield from self._duplicates()
        yield from self._edges()
        yield from self._kinds()
        yield from self._asked_secrets()
        yield from self._inputs_schema()
        shape = None
        try:
            shape = topology.build(self.by_id, self._good_edges(), self._good_unites())
        except topology.Cycle as cycle:
            yield Problem(
                "circular_dependency",
                f"the edges run in a circle: {cycle}",
                "/edges",
                nodeId=cycle.nodes[0],
            )
        yield from self._unites(shape)
        for at, node in self.nodes:
            yield from self._node_inputs(at, node, shape)

    def _duplicates(self) -> Iterator[Problem]:
        counts = Counter(node["id"] for _, node in self.nodes)
        seen: set[str] = set()
        for at, node in self.nodes:
            if counts[node["id"]] > 1 and node["id"] in seen:
                yield Problem(
                    "duplicate_id",
                    f"the id {node['id']!r} stands {counts[node['id']]} times",
                    f"/nodes/{at}/id",
                    node["id"],
                )
            if node["id"] == "store":
                yield Problem(
                    "invalid_config",
                    f"the id {node['id']!r} is reserved",
                    f"/nodes/{at}/id",
                    node["id"],
                )
            seen.add(node["id"])

    def _edges(self) -> Iterator[Problem]:
        seen: set[tuple[str, str]] = set()
        for at, edge in self.edges:
            for end in ("from", "to"):
                if edge[end] not in self.by_id:
                    yield Problem(
                        "dangling_edge",
                        f"{edge[end]!r} is no node of this graph",
                        f"/edges/{at}/{end}",
                        None,
                        edge.get("id"),
                    )
            if (pair := (edge["from"], edge["to"])) in seen:
                yield Problem(
                    "duplicate_edge",
                    f"a second edge from {pair[0]!r} to {pair[1]!r}",
                    f"/edges/{at}",
                    pair[0],
                    edge.get("id"),
                )
            seen.add(pair)
            if condition := (edge.get("data") or {}).get("when"):
                try:
                    expressions.compiled(condition)
                except expressions.BadExpression as error:
                    yield Problem(
                        "invalid_config",
                        f"the condition is no expression: {error}",
                        f"/edges/{at}/data/when",
                        edge["from"],
                        edge.get("id"),
                    )

    def _kinds(self) -> Iterator[Problem]:
        for at, node in self.nodes:
            if self.kinds[node["id"]] is None:
                where = (
                    f"namespace {node['namespace']!r}"
                    if node.get("namespace")
                    else "this namespace"
                )
                yield Problem(
                    "unknown_node",
                    f"no node {node['kind']!r} is registered in {where}",
                    f"/nodes/{at}/kind",
                    node["id"],
                    registry=True,
                )

    def _asked_secrets(self) -> Iterator[Problem]:
        for at, node in self.nodes:
            kind = self.kinds[node["id"]]
            for name in kind.secrets if kind and self.secrets is not None else ():
                if name not in (self.secrets or ()):
                    yield Problem(
                        "missing_secret",
                        f"{node['kind']} asks for the secret {name!r}, which the graph doesn't have",
                        f"/nodes/{at}/kind",
                        node["id"],
                        registry=True,
                    )

    def _inputs_schema(self) -> Iterator[Problem]:
        if isinstance(self.inputs, dict):
            try:
                schema_validator(self.inputs)
            except ValueError as error:
                yield Problem(
                    "invalid_config", f"`inputs` is no JSON Schema: {error}"[:300], "/inputs"
                )

    def _good_edges(self) -> list[tuple[str, str]]:
        edges = [
            edge
            for _, edge in self.edges
            if edge["from"] in self.by_id and edge["to"] in self.by_id
        ]
        uniting = self._good_unites()
        return plan.edges_of(
            {"nodes": [node for _, node in self.nodes if node["id"] in uniting], "edges": edges}
        )

    def _good_unites(self) -> dict[str, str]:
        unites = plan.unites_of({"nodes": [node for _, node in self.nodes]})
        return {
            node: target
            for node, target in unites.items()
            if target in self.by_id and target != node
        }

    def _unites(self, shape: topology.Topology | None) -> Iterator[Problem]:
        for at, node in self.nodes:
            target = plan.unites_of({"nodes": [node]}).get(node["id"])
            if target is None:
                continue
            place = f"/nodes/{at}/data/unites/identifier"
            if target not in self.by_id:
                yield Problem(
                    "dangling_edge",
                    f"it unites {target!r}, which is no node of this graph",
                    place,
                    node["id"],
                )
            elif target == node["id"]:
                yield Problem("circular_dependency", "it unites itself", place, node["id"])
            elif shape and not self._dominates(shape, target, node["id"]):
                yield Problem(
                    "invalid_config",
                    f"it unites {target!r}, but not every path to it passes {target!r}",
                    place,
                    node["id"],
                )

    @staticmethod
    def _dominates(shape: topology.Topology, target: str, node: str) -> bool:
        def passes(at: str) -> bool:
            while at not in (topology.ROOT, target):
                at = shape.dominator[at]
            return at == target

        return all(passes(parent) for parent in shape.parents[node])

    def _node_inputs(
        self, at: int, node: Mapping[str, Any], shape: topology.Topology | None
    ) -> Iterator[Problem]:
        inputs = (node.get("data") or {}).get("inputs") or {}
        place = f"/nodes/{at}/data/inputs"
        for key, value in inputs.items():
            try:
                found = list(references.find(value))
            except references.BadReference as error:
                yield Problem("invalid_config", str(error), f"{place}/{key}", node["id"])
                continue
            for reference in found:
                if wrong := self._unknown(reference, node["id"], shape):
                    yield Problem("unknown_reference", wrong, f"{place}/{key}", node["id"])
                elif wrong := self._no_output(reference):
                    yield Problem(
                        "unknown_reference", wrong, f"{place}/{key}", node["id"], registry=True
                    )
        if kind := self.kinds[node["id"]]:
            yield from self._against_schema(
                node, inputs, kind, place, is_root=bool(shape and node["id"] in shape.roots)
            )

    def _unknown(
        self, reference: references.Reference, node: str, shape: topology.Topology | None
    ) -> str | None:
        if reference.source == "store":
            store = self.settings.get("store") or {} if self.settings else {}
            known = {*(store.get("required_keys") or ()), *(store.get("default_values") or {})}
            return (
                None
                if reference.path[0] in known
                else f"store key {reference.path[0]!r} is neither required nor given a default"
            )
        if reference.source == "run":
            return undeclared(self.inputs, reference) if closed(self.inputs) else None
        if reference.node not in self.by_id:
            return f"{reference} names no node of this graph"
        if shape and reference.node not in shape.ancestors[node] | {shape.dominator[node]}:
            return f"{reference} is not an output of a node before {node!r}"
        return None

    def _no_output(self, reference: references.Reference) -> str | None:
        kind = self.kinds.get(reference.node) if reference.source == "node" else None
        declared = (kind.outputs_schema or {}).get("properties") if kind else None
        if (
            declared is not None
            and reference.path[0] not in declared
            and not (kind and (kind.outputs_schema or {}).get("additionalProperties", True))
        ):
            return f"{reference.node!r} has no output {reference.path[0]!r}; it has {', '.join(declared) or 'none'}"
        return None

    def _against_schema(
        self,
        node: Mapping[str, Any],
        inputs: Mapping[str, Any],
        kind: Kind,
        place: str,
        is_root: bool,
    ) -> Iterator[Problem]:
        """Literals must fit the registered schema; what holds a placeholder is only known when it runs."""
        if not kind.inputs_schema:
            return
        properties = kind.inputs_schema.get("properties") or {}
        try:
            fits = schema_validator(
                {
                    key: value
                    for key, value in kind.inputs_schema.items()
                    if key not in ("required", "minProperties")
                }
            )
        except ValueError as wrong:
            yield Problem(
                "invalid_config",
                f"the schema of {node['kind']}'s inputs is no JSON Schema: {wrong}"[:300],
                place,
                node["id"],
                registry=True,
            )
            return
        given_by_run = (
            set((self.inputs or {}).get("properties") or {})
            if is_root and isinstance(self.inputs, dict)
            else set()
        )
        for name in kind.inputs_schema.get("required") or []:
            if name not in inputs and name not in given_by_run:
                yield Problem(
                    "missing_field",
                    f"{node['kind']} needs the input {name!r}",
                    f"{place}/{name}",
                    node["id"],
                    registry=True,
                )
        for name, value in inputs.items():
            if name not in properties:
                if kind.inputs_schema.get("additionalProperties") is False:
                    yield Problem(
                        "invalid_config",
                        f"{node['kind']} has no input {name!r}; it has {', '.join(properties) or 'none'}",
                        f"{place}/{name}",
                        node["id"],
                        registry=True,
                    )
            elif not _has_placeholder(value):
                yield from self._expressions(
                    node["id"], name, properties[name], value, f"{place}/{name}"
                )
                for error in fits.iter_errors({name: value}):
                    yield Problem(
                        "type_mismatch",
                        f"{name}: {error.message}"[:300],
                        f"{place}/{name}",
                        node["id"],
                        registry=True,
                    )

    @staticmethod
    def _expressions(
        node: str, name: str, schema: Any, value: Any, place: str
    ) -> Iterator[Problem]:
        """What a schema says is an expression, or an object of them, must be one."""
        inner = schema.get("additionalProperties") if isinstance(schema, dict) else None
        texts = {place: value} if isinstance(schema, dict) and schema.get("format") == "cel" else {}
        if isinstance(inner, dict) and inner.get("format") == "cel" and isinstance(value, dict):
            texts = {f"{place}/{key}": each for key, each in value.items()}
        for at, text in texts.items():
            try:
                expressions.compiled(text) if isinstance(text, str) and text else None
            except expressions.BadExpression as error:
                yield Problem(
                    "invalid_config",
                    f"{name}: {text[:80]!r} is no expression: {error}"[:300],
                    at,
                    node,
                    registry=True,
                )


def closed(inputs: Any) -> bool:
    """Whether a graph takes no inputs but those that it declares."""
    return isinstance(inputs, dict) and inputs.get("additionalProperties") is False


def undeclared(inputs: Any, reference: references.Reference) -> str | None:
    """What is wrong with a reference to an input of the run, if the graph declares its inputs, but not this one."""
    schema = inputs if isinstance(inputs, dict) else {}
    properties = schema.get("properties")
    names = list(properties) if isinstance(properties, dict) else []
    if (
        reference.path[0] in names
        or schema.get("patternProperties")
        or not (names or closed(inputs))
    ):
        return None
    return f"the graph declares no input {reference.path[0]!r}; it has {', '.join(names) or 'none'}"


def _has_placeholder(value: Any) -> bool:
    try:
        return any(True for _ in references.find(value))
    except references.BadReference:
        return True
