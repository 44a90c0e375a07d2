"""Reading a definition from JSON that somebody pasted or uploaded."""

import json

from graphs.definition import edits, errors, payloads
from graphs.definition.types import Definition, Json, JsonObject
from graphs.services import drafts, exosphere_template

MAX_LENGTH = 10_000_000  # characters
MEMBERS = ("nodes", "edges", "inputs", "settings", "metadata")


def parse_definition(text: str, former: Definition = edits.EMPTY) -> Definition:
    """The definition in the text.

    It may be a definition, an answer of the API, or a graph template as `/v0` and Exosphere write
    them, which keeps from `former` what a template can't express. Raises TooLarge, or Malformed
    if the text is not the JSON of a graph.
    """
    if len(text) > MAX_LENGTH:
        raise errors.TooLarge(
            f"The JSON has {len(text):,} characters. At most {MAX_LENGTH:,} are allowed."
        )
    value = _parse_json(text)
    if isinstance(value, dict) and isinstance(value.get("graph_template"), dict):
        value = value["graph_template"]
    if _is_template(value):
        value = exosphere_template.definition_of(_complete_template(value), former)
    if not isinstance(value, dict):
        raise errors.Malformed("A graph is a JSON object with nodes and edges.")
    if isinstance(value.get("nodes"), list) and "edges" not in value:
        value = {**value, "edges": []}
    members = {name: value[name] for name in MEMBERS if value.get(name) is not None}
    return drafts.checked(members)


def _parse_json(text: str) -> Json:
    try:
        return payloads.parse(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        lines = text.splitlines()[error.lineno - 1 : error.lineno]
        line = lines[0].strip() if lines else ""
        raise errors.Malformed(
            f"This is not JSON. Line {error.lineno}, “{line[:80]}”: {error.msg.lower()}."
        ) from None
    except (ValueError, RecursionError) as error:
        raise errors.Malformed(f"This is not JSON: {error}") from None


def _is_template(value: Json) -> bool:
    """Whether the nodes are those of a graph template."""
    nodes = value.get("nodes") if isinstance(value, dict) else None
    if not isinstance(nodes, list) or not nodes:
        return False
    return all(isinstance(node, dict) and "node_name" in node for node in nodes)


def _complete_template(template: JsonObject) -> JsonObject:
    """The template with its optional members. Raises Malformed if a member has a wrong type."""
    return {
        **template,
        "nodes": [_complete_node(at, node) for at, node in enumerate(template["nodes"])],
        "retry_policy": template.get("retry_policy") or {},
        "store_config": template.get("store_config") or {},
    }


def _complete_node(position: int, node: JsonObject) -> JsonObject:
    identifier = node.get("identifier") or node["node_name"]
    namespace, next_nodes = node.get("namespace") or "", node.get("next_nodes") or []
    names = [identifier, node["node_name"], namespace]
    if isinstance(next_nodes, list):
        names += next_nodes
    if not isinstance(next_nodes, list) or not all(isinstance(name, str) for name in names):
        raise errors.Malformed(
            f"Node {position} of the template: node_name, identifier and namespace must be"
            " strings, and next_nodes a list of strings."
        )
    return {
        **node,
        "identifier": identifier,
        "namespace": namespace,
        "inputs": node.get("inputs") or {},
        "next_nodes": next_nodes,
    }
