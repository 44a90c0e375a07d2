"""The palette of FlowView: the registered nodes that may be added to a graph, in groups."""

import re
from dataclasses import dataclass

from graphs.auth.callers import Caller
from graphs.definition import plan
from graphs.models import Graph, RegisteredNode

UNGROUPED = "steps"  # the group of built-in nodes without a dot in their name


@dataclass(frozen=True)
class Entry:
    """A node of the palette, with the first sentence of its description."""

    pk: int
    name: str
    description: str


def palette_of(graph: Graph, caller: Caller) -> dict[str, list[Entry]]:
    """The nodes that may be added to the graph, by group.

    Built-in nodes are grouped by the part of their name before the dot, the others by namespace.
    """
    groups: dict[str, list[Entry]] = {}
    nodes = RegisteredNode.objects.select_related("namespace").order_by("name")
    for node in nodes.defer("inputs_schema", "outputs_schema"):
        if may_use(node, graph, caller):
            entry = Entry(node.pk, node.name, first_sentence(node.description))
            groups.setdefault(_group_of(node), []).append(entry)
    return dict(sorted(groups.items()))


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
