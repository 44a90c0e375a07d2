"""What an input of a node can refer to. Pure.

Suggestions are outputs of the nodes before it, inputs of the run, and keys of the store.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphs.definition import edits, plan
from graphs.definition.problems import Kind, object_at
from graphs.definition.types import Definition, JsonObject, Schema

MAX_NODES = 100  # the nearest ones, whose outputs are suggested
MAX_REFS = 10  # `$ref` and `anyOf` that are followed for one schema

Kinds = Mapping[str, Kind | None]  # by the id of the node


@dataclass(frozen=True)
class Offer:
    """A reference to choose. `schema` describes its value as far as it is known."""

    reference: str
    schema: Schema

    @property
    def text(self) -> str:
        """The placeholder as it is written in a definition."""
        return f"${{{{ {self.reference} }}}}"


def offers(definition: Definition, node: str, kinds: Kinds) -> list[Offer]:
    """What the inputs of this node may refer to; outputs of the nearest nodes come first."""
    suggested: list[Offer] = []
    for name in plan.nodes_before(definition, node)[:MAX_NODES]:
        suggested += outputs_of(name, kinds.get(name))

    for name, schema in object_at(definition.get("inputs"), "properties").items():
        suggested.append(Offer(f"run.inputs.{name}", schema if isinstance(schema, dict) else {}))

    store = (definition.get("settings") or {}).get("store") or {}
    keys = dict.fromkeys([*store.get("required_keys", ()), *store.get("default_values", ())])
    return suggested + [Offer(f"store.{key}", {"type": "string"}) for key in keys]


def outputs_of(node: str, kind: Kind | None) -> Iterator[Offer]:
    """The outputs that a node declares."""
    schema = (kind.outputs_schema if kind else None) or {}
    for name in schema.get("properties") or {}:
        yield Offer(f"{node}.outputs.{name}", member(schema, name))


def member(schema: Schema, name: str) -> JsonObject:
    """The schema of one property, resolved; empty if there is none."""
    return resolved(object_at(schema.get("properties"), name), schema)


def resolved(schema: Schema, root: Schema, items: bool = True) -> JsonObject:
    """A schema with its `$ref` followed, and with `X or null` taken as X.

    `root` holds the definitions that `$ref` names. With `items`, the schemas of list items and of
    further object members are resolved, too, but not the items of those.
    """
    for _ in range(MAX_REFS):
        schema = _without_ref(schema, root)
        choice = _only_choice(schema)
        if choice is None:
            break
        schema = {**choice, **{key: value for key, value in schema.items() if key != "anyOf"}}

    result = dict(schema)
    for key in ("items", "additionalProperties"):
        if key in schema:
            inner = schema[key]
            is_resolved = items and isinstance(inner, dict)
            result[key] = resolved(inner, root, items=False) if is_resolved else {}
    return result


def _without_ref(schema: Schema, root: Schema) -> Schema:
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    target = object_at(root.get("$defs"), reference.rpartition("/")[2])
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


def _only_choice(schema: Schema) -> Schema | None:
    """The only `anyOf` schema that isn't for null; None if there are several or none."""
    choices = schema.get("anyOf")
    if not isinstance(choices, list):
        return None
    schemas = [choice for choice in choices if isinstance(choice, dict)]
    schemas = [choice for choice in schemas if choice.get("type") != "null"]
    return schemas[0] if len(schemas) == 1 else None


def fits(given: Schema, wanted: Schema) -> bool:
    """Whether every value of one schema fits another, judged by types and names of properties."""
    if not wanted.get("type") or given.get("type") != wanted["type"]:
        return wanted.get("type") == "number" and given.get("type") == "integer"
    if wanted["type"] == "object":
        return set(wanted.get("properties") or {}) <= set(given.get("properties") or {})
    return True


def wire(definition: Definition, start: str, end: str, kinds: Kinds) -> JsonObject:
    """The inputs of `end` to set when an edge from `start` is drawn.

    The first required input that is empty and that exactly one output fits gets that output. If
    there is none, lists of objects grow by the only output that fits their items.
    """
    kind = kinds.get(end)
    schema = (kind.inputs_schema if kind else None) or {}
    inputs = (edits.node_of(definition, end).get("data") or {}).get("inputs") or {}
    outputs = list(outputs_of(start, kinds.get(start)))
    return _first_required(schema, inputs, outputs) or _grown_lists(schema, inputs, outputs)


def _first_required(schema: Schema, inputs: JsonObject, outputs: list[Offer]) -> JsonObject:
    required = schema.get("required") or ()
    for name in schema.get("properties") or {}:
        if name in required and name not in inputs:
            only = _only_fitting(outputs, member(schema, name))
            if only:
                return {name: only}
    return {}


def _grown_lists(schema: Schema, inputs: JsonObject, outputs: list[Offer]) -> JsonObject:
    grown: JsonObject = {}
    for name in schema.get("properties") or {}:
        wanted = member(schema, name)
        items = wanted.get("items", {})
        current = inputs.get(name, [])
        if wanted.get("type") != "array" or items.get("type") != "object":
            continue
        only = _only_fitting(outputs, items)
        if only and isinstance(current, list) and only not in current:
            grown[name] = [*current, only]
    return grown


def _only_fitting(outputs: list[Offer], wanted: Schema) -> str:
    """The placeholder of the only output that fits a schema; "" if several fit or none does."""
    fitting = [offer.text for offer in outputs if fits(offer.schema, wanted)]
    return fitting[0] if len(fitting) == 1 else ""
