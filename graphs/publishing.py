"""Storing a definition as a new immutable version of its graph. The same content again makes no new version."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from graphs import errors, names, payloads, validation
from graphs.models import Graph, GraphVersion, Namespace, RegisteredNode
from graphs.plan import BUILTIN
from graphs.validation import Kind, Problem

MEMBERS = ("nodes", "edges", "inputs", "settings", "metadata")


def check(namespace: str, definition: Any) -> list[Problem]:
    """Everything wrong with a definition in this namespace."""
    return validation.problems(definition, _Kinds(namespace, definition).find)


def publish(namespace: Namespace, name: str, definition: Mapping[str, Any], user: Any = None, note: str = "") -> Graph:
    """Make this the graph's current version. Raises InvalidGraph with every problem; the former version then stays."""
    try:
        payloads.dump(definition)
    except payloads.NotJson as error:
        raise errors.Malformed(f"The definition can't be stored: {error}.") from None
    name = names.checked("graph", name)
    kinds = _Kinds(namespace.name, definition)
    if found := validation.problems(definition, kinds.find):
        raise errors.InvalidGraph(f"Graph validation failed: {summary(found)}", errors=[problem.as_json() for problem in found])
    resolved = kinds.resolved({key: definition[key] for key in MEMBERS if definition.get(key) is not None})
    checksum = hashlib.sha256(json.dumps(resolved, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    with transaction.atomic():
        graph, _ = Graph.objects.get_or_create(namespace=namespace, name=name)
        graph = Graph.objects.select_for_update(of=("self",)).with_version().get(pk=graph.pk)
        if graph.current and graph.current.checksum == checksum:
            return graph
        last = graph.versions.order_by("-number").values_list("number", flat=True).first() or 0
        graph.current = GraphVersion.objects.create(graph=graph, number=last + 1, definition=resolved, checksum=checksum, created_by=user, note=note)
        Graph.objects.filter(pk=graph.pk).update(current=graph.current, updated_at=timezone.now())
    return graph


def summary(problems: Iterable[Problem]) -> str:
    """The problems in one line, for people."""
    return "; ".join(f"{f'{problem.nodeId}: ' if problem.nodeId else ''}{problem.message}" for problem in problems)


class _Kinds:
    """The registered nodes that a definition may name: those of its own namespace before the built-in ones."""

    def __init__(self, namespace: str, definition: Any) -> None:
        nodes = definition.get("nodes") if isinstance(definition, dict) else None
        named = [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []
        names = {node["kind"] for node in named if isinstance(node.get("kind"), str) and "\x00" not in node["kind"]}
        wanted = {namespace, BUILTIN} | {node["namespace"] for node in named if isinstance(node.get("namespace"), str) and "\x00" not in node["namespace"]}
        self.own = namespace
        found = RegisteredNode.objects.filter(name__in=names, namespace__name__in=wanted).select_related("namespace")
        self.known = {(node.namespace.name, node.name): node for node in found}

    def _where(self, namespace: str, name: str) -> str | None:
        places = [namespace] if namespace else [self.own, BUILTIN]
        return next((place for place in places if (place, name) in self.known), None)

    def find(self, namespace: str, name: str) -> Kind | None:
        place = self._where(namespace, name)
        if place is None:
            return None
        node = self.known[place, name]
        return Kind(place, node.inputs_schema, node.outputs_schema)

    def resolved(self, definition: dict[str, Any]) -> dict[str, Any]:
        """The definition with each node's namespace written out, so that a version means the same for ever."""
        nodes = [{**node, "namespace": self._where(node.get("namespace") or "", node["kind"])} for node in definition["nodes"]]
        return {**definition, "nodes": nodes}
