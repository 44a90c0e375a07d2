"""The registered nodes that a definition uses, looked up with one query."""

from collections.abc import Iterable, Mapping

from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import references
from graphs.definition.plan import BUILTIN
from graphs.definition.types import Json, JsonObject
from graphs.definition.validation import Kind, Problem
from graphs.models import Namespace, RegisteredNode

MEMBERS = ("nodes", "edges", "inputs", "settings", "metadata")


class Kinds:
    """The registered nodes that the nodes of a definition may refer to.

    A node without a namespace is looked up in the namespace of the graph first, and then among the
    built-in nodes. A node of another namespace is looked up there, if the caller may start runs
    there: a run of the graph makes that namespace's workers work.

    The definition may be malformed. With `every_input`, the node of a worker needs all inputs of
    its schema, even those with defaults, which is the rule of the `/v0` API.
    """

    def __init__(
        self, namespace: str, definition: Json, caller: Caller = SYSTEM, every_input: bool = False
    ) -> None:
        self.namespace = namespace
        self.every_input = every_input
        self._caller = caller
        nodes = _nodes_of(definition)
        candidates = RegisteredNode.objects.filter(
            name__in=_texts(nodes, "kind"),
            namespace__name__in={namespace, BUILTIN, *_texts(nodes, "namespace")},
        ).select_related("namespace")
        self._nodes = {
            (node.namespace.name, node.name): node
            for node in candidates
            if node.namespace.name in (BUILTIN, namespace) or caller.can("start", node.namespace_id)
        }

    def find(self, namespace: str, name: str) -> Kind | None:
        """What validation needs to know of a node, or None if it isn't registered."""
        place = self._place(namespace, name)
        if place is None:
            return None

        node = self._nodes[place, name]
        inputs_schema = node.inputs_schema
        if self.every_input and node.executor == RegisteredNode.Executor.WORKER:
            every_name = list(inputs_schema.get("properties") or {})
            inputs_schema = {**inputs_schema, "required": every_name}
        return Kind(place, inputs_schema, _outputs_schema(node), tuple(node.secrets))

    def foreign(self, definition: Mapping[str, Json]) -> list[Problem]:
        """A problem for each node in a namespace where the caller may not start runs.

        A definition with one of them must not be stored: it is checked again later with the rights
        of somebody else, who may.
        """
        if self._caller.namespaces is None and "start" in self._caller.rights:
            return []
        named = Namespace.objects.filter(name__in=_texts(definition["nodes"], "namespace"))
        allowed = {self.namespace, BUILTIN}
        allowed |= {each.name for each in named if self._caller.can("start", each.pk)}
        return [
            Problem(
                "unknown_node",
                f"you have no access to the namespace {node['namespace']!r}",
                f"/nodes/{index}/namespace",
                node["id"],
            )
            for index, node in enumerate(definition["nodes"])
            if (node.get("namespace") or self.namespace) not in allowed
        ]

    def resolved(self, definition: Mapping[str, Json]) -> JsonObject:
        """The definition as a version stores it.

        The namespace of every node is written out, as are the inputs that take text, so the version
        keeps its meaning when other nodes are registered later.
        """
        members = {key: definition[key] for key in MEMBERS if definition.get(key) is not None}
        return {**members, "nodes": [self._resolved(node) for node in definition["nodes"]]}

    def _resolved(self, node: JsonObject) -> JsonObject:
        place = self._place(node.get("namespace") or "", node["kind"])
        resolved = {key: value for key, value in node.items() if key != "text"}
        resolved["namespace"] = place or node.get("namespace") or self.namespace

        schema = self._nodes[place, node["kind"]].inputs_schema if place else {}
        inputs = (node.get("data") or {}).get("inputs") or {}
        text_inputs = [
            name
            for name, value in inputs.items()
            if _takes_text(schema, name) and _is_placeholder(value)
        ]
        if text_inputs:
            resolved["text"] = text_inputs
        return resolved

    def _place(self, namespace: str, name: str) -> str | None:
        """The namespace in which the node is registered."""
        places = [namespace] if namespace else [self.namespace, BUILTIN]
        return next((place for place in places if (place, name) in self._nodes), None)


def _nodes_of(definition: Json) -> list[JsonObject]:
    nodes = definition.get("nodes") if isinstance(definition, dict) else None
    return [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []


def _texts(nodes: Iterable[JsonObject], key: str) -> set[str]:
    """The values of a member, without those that PostgreSQL can't look up (a NUL character)."""
    values = (node.get(key) for node in nodes)
    return {value for value in values if isinstance(value, str) and "\x00" not in value}


def _outputs_schema(node: RegisteredNode) -> JsonObject:
    """The schema of a node's outputs.

    The node of a worker returns nothing but the declared outputs, unless its schema allows more.
    """
    schema: JsonObject = node.outputs_schema
    is_closed = node.executor == RegisteredNode.Executor.WORKER and "properties" in schema
    return {"additionalProperties": False, **schema} if is_closed else schema


def _takes_text(schema: Mapping[str, Json], name: str) -> bool:
    member = (schema.get("properties") or {}).get(name)
    return isinstance(member, dict) and member.get("type") == "string"


def _is_placeholder(value: Json) -> bool:
    """Whether a value is exactly one placeholder, which is replaced by a value of any type."""
    if not isinstance(value, str):
        return False
    pieces = references.parse(value)
    return len(pieces) == 1 and isinstance(pieces[0], references.Reference)
