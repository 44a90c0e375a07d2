"""What FlowView shows of the chosen node beside its form."""

import json
from typing import TypedDict

from graphs.definition import edits, input_suggestions
from graphs.definition.input_suggestions import Offer
from graphs.definition.types import Definition, EdgeDefinition, NodeDefinition
from graphs.definition.validation import Kind
from graphs.models import RegisteredNode
from graphs.web.pickers import MAX_CHOICES


class NodeDetails(TypedDict):
    """The chosen node as the inspector shows it.

    `before` and `after` are the first edges to and from it, and `more_edges` says how many others
    it has. `has_options` says whether it has other
    data than inputs.
    """

    node: NodeDefinition
    kind: Kind | None
    description: str
    has_options: bool
    before: list[EdgeDefinition]
    after: list[EdgeDefinition]
    more_edges: int
    outputs: list[Offer]
    json: str


def details_of(definition: Definition, name: str, kind: Kind | None) -> NodeDetails:
    """The details of the node `name`, which is registered as `kind`."""
    node, edges = edits.node_of(definition, name), definition["edges"]
    before = [edge for edge in edges if edge["to"] == name]
    after = [edge for edge in edges if edge["from"] == name]
    return {
        "node": node,
        "kind": kind,
        "description": _description(kind, node["kind"]) if kind else "",
        "has_options": bool(set(node.get("data") or {}) - {"inputs"}),
        "before": before[:MAX_CHOICES],
        "after": after[:MAX_CHOICES],
        "more_edges": sum(max(0, len(each) - MAX_CHOICES) for each in (before, after)),
        "outputs": list(input_suggestions.outputs_of(name, kind)),
        "json": json.dumps({"nodes": [node], "edges": []}, ensure_ascii=False, indent=2),
    }


def _description(kind: Kind, name: str) -> str:
    """The first paragraph of a registered node's description, without backticks."""
    nodes = RegisteredNode.objects.filter(namespace__name=kind.namespace, name=name)
    description = nodes.values_list("description", flat=True).first() or ""
    return description.partition("\n\n")[0].replace("`", "")
