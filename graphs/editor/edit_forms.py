"""What a form of FlowView asks for, as a change of the draft."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from graphs.auth.callers import Caller
from graphs.definition import edits, errors, input_suggestions
from graphs.definition.edits import Edit
from graphs.definition.names import parse_id
from graphs.definition.plan import BUILTIN
from graphs.definition.types import Definition, JsonObject, Position
from graphs.editor.flow import kinds_of
from graphs.editor.inspector import NodeForm
from graphs.editor.settings_form import SettingsForm
from graphs.models import Graph, RegisteredNode
from graphs.services import drafts, exosphere_template

Asked = Mapping[str, Any]
LARGEST = 10_000_000  # characters of pasted JSON


class Unfit(Exception):
    """The form has fields that don't fit; nothing is changed."""

    def __init__(self, form: NodeForm | SettingsForm) -> None:
        self.form = form


def asked_for(asked: Asked, graph: Graph, caller: Caller) -> Callable[[Definition], Edit]:
    """The change that the form's `op` names. Raises Malformed for an unknown one; the change itself may raise Malformed and Unfit."""
    op = asked.get("op") or ("add" if asked.get("kind") else "")
    if op not in OPS:
        raise errors.Malformed(f"There is no change {op[:40]!r}; there are {', '.join(OPS)}.")
    return lambda definition: OPS[op](definition, asked, graph, caller)


def _wire(graph: Graph, caller: Caller) -> edits.Wire:
    return lambda definition, start, end: input_suggestions.wire(
        definition, start, end, kinds_of(graph, definition, caller)
    )


def _add(definition: Definition, asked: Asked, graph: Graph, caller: Caller) -> Edit:
    kind = (
        RegisteredNode.objects.select_related("namespace")
        .filter(pk=parse_id(asked.get("kind", "")) or 0)
        .first()
    )
    own = kind is not None and kind.namespace.name in (graph.namespace.name, BUILTIN)
    if kind is None or not (own or caller.sees(kind.namespace_id)):
        raise errors.Malformed("That node is not registered any more.")
    after = (
        asked.get("node", "")
        if any(node["id"] == asked.get("node") for node in definition["nodes"])
        else ""
    )
    return edits.add(
        definition, kind.name, "" if own else kind.namespace.name, after, _wire(graph, caller)
    )


def _connect(definition: Definition, asked: Asked, graph: Graph, caller: Caller) -> Edit:
    return edits.connect(
        definition,
        asked.get("start", ""),
        asked.get("end", ""),
        asked.get("when", "").strip(),
        _wire(graph, caller),
    )


def _move(definition: Definition, asked: Asked, *_: Any) -> Edit:
    try:
        position: Position = {"x": round(float(asked["x"])), "y": round(float(asked["y"]))}
    except (KeyError, ValueError, OverflowError):
        raise errors.Malformed("A position is two numbers, x and y.") from None
    if max(abs(position["x"]), abs(position["y"])) > 1_000_000:
        raise errors.Malformed("That is too far away.")
    return edits.move(definition, asked.get("node", ""), position)


def _change(definition: Definition, asked: Asked, graph: Graph, caller: Caller) -> Edit:
    form = NodeForm(definition, asked.get("node", ""), kinds_of(graph, definition, caller), asked)
    if not form.is_valid():
        raise Unfit(form)
    if form.cleaned_data["id"] != asked.get("node") and any(
        node["id"] == form.cleaned_data["id"] for node in definition["nodes"]
    ):
        form.add_error("id", "There is a node of this id already.")
        raise Unfit(form)
    return edits.change(definition, asked.get("node", ""), form.node())


def _settings(definition: Definition, asked: Asked, *_: Any) -> Edit:
    form = SettingsForm(definition, asked)
    if not form.is_valid():
        raise Unfit(form)
    return Edit(form.definition(), "Change the graph's settings")


def _replace(definition: Definition, asked: Asked, *_: Any) -> Edit:
    return Edit(parsed(asked.get("json", ""), definition), "Replace by JSON")


def _paste(definition: Definition, asked: Asked, *_: Any) -> Edit:
    return edits.paste(definition, parsed(asked.get("json", "")))


OPS: dict[str, Callable[..., Edit]] = {
    "add": _add,
    "connect": _connect,
    "disconnect": lambda definition, asked, *_: edits.disconnect(
        definition, asked.get("start", ""), asked.get("end", "")
    ),
    "condition": lambda definition, asked, *_: edits.condition(
        definition, asked.get("start", ""), asked.get("end", ""), asked.get("when", "").strip()
    ),
    "duplicate": lambda definition, asked, *_: edits.duplicate(definition, asked.get("node", "")),
    "delete": lambda definition, asked, *_: edits.delete(definition, asked.get("node", "")),
    "move": _move,
    "arrange": lambda definition, *_: edits.arrange(definition),
    "change": _change,
    "settings": _settings,
    "replace": _replace,
    "paste": _paste,
}


def parsed(text: str, former: Definition = edits.EMPTY) -> Definition:
    """A definition from JSON: one of ours, the answer of our API, or a graph template as `/v0` and Exosphere spell it. Raises Malformed."""
    if len(text) > LARGEST:
        raise errors.TooLarge(f"The JSON has {len(text):,} characters; {LARGEST:,} are allowed.")
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        line = next(iter(text.splitlines()[error.lineno - 1 : error.lineno]), "").strip()
        raise errors.Malformed(
            f"This is no JSON: something is wrong in line {error.lineno}, “{line[:80]}”: {error.msg.lower()}."
        ) from None
    except (ValueError, RecursionError) as error:
        raise errors.Malformed(f"This is no JSON: {error}") from None
    if isinstance(found, dict) and isinstance(found.get("graph_template"), dict):
        found = found["graph_template"]
    if is_template(found):
        found = exosphere_template.definition_of(filled(found), former)
    if not isinstance(found, dict):
        raise errors.Malformed("A graph is a JSON object with nodes and edges.")
    if isinstance(found.get("nodes"), list) and "edges" not in found:
        found = {**found, "edges": []}
    return drafts.checked(
        {
            key: found[key]
            for key in ("nodes", "edges", "inputs", "settings", "metadata")
            if found.get(key) is not None
        }
    )


def is_template(found: Any) -> bool:
    nodes = found.get("nodes") if isinstance(found, dict) else None
    return (
        isinstance(nodes, list)
        and bool(nodes)
        and all(isinstance(node, dict) and "node_name" in node for node in nodes)
    )


def filled(template: JsonObject) -> JsonObject:
    """A template with what it may leave out. Raises Malformed for members of another type."""
    nodes = []
    for at, node in enumerate(template["nodes"]):
        name = node.get("identifier") or node["node_name"]
        follows = node.get("next_nodes") or []
        texts = isinstance(follows, list) and all(
            isinstance(each, str)
            for each in [name, node["node_name"], node.get("namespace") or "", *follows]
        )
        if not texts:
            raise errors.Malformed(
                f"Node {at} of the template: node_name, identifier and namespace are texts, next_nodes is a list of texts."
            )
        said = {
            "identifier": name,
            "namespace": node.get("namespace") or "",
            "inputs": node.get("inputs") or {},
            "next_nodes": follows,
        }
        nodes.append({**node, **said})
    return {
        **template,
        "nodes": nodes,
        "retry_policy": template.get("retry_policy") or {},
        "store_config": template.get("store_config") or {},
    }
