"""JSON Schemas of tenants, with a budget for the work that they ask for. Pure.

References let a small schema ask for any amount of work: twenty definitions that name each other
twice are evaluated a million times, and a definition that names itself twice as often again for
each level of the value. So a schema is weighed when it is read, and a value before it is validated.

The weight is an upper bound for the number of evaluations on one path into the value. With n
subschemas and values of depth d it takes O(n · d):

    weight(s, 0) = 1 + sum of weight(t, 0), for the t that s applies to the same value
    weight(s, d) = 1 + sum of weight(t, d) + the largest sum of weight(t, d - 1), for the t that s
                   applies to the same member or item
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

import jsonschema_rs

from graphs.definition.errors import Malformed
from graphs.definition.types import Json, Schema

MAX_SUBSCHEMAS = 10_000
MAX_EVALUATIONS = 10_000  # of one value without members
MAX_WORK = 5_000_000  # evaluations of a value with everything in it: about a second
MAX_DEPTH = 200  # of a value that a schema with references validates

_SAME_LISTS = ("allOf", "anyOf", "oneOf")
_SAME = ("not", "if", "then", "else")
_ITEM_LISTS = ("prefixItems", "items")
_ITEMS = ("items", "contains", "additionalItems", "unevaluatedItems")
_MEMBERS = ("additionalProperties", "unevaluatedProperties", "propertyNames")
_NAMED = (
    "properties",
    "patternProperties",
    "dependentSchemas",
    "dependencies",
    "$defs",
    "definitions",
)
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class BadSchema(Malformed, ValueError):
    """A JSON Schema can't be used. It may have been stored before it had a budget."""


@dataclass(frozen=True)
class TooMuchWork:
    """The problem of a value whose validation would take too long."""

    message: str
    instance_path: tuple[str, ...] = ()


class SchemaValidator:
    """Validates values by one schema, and never fetches anything.

    Raises BadSchema for a schema that is invalid or asks for too much work.
    """

    def __init__(self, schema: Schema) -> None:
        try:
            self._weigher = _Weigher(schema)
            self._validator = trusted_validator(schema)
        except ValueError as error:
            raise BadSchema(str(error)) from None

    def iter_errors(self, value: Json) -> Iterator[jsonschema_rs.ValidationError | TooMuchWork]:
        """The problems of a value, each with `message` and `instance_path`."""
        refusal = self._weigher.refusal(value)
        if refusal:
            yield TooMuchWork(refusal)
        else:
            yield from self._validator.iter_errors(value)


def trusted_validator(schema: Schema) -> jsonschema_rs.Validator:
    """A validator for a schema of ours, without the budget."""
    return jsonschema_rs.validator_for(dict(schema), retriever=_refuse_to_fetch)


def _refuse_to_fetch(address: str) -> Json:
    raise ValueError(f"a schema may not refer to {address}")


# --- the weight of a schema ----------------------------------------------------------------------


@dataclass(slots=True)
class _Subschema:
    """What one subschema applies: others to the same value, and others to its parts.

    `members` are applied to the members of that name, `every_member` to each member, and `items`
    to each item.
    """

    same: list[str] = field(default_factory=list)
    members: list[tuple[str, str]] = field(default_factory=list)
    every_member: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)


class _Weigher:
    def __init__(self, schema: Schema) -> None:
        self._subschemas: dict[str, _Subschema] = {}
        self._anchors: dict[str, str] = {}
        self._refers = False
        self._read(dict(schema))
        if not self._refers:
            return
        self._order = self._ordered()
        self._weights = [self._weighed({})]
        if self._weights[0][""] > MAX_EVALUATIONS:
            raise ValueError(
                f"the schema's references ask for more than {MAX_EVALUATIONS:,} evaluations of each"
                " value"
            )

    def refusal(self, value: Json) -> str:
        """Why the value is not validated; "" if it may be."""
        if not self._refers:
            return ""
        depth, parts = _measured(value)
        if depth > MAX_DEPTH:
            return f"it is nested more than {MAX_DEPTH} levels deep"
        while len(self._weights) <= depth:
            if self._weights[-1][""] * parts > MAX_WORK:
                break
            self._weights.append(self._weighed(self._weights[-1]))
        weight = self._weights[min(depth, len(self._weights) - 1)][""]
        if weight * parts > MAX_WORK:
            return "its schema refers to itself too often for a value as deep and large as this one"
        return ""

    # --- reading -------------------------------------------------------------------------------

    def _read(self, root: Json) -> None:
        """Find the subschemas and what they apply. They are named by their JSON pointers."""
        waiting: list[tuple[str, Json]] = [("", root)]
        references: list[tuple[str, str]] = []
        while waiting:
            pointer, schema = waiting.pop()
            subschema = self._subschemas[pointer] = _Subschema()
            if len(self._subschemas) > MAX_SUBSCHEMAS:
                raise ValueError(f"the schema has more than {MAX_SUBSCHEMAS:,} subschemas")
            if not isinstance(schema, dict):
                continue
            for key in ("$anchor", "$dynamicAnchor", "$id", "id"):
                if isinstance(schema.get(key), str):
                    self._anchors[schema[key].removeprefix("#")] = pointer
            for key in _REFERENCES:
                if isinstance(schema.get(key), str):
                    references.append((pointer, schema[key]))
            waiting += self._parts(pointer, schema, subschema)
        self._refers = bool(references)
        for pointer, reference in references:
            self._subschemas[pointer].same += self._targets(reference)

    def _parts(
        self, pointer: str, schema: Mapping[str, Json], subschema: _Subschema
    ) -> Iterator[tuple[str, Json]]:
        for key, value in schema.items():
            at = f"{pointer}/{_escaped(key)}"
            if isinstance(value, dict):
                if key in _SAME:
                    subschema.same.append(at)
                elif key in _ITEMS:
                    subschema.items.append(at)
                elif key in _MEMBERS:
                    subschema.every_member.append(at)
                else:
                    yield from self._named(at, key, value, subschema)
                    continue
                yield at, value
            elif isinstance(value, list) and key in (*_SAME_LISTS, *_ITEM_LISTS):
                targets = [f"{at}/{index}" for index in range(len(value))]
                (subschema.same if key in _SAME_LISTS else subschema.items).extend(targets)
                yield from zip(targets, value, strict=True)

    def _named(
        self, at: str, key: str, value: Mapping[str, Json], subschema: _Subschema
    ) -> Iterator[tuple[str, Json]]:
        """Subschemas in an object by names. Definitions are applied by references only."""
        if key not in _NAMED:
            return
        for name, part in value.items():
            target = f"{at}/{_escaped(name)}"
            if key == "properties":
                subschema.members.append((name, target))
            elif key == "patternProperties":
                subschema.every_member.append(target)
            elif key in ("dependentSchemas", "dependencies"):
                subschema.same.append(target)
            yield target, part

    def _targets(self, reference: str) -> list[str]:
        """The subschema that a reference names; none if it is elsewhere, or names no schema."""
        address, _, fragment = reference.partition("#")
        if address and address not in self._anchors:
            return []
        base = self._anchors[address] if address else ""
        fragment = unquote(fragment)
        target = base + fragment if fragment.startswith("/") else self._anchors.get(fragment, base)
        return [target] if target in self._subschemas else []

    # --- weighing ------------------------------------------------------------------------------

    def _ordered(self) -> list[str]:
        """The subschemas, each after those that it applies to the same value.

        Raises ValueError for one that applies itself to the same value.
        """
        ordered: list[str] = []
        entered: set[str] = set()
        left: set[str] = set()
        waiting = list(self._subschemas)
        while waiting:
            pointer = waiting[-1]
            if pointer in left:
                waiting.pop()
            elif pointer in entered:
                waiting.pop()
                left.add(pointer)
                ordered.append(pointer)
            else:
                entered.add(pointer)
                same = self._subschemas[pointer].same
                following = [target for target in same if target not in left]
                if entered.intersection(following):
                    raise ValueError("a subschema refers to itself without going into the value")
                waiting += following
        return ordered

    def _weighed(self, deeper: Mapping[str, int]) -> dict[str, int]:
        """The weights of all subschemas, given those for values with one level less."""
        weights: dict[str, int] = {}
        for pointer in self._order:
            subschema = self._subschemas[pointer]
            weight = 1 + sum(weights[target] for target in subschema.same)
            if deeper:
                weight += self._weight_of_parts(subschema, deeper)
            weights[pointer] = min(weight, MAX_WORK + 1)
        return weights

    def _weight_of_parts(self, subschema: _Subschema, deeper: Mapping[str, int]) -> int:
        every = sum(deeper[target] for target in subschema.every_member)
        members = [deeper[target] for _, target in subschema.members]
        items = sum(deeper[target] for target in subschema.items)
        return max(every + max(members, default=0), items)


def _escaped(name: str) -> str:
    """A step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _measured(value: Json) -> tuple[int, int]:
    """How deep a value is nested, up to a little more than MAX_DEPTH, and how many parts it has."""
    parts = 0
    depth = 0
    level: list[Json] = [value]
    while level and depth <= MAX_DEPTH + 1:
        parts += len(level)
        deeper: list[Json] = []
        for part in level:
            if isinstance(part, dict):
                deeper.extend(part.values())
            elif isinstance(part, list | tuple):
                deeper.extend(part)
        level = deeper
        depth += bool(level)
    return depth, parts
