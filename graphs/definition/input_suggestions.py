"""What an input of a node can be given: outputs of nodes before it, inputs of the run, keys of the store. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from graphs.definition import edits, plan
from graphs.definition.validation import Kind

Schema = Mapping[str, Any]
Kinds = Mapping[str, Kind | None]  # by the id of the node


@dataclass(frozen=True)
class Offer:
    """A reference that may be chosen; `schema` is what is known of its value."""

    reference: str
    schema: Schema

    @property
    def text(self) -> str:
        """As it stands in the definition."""
        return f"${{{{ {self.reference} }}}}"


def offers(definition: Mapping[str, Any], node: str, kinds: Kinds) -> list[Offer]:
    """What the inputs of this node may refer to, the nearest nodes first."""
    found = [
        offer
        for each in edits.before(plan.edges_of(definition), node)
        for offer in outputs_of(each, kinds.get(each))
    ]
    inputs = definition.get("inputs")
    declared = inputs.get("properties") if isinstance(inputs, dict) else None
    for name, schema in declared.items() if isinstance(declared, dict) else ():
        found.append(Offer(f"run.inputs.{name}", schema if isinstance(schema, dict) else {}))
    store = (definition.get("settings") or {}).get("store") or {}
    return found + [
        Offer(f"store.{name}", {"type": "string"})
        for name in dict.fromkeys(
            [*store.get("required_keys", ()), *store.get("default_values", ())]
        )
    ]


def outputs_of(node: str, kind: Kind | None) -> Iterable[Offer]:
    schema = (kind.outputs_schema if kind else None) or {}
    for name in schema.get("properties") or {}:
        yield Offer(f"{node}.outputs.{name}", member(schema, name))


def member(schema: Schema, name: str) -> dict[str, Any]:
    """The schema of one member, with what it refers to in the whole put in."""
    found = (schema.get("properties") or {}).get(name)
    return resolved(found if isinstance(found, dict) else {}, schema)


def resolved(schema: Schema, whole: Schema, items: bool = True) -> dict[str, Any]:
    """A schema with `$ref` followed, and `X or null` taken as X; the same for the items of a list and the values of an object, but not for theirs."""
    for _ in range(10):
        if isinstance(schema.get("$ref"), str):
            target = (whole.get("$defs") or {}).get(schema["$ref"].rpartition("/")[2])
            schema = {
                **(target if isinstance(target, dict) else {}),
                **{key: value for key, value in schema.items() if key != "$ref"},
            }
        choices = schema.get("anyOf")
        some = (
            [each for each in choices if isinstance(each, dict) and each.get("type") != "null"]
            if isinstance(choices, list)
            else []
        )
        if len(some) != 1:
            break
        schema = {**some[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
    inner = {key: schema[key] for key in ("items", "additionalProperties") if key in schema}
    return {
        **schema,
        **{
            key: resolved(each, whole, items=False) if items and isinstance(each, dict) else {}
            for key, each in inner.items()
        },
    }


def fits(given: Schema, wanted: Schema) -> bool:
    """Whether a value of the one schema is surely of the other, as far as types and names of objects go."""
    if not wanted.get("type") or given.get("type") != wanted["type"]:
        return wanted.get("type") == "number" and given.get("type") == "integer"
    if wanted["type"] == "object":
        return set(wanted.get("properties") or {}) <= set(given.get("properties") or {})
    return True


def wire(definition: Mapping[str, Any], start: str, end: str, kinds: Kinds) -> dict[str, Any]:
    """The inputs of `end` that are empty and that just one output of `start` fits; lists of what it gives grow by it."""
    kind = kinds.get(end)
    schema = (kind.inputs_schema if kind else None) or {}
    inputs = (edits.node_of(definition, end).get("data") or {}).get("inputs") or {}
    given = list(outputs_of(start, kinds.get(start)))
    found: dict[str, Any] = {}
    for name in schema.get("properties") or {}:
        wanted = member(schema, name)
        if name not in inputs and name in (schema.get("required") or ()):
            fitting = [
                offer.text
                for offer in given
                if fits(offer.schema, wanted) and offer.text not in found.values()
            ]
            if len(fitting) == 1:
                return {name: fitting[0]}
        if (
            wanted.get("type") == "array"
            and isinstance(inputs.get(name, []), list)
            and wanted.get("items", {}).get("type") == "object"
        ):
            fitting = [offer.text for offer in given if fits(offer.schema, wanted["items"])]
            if len(fitting) == 1 and fitting[0] not in inputs.get(name, []):
                found[name] = [*inputs.get(name, []), fitting[0]]
    return found
