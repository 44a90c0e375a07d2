"""The work that a JSON Schema asks for, before any value is validated by it. Pure.

A small schema can ask for any amount of work: twenty definitions that name each other twice are
evaluated a million times, a definition that names itself twice as often again for each level of the
value, and an `enum` of thousands of values is compared with each of thousands of items. So a schema
is weighed when it is read, and a value before it is validated.

The weight is an upper bound for the number of evaluations on one path into the value. With n
subschemas and values of depth d it takes O(n · d):

    weight(s, 0) = cost(s) + sum of weight(t, 0), for the t that s applies to the same value
    weight(s, d) = cost(s) + sum of weight(t, d) + the largest sum of weight(t, d - 1), for the t
                   that s applies to the same member or item

The cost of a subschema is 1, and more if it compares a value with others. Patterns are weighed in
the same way, for the characters of long texts. `unevaluatedProperties` and `unevaluatedItems` apply
everything to the same value once more, and their weight is that of AGAIN times the others. What a
schema refers to must be in it, so that no reference escapes the scales.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urljoin

from graphs.definition.cel_work import pattern_work
from graphs.definition.types import Json, Schema

MAX_SUBSCHEMAS = 10_000
MAX_EVALUATIONS = 10_000  # of one value without members
MAX_WORK = 5_000_000  # evaluations of a value with everything in it: about a second
MAX_DEPTH = 200  # of a value that a schema with references validates
MAX_PATTERNS = 500
MAX_POSITIONS = 20_000  # of all patterns, with their repetitions written out
SHORT_TEXT = 1_000  # characters that any pattern reads quickly
AGAIN = 3  # evaluations of what is looked at once more
_PROBLEM_BYTES = 500  # of one without the value and the part of the schema that it quotes

_BYTES_PER_COMPARISON = 16  # of the JSON of an `enum`, a `const` or a list of names
_CHARACTERS_PER_PART = 16  # of a text, which a pattern may have to read
_COST_OF_POSITION = 1.5  # evaluations for a position of a pattern and as many characters
_LITERALS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)  # escapes and classes
_UNBOUNDED = re.compile(r"[*+|]|\{\d+,\}")
_FRACTION_COST = 100  # of a `multipleOf` that is no whole number: it computes with large fractions

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
_COMPARED = ("enum", "const", "required", "dependentRequired", "dependencies")


@dataclass(slots=True)
class _Subschema:
    """What one subschema applies: others to the same value, and others to its parts.

    `members` are applied to the members of that name, `every_member` to each member, and `items`
    to each item. `cost` is that of its own keywords, `pattern_cost` that of its patterns for each
    16 characters of a long text, and `times` says how often the subschemas of the same value are
    evaluated.
    """

    cost: int = 1
    pattern_cost: int = 0
    times: int = 1
    same: list[str] = field(default_factory=list)
    members: list[tuple[str, str]] = field(default_factory=list)
    every_member: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)


class Weigher:
    """The weight of a schema. Raises ValueError for one that asks for too much work."""

    def __init__(self, schema: Schema) -> None:
        self._root: Json = dict(schema)
        self._base = _text_at(self._root, "$id") or _text_at(self._root, "id")
        self._subschemas: dict[str, _Subschema] = {}
        self._anchors: dict[str, str] = {}
        self._references: list[tuple[str, str]] = []
        self._repeats = False
        self._resources: list[str] = []  # the parts with an address of their own
        self._patterns = 0
        self._positions = 0.0
        self._read("", self._root)
        self._follow_references()
        self._order = self._ordered()
        self._weights = [self._weighed({})]
        self._pattern_weights = [self._weighed({}, of_patterns=True)]
        is_multiple = self._references or self._repeats
        if is_multiple and self._weights[0][""] > MAX_EVALUATIONS:
            raise ValueError(
                "the schema's references and unevaluated members ask for more than"
                f" {MAX_EVALUATIONS:,} evaluations of each value"
            )

    def refusal(self, value: Json) -> str:
        """Why the value is not validated; "" if it may be."""
        depth, parts, blocks = _measured(value)
        if depth > MAX_DEPTH and self._references:
            return f"it is nested more than {MAX_DEPTH} levels deep"
        work = self._weight(depth, parts) * parts
        if blocks:
            work += self._weight(depth, blocks, of_patterns=True) * blocks
        if work > MAX_WORK:
            return (
                "its schema asks for too many evaluations of a value as deep and large as this one:"
                f" more than {MAX_WORK:,}"
            )
        return ""

    def problem_bytes(self, value: Json) -> int:
        """An upper bound for the sizes of all problems that a value can have.

        Each quotes the part of the value that it is about, and the part of the schema.
        """
        depth, parts, _ = _measured(value)
        weight = self._weight(depth, parts)
        size = len(json.dumps(value))
        return weight * (size + parts * (_PROBLEM_BYTES + _BYTES_PER_COMPARISON))

    def _weight(self, depth: int, parts: int, of_patterns: bool = False) -> int:
        """The weight of the schema for values of this depth, or the first one that is too much."""
        weights = self._pattern_weights if of_patterns else self._weights
        while len(weights) <= depth and weights[-1][""] * parts <= MAX_WORK:
            heavier = self._weighed(weights[-1], of_patterns)
            if heavier == weights[-1]:
                break  # the schema leads no deeper into the value
            weights.append(heavier)
        return weights[min(depth, len(weights) - 1)][""]

    # --- reading -------------------------------------------------------------------------------

    def _read(self, pointer: str, schema: Json) -> None:
        """Find the subschemas and what they apply. They are named by their JSON pointers."""
        waiting: list[tuple[str, Json]] = [(pointer, schema)]
        while waiting:
            pointer, schema = waiting.pop()
            if pointer in self._subschemas:
                continue
            subschema = self._subschemas[pointer] = _Subschema()
            if len(self._subschemas) > MAX_SUBSCHEMAS:
                raise ValueError(f"the schema has more than {MAX_SUBSCHEMAS:,} subschemas")
            if not isinstance(schema, dict):
                continue
            self._read_names(pointer, schema)
            self._count_patterns(schema)
            subschema.cost = _cost(schema)
            subschema.pattern_cost = sum(map(_pattern_cost, _patterns_in(schema)))
            if "unevaluatedProperties" in schema or "unevaluatedItems" in schema:
                subschema.times = AGAIN
                self._repeats = True
            waiting += self._parts(pointer, schema, subschema)

    def _read_names(self, pointer: str, schema: Mapping[str, Json]) -> None:
        """Note what a subschema is called, and what it refers to."""
        for key in ("$anchor", "$dynamicAnchor", "$id", "id"):
            name = _text_at(schema, key)
            if key in ("$id", "id") and name and not name.startswith("#"):
                if pointer:
                    self._resources.append(pointer)
            elif name and self._anchors.setdefault(name.removeprefix("#"), pointer) != pointer:
                raise ValueError(f"two subschemas have the anchor {name[:100]!r}")
        for key in _REFERENCES:
            if isinstance(schema.get(key), str):
                self._references.append((pointer, schema[key]))

    def _count_patterns(self, schema: Mapping[str, Json]) -> None:
        patterns = _patterns_in(schema)
        self._patterns += len(patterns)
        self._positions += sum(pattern_work(pattern)[1] for pattern in patterns)
        if self._patterns > MAX_PATTERNS:
            raise ValueError(f"the schema has more than {MAX_PATTERNS:,} patterns")
        if self._positions > MAX_POSITIONS:
            raise ValueError(
                "the schema's patterns are too large: with their repetitions written out, they have"
                f" more than {MAX_POSITIONS:,} positions"
            )

    def _follow_references(self) -> None:
        """Find what the references apply, which may be in places that keywords don't lead to."""
        for pointer, reference in self._references:  # grows while parts are read
            if self._resources:
                raise ValueError(
                    f"{self._resources[0][:100]} has an $id of its own; a schema with references"
                    " may have one at its root only"
                )
            target = self._target(reference)
            if target is not None:
                self._subschemas[pointer].same.append(target)

    def _target(self, reference: str) -> str | None:
        """The subschema that a reference leads to; None if that is in another document."""
        address, _, fragment = urljoin(self._base, reference).partition("#")
        if address != self._base.partition("#")[0]:
            return None  # the published meta-schemas, or it can't be fetched
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            target = self._anchors.get(fragment)
        else:
            target = fragment
            self._read(target, _value_at(self._root, target))
        if target is None:
            raise ValueError(f"it has no part {reference[:100]!r}")
        return target

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

    def _weighed(self, deeper: Mapping[str, int], of_patterns: bool = False) -> dict[str, int]:
        """The weights of all subschemas, given those for values with one level less."""
        weights: dict[str, int] = {}
        for pointer in self._order:
            subschema = self._subschemas[pointer]
            same = sum(weights[target] for target in subschema.same)
            cost = subschema.pattern_cost if of_patterns else subschema.cost
            weight = cost + subschema.times * same
            if deeper:
                weight += self._weight_of_parts(subschema, deeper)
            weights[pointer] = min(weight, MAX_WORK + 1)
        return weights

    def _weight_of_parts(self, subschema: _Subschema, deeper: Mapping[str, int]) -> int:
        every = sum(deeper[target] for target in subschema.every_member)
        members = [deeper[target] for _, target in subschema.members]
        items = sum(deeper[target] for target in subschema.items)
        return max(every + max(members, default=0), items)


def _cost(schema: Mapping[str, Json]) -> int:
    """What the keywords of a subschema cost that compare a value with others."""
    cost = 1
    for key in _COMPARED:
        if key in schema:
            cost += len(json.dumps(schema[key])) // _BYTES_PER_COMPARISON
    if isinstance(schema.get("multipleOf"), float):
        cost += _FRACTION_COST
    return cost


def _patterns_in(schema: Mapping[str, Json]) -> list[str]:
    named = schema.get("patternProperties")
    patterns = list(named) if isinstance(named, dict) else []
    pattern = schema.get("pattern")
    return [*patterns, pattern] if isinstance(pattern, str) else patterns


def _pattern_cost(pattern: str) -> int:
    """What a pattern costs for each 16 characters of a text.

    At worst each character is compared at each position. One that is anchored and has no repetition
    without an end is done with soon, however long the text is.
    """
    plain = _LITERALS.sub("", pattern)
    ends_soon = pattern.startswith("^") and not _UNBOUNDED.search(plain)
    return 1 if ends_soon else math.ceil(pattern_work(pattern)[1] * _COST_OF_POSITION)


def _text_at(schema: Mapping[str, Json], key: str) -> str:
    value = schema.get(key)
    return value if isinstance(value, str) else ""


def _value_at(root: Json, pointer: str) -> Json:
    """The part of a JSON value at a pointer (RFC 6901). Raises ValueError if there is none."""
    value = root
    try:
        for step in pointer.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            value = value[int(name)] if isinstance(value, list) else value[name]
    except (KeyError, IndexError, TypeError, ValueError):
        raise ValueError(f"Pointer {pointer[:100]!r} does not exist") from None
    return value


def _escaped(name: str) -> str:
    """A step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _measured(value: Json) -> tuple[int, int, int]:
    """How deep a value is nested, up to a little more than MAX_DEPTH, and how many parts it has.

    A text counts as several parts. The last number is that of 16 characters in long texts, which
    patterns may have to read slowly.
    """
    parts = 0
    long_texts = 0
    depth = 0
    characters = 0
    level: list[Json] = [value]
    while level and depth <= MAX_DEPTH + 1:
        parts += len(level)
        deeper: list[Json] = []
        for part in level:
            if isinstance(part, dict):
                characters += sum(map(len, part))
                long_texts += sum(len(name) for name in part if len(name) > SHORT_TEXT)
                deeper.extend(part.values())
            elif isinstance(part, list | tuple):
                deeper.extend(part)
            elif isinstance(part, str):
                characters += len(part)
                long_texts += len(part) if len(part) > SHORT_TEXT else 0
        level = deeper
        depth += bool(level)
    blocks = long_texts // _CHARACTERS_PER_PART
    return depth, parts + characters // _CHARACTERS_PER_PART, blocks
