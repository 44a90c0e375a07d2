"""The palette of FlowView: the registered nodes that may be added to a graph, in groups."""

import re
from dataclasses import dataclass

from django.db.models import Case, Q, QuerySet, When

from graphs.auth.callers import Caller
from graphs.definition import plan
from graphs.models import Graph, RegisteredNode

MAX_ENTRIES = 200  # on a page; a search finds the others
MAX_TEXT = 200  # characters of a description
UNGROUPED = "steps"  # the group of built-in nodes without a dot in their name


@dataclass(frozen=True)
class Entry:
    """A node of the palette, with the first sentence of its description."""

    pk: int
    name: str
    description: str


@dataclass(frozen=True)
class Palette:
    """The nodes that may be added to a graph, by group; the first of them if there are `more`.

    Built-in nodes are grouped by the part of their name before the dot, the others by namespace.
    `search` is what they were searched for.
    """

    groups: dict[str, list[Entry]]
    search: str
    more: bool


def palette_of(graph: Graph, caller: Caller, search: str = "") -> Palette:
    """The palette of a graph: built-in nodes first, then those of its namespace, then others."""
    nodes = _usable(graph, caller).select_related("namespace")
    for word in search.split():
        named = Q(name__icontains=word) | Q(namespace__name__icontains=word)
        nodes = nodes.filter(named | Q(description__icontains=word))
    order = Case(
        When(namespace__name=plan.BUILTIN, then=0),
        When(namespace=graph.namespace_id, then=1),
        default=2,
    )
    ordered = nodes.order_by(order, "namespace__name", "name")
    found = list(ordered.defer("inputs_schema", "outputs_schema")[: MAX_ENTRIES + 1])
    groups: dict[str, list[Entry]] = {}
    for node in found[:MAX_ENTRIES]:
        description = first_sentence(node.description)[:MAX_TEXT]
        groups.setdefault(_group_of(node), []).append(Entry(node.pk, node.name, description))
    return Palette(dict(sorted(groups.items())), search, len(found) > MAX_ENTRIES)


def _usable(graph: Graph, caller: Caller) -> QuerySet[RegisteredNode]:
    """The nodes of which `may_use` is true."""
    nodes = RegisteredNode.objects.all()
    if caller.namespaces is None:
        return nodes
    of_namespaces = Q(namespace__in=caller.namespaces) | Q(namespace=graph.namespace_id)
    return nodes.filter(of_namespaces | Q(namespace__name=plan.BUILTIN))


def may_use(node: RegisteredNode, graph: Graph, caller: Caller) -> bool:
    """Whether the node is built in, of the graph's namespace, or of one that the caller sees."""
    return is_local(node, graph) or caller.sees(node.namespace_id)


def is_local(node: RegisteredNode, graph: Graph) -> bool:
    """Whether the graph can use the node without naming its namespace."""
    return node.namespace.name in (graph.namespace.name, plan.BUILTIN)


def _group_of(node: RegisteredNode) -> str:
    if node.namespace.name != plan.BUILTIN:
        return node.namespace.name
    prefix, dot, _ = node.name.partition(".")
    return prefix if dot else UNGROUPED


def first_sentence(text: str) -> str:
    """The first sentence of a description, without backticks."""
    return re.split(r"(?<=[.;])\s", text.replace("`", ""), maxsplit=1)[0].removesuffix(";")
