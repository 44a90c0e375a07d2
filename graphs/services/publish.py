"""Storing a definition as a new immutable version of its graph. The same content again makes no new version."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import errors, names, payloads, references, validation
from graphs.definition.plan import BUILTIN
from graphs.definition.validation import Kind, Problem
from graphs.models import Graph, GraphVersion, Namespace, RegisteredNode

MEMBERS = ("nodes", "edges", "inputs", "settings", "metadata")


def check(namespace: str, definition: Any, caller: Caller = SYSTEM) -> list[Problem]:
    """Everything wrong with a definition in this namespace."""
    return validation.problems(definition, Kinds(namespace, definition, caller).find)


def publish(
    namespace: Namespace,
    name: str,
    definition: Mapping[str, Any],
    caller: Caller = SYSTEM,
    note: str = "",
) -> Graph:
    """Make this the graph's current version. Raises InvalidGraph with every problem; the former version then stays."""
    kinds = Kinds(namespace.name, definition, caller)
    found = judged(definition, kinds, None)
    if found:
        raise errors.InvalidGraph(
            f"Graph validation failed: {summary(found)}",
            errors=[problem.as_json() for problem in found],
        )
    return store(namespace, name, kinds.resolved(definition), [], caller, note)


def judged(
    definition: Mapping[str, Any], kinds: "Kinds", secrets: Collection[str] | None
) -> list[Problem]:
    """The problems of a definition. Raises Malformed when it isn't storable JSON."""
    storable(definition)
    return validation.problems(definition, kinds.find, secrets)


def storable(definition: Any) -> None:
    """Raises Malformed for what is no JSON that we store."""
    try:
        payloads.dump(definition)
    except payloads.NotJson as error:
        raise errors.Malformed(f"The definition can't be stored: {error}.") from None


def checksum_of(resolved: Mapping[str, Any]) -> str:
    """The same for the same content, in whatever order its members stand."""
    return hashlib.sha256(
        json.dumps(resolved, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


@transaction.atomic
def store(
    namespace: Namespace,
    name: str,
    resolved: Mapping[str, Any],
    problems: Iterable[Problem],
    caller: Caller,
    note: str = "",
    by_template: bool = False,
) -> Graph:
    """Make a resolved definition the graph's current version. One with problems is kept, too, but no run starts with it."""
    caller.require("start", namespace.pk)
    graph, _ = Graph.objects.get_or_create(namespace=namespace, name=names.checked("graph", name))
    return _add_version(locked(graph), resolved, problems, caller, note, by_template)


def locked(graph: Graph) -> Graph:
    """The graph as it is now, locked for the transaction. Raises NotFound when it is gone."""
    found = Graph.objects.select_for_update(of=("self",)).with_version().filter(pk=graph.pk).first()
    if found is None:
        raise errors.NotFound(f"The graph {graph.name!r} was deleted at this moment.")
    return found


def _add_version(
    graph: Graph,
    resolved: Mapping[str, Any],
    problems: Iterable[Problem],
    caller: Caller,
    note: str,
    by_template: bool,
) -> Graph:
    checksum = checksum_of(resolved)
    wrong = [problem.as_json() for problem in problems]
    if graph.current and graph.current.checksum == checksum:
        _judge(graph.current, wrong)
        return graph
    last = graph.versions.order_by("-number").values_list("number", flat=True).first() or 0
    made = {
        "definition": resolved,
        "checksum": checksum,
        "problems": wrong,
        "created_by": caller.user,
        "note": note,
        "by_template": by_template,
    }
    graph.current = GraphVersion.objects.create(graph=graph, number=last + 1, **made)
    graph.updated_at = timezone.now()
    Graph.objects.filter(pk=graph.pk).update(current=graph.current, updated_at=graph.updated_at)
    return graph


def _judge(version: GraphVersion, problems: list[dict[str, Any]]) -> None:
    """A version never changes, but what is registered around it does, and so may the verdict on it."""
    if version.problems != problems:
        version.problems = problems
        GraphVersion.objects.filter(pk=version.pk).update(problems=problems)


def free_name(namespace: Namespace, wanted: str) -> str:
    """The wanted name of a graph, or the first with a number behind it that is free."""
    taken = set(
        Graph.objects.filter(namespace=namespace, name__startswith=wanted[:190]).values_list(
            "name", flat=True
        )
    )
    return (
        wanted
        if wanted not in taken
        else next(
            name
            for number in range(2, len(taken) + 3)
            if (name := f"{wanted[:190]}-{number}") not in taken
        )
    )


@transaction.atomic
def roll_back(graph: Graph, number: int, caller: Caller) -> Graph:
    """Make a former version the current one. Raises NotFound."""
    graph = locked(graph)
    version = graph.versions.filter(number=number).first()
    if version is None:
        raise errors.NotFound(f"The graph {graph.name!r} has no version {number}.")
    graph.current, graph.updated_at = version, timezone.now()
    Graph.objects.filter(pk=graph.pk).update(current=version, updated_at=graph.updated_at)
    rejudge(graph, caller)
    return graph


@transaction.atomic
def rejudge(graph: Graph, caller: Caller = SYSTEM) -> bool:
    """Judge the current version again, after what it depends on has changed; whether it can run."""
    graph = locked(graph)
    if graph.current is None:
        return False
    definition, by_template = graph.current.definition, graph.current.by_template
    kinds = Kinds(graph.namespace.name, definition, caller, every_input=by_template)
    found = judged(definition, kinds, set(graph.secrets.values_list("name", flat=True)))
    _add_version(graph, kinds.resolved(definition), found, caller, graph.current.note, by_template)
    return not found


def reconsider(namespace: Namespace, names: Iterable[str]) -> int:
    """Judge the graphs again that lacked these nodes of a namespace; how many are valid now is the answer."""
    asked = {(namespace.name, name) for name in names}
    waiting = Graph.objects.with_version().exclude(current=None).exclude(current__problems=[])
    lacking = [
        graph
        for graph in waiting
        if asked & {(node["namespace"], node["kind"]) for node in graph.current.definition["nodes"]}
    ]
    return sum(rejudge(graph) for graph in lacking)


def summary(problems: Iterable[Problem]) -> str:
    """The problems in one line, for people."""
    return "; ".join(
        f"{f'{problem.nodeId}: ' if problem.nodeId else ''}{problem.message}"
        for problem in problems
    )


class Kinds:
    """The registered nodes that a definition may name: those of its own namespace before the built-in ones, and others that the caller sees.

    With `every_input` a node of a worker needs all inputs of its schema, whether it has defaults for them or not (the rule of `/v0`).
    """

    def __init__(
        self, namespace: str, definition: Any, caller: Caller = SYSTEM, every_input: bool = False
    ) -> None:
        nodes = definition.get("nodes") if isinstance(definition, dict) else None
        named = (
            [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []
        )
        names = {
            node["kind"]
            for node in named
            if isinstance(node.get("kind"), str) and "\x00" not in node["kind"]
        }
        wanted = {namespace, BUILTIN} | {
            node["namespace"]
            for node in named
            if isinstance(node.get("namespace"), str) and "\x00" not in node["namespace"]
        }
        self.own, self.every_input = namespace, every_input
        found = RegisteredNode.objects.filter(
            name__in=names, namespace__name__in=wanted
        ).select_related("namespace")
        seen = (
            node
            for node in found
            if node.namespace.name == BUILTIN or caller.sees(node.namespace_id)
        )
        self.known = {(node.namespace.name, node.name): node for node in seen}
        self._caller = caller

    def foreign(self, definition: Mapping[str, Any]) -> list[Problem]:
        """The nodes of namespaces that the caller doesn't see. Such a definition is never stored: others who judge it again might see them."""
        if self._caller.namespaces is None:
            return []
        own = {
            self.own,
            BUILTIN,
            *Namespace.objects.filter(pk__in=self._caller.namespaces).values_list(
                "name", flat=True
            ),
        }
        hidden = (
            (at, node)
            for at, node in enumerate(definition["nodes"])
            if (node.get("namespace") or self.own) not in own
        )
        return [
            Problem(
                "unknown_node",
                f"this key opens no namespace {node['namespace']!r}",
                f"/nodes/{at}/namespace",
                node["id"],
            )
            for at, node in hidden
        ]

    def _where(self, namespace: str, name: str) -> str | None:
        places = [namespace] if namespace else [self.own, BUILTIN]
        return next((place for place in places if (place, name) in self.known), None)

    def find(self, namespace: str, name: str) -> Kind | None:
        place = self._where(namespace, name)
        if place is None:
            return None
        node = self.known[place, name]
        schema = node.inputs_schema
        if self.every_input and node.executor == RegisteredNode.Executor.WORKER:
            schema = {**schema, "required": list(schema.get("properties") or {})}
        return Kind(place, schema, _closed(node), tuple(node.secrets))

    def resolved(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        """The definition with each node's namespace and text inputs written out, so that a version means the same for ever."""
        members = {key: definition[key] for key in MEMBERS if definition.get(key) is not None}
        return {**members, "nodes": [self._resolved(node) for node in definition["nodes"]]}

    def _resolved(self, node: Mapping[str, Any]) -> dict[str, Any]:
        place = self._where(node.get("namespace") or "", node["kind"])
        plain = {
            **{key: value for key, value in node.items() if key != "text"},
            "namespace": place or node.get("namespace") or self.own,
        }
        schema = self.known[place, node["kind"]].inputs_schema if place else {}
        inputs = (node.get("data") or {}).get("inputs") or {}
        text = [
            key
            for key, value in inputs.items()
            if _wants_text(schema, key) and _is_placeholder(value)
        ]
        return {**plain, "text": text} if text else plain


def _closed(node: RegisteredNode) -> Mapping[str, Any]:
    """The outputs of a worker's node are those that it declares, unless its schema says that there may be more."""
    closed = node.executor == RegisteredNode.Executor.WORKER and "properties" in node.outputs_schema
    return {"additionalProperties": False, **node.outputs_schema} if closed else node.outputs_schema


def _wants_text(schema: Mapping[str, Any], name: str) -> bool:
    member = (schema.get("properties") or {}).get(name)
    return isinstance(member, dict) and member.get("type") == "string"


def _is_placeholder(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    pieces = references.parse(value)
    return len(pieces) == 1 and isinstance(pieces[0], references.Reference)
