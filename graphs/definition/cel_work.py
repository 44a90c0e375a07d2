"""How much work a CEL expression can be at most, before it is evaluated. Pure.

The engine can't be interrupted, and it holds up all threads of its process. So the work is bounded
first, from the tree of the expression and the values of its variables: how often each part is
evaluated, what it has to read, and how large its value can become. The unit of work is about
0.2 microseconds.

A loop adds up its body for all items. The bound of the body grows at least in proportion to the
size of the item, so together the items cost no more than one item with the size of all of them,
and for each of the others what an empty item costs.

`filter` copies the items that it has kept so far whenever it keeps one more. How many these are
isn't known before, so this part is counted while the expression runs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphs.definition.cel_syntax import Call, Literal, Loop, Name, Select, Tree
from graphs.definition.types import Json

MAX_WORK = 10_000_000  # about two seconds
MAX_SIZE = 10_485_760  # bytes of a text or a list that an expression puts together
MAX_NESTED_LOOPS = 3
_FEW_PARTS = 20
_NODE_BYTES = 10  # that a value takes besides its characters
_COPIED = 500  # characters that are copied or compared in a unit of work
_COPIED_OUT = 50  # how much more a size costs: the engine copies its value to Python
_COMPARED = 8  # values that are compared in a unit of work
_COMPARISONS = frozenset(("==", "size", "contains", "startsWith", "endsWith"))
_SCALARS = _COMPARISONS | frozenset(
    ("&&", "||", "!", "*", "int", "uint", "double", "timestamp", "duration", "has")
)


class TooMuchWork(ValueError):
    """An expression would take too long, or its value would be too large."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What is known about a part of an expression.

    `work` is the units that it takes. Its value has at most `length` items, `nodes` values with
    everything in it, and `characters`. `values` are the values that it has, if they are known: one
    value, or those that a variable of a loop has one after the other. The sizes are their sums.
    """

    work: float
    length: float = 0
    nodes: float = 1
    characters: float = 20
    values: Sequence[Json] | None = None

    @property
    def copying(self) -> float:
        return self.nodes + self.characters / _COPIED


def needs_bound(tree: Tree) -> bool:
    """Whether the work of an expression can be more than reading its values a few times."""
    parts = 0
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        parts += 1
        if isinstance(part, Loop) or parts > _FEW_PARTS:
            return True
        if isinstance(part, Select):
            waiting.append(part.of)
        elif isinstance(part, Call):
            if part.function in ("+", "matches"):
                return True
            waiting.extend(part.args)
    return False


def nested_loops(tree: Tree) -> int:
    """How many loops are inside each other. A loop over the value of another one isn't inside."""
    if isinstance(tree, Loop):
        return max(nested_loops(tree.of), 1 + max(map(nested_loops, tree.parts)))
    if isinstance(tree, Select):
        return nested_loops(tree.of)
    if isinstance(tree, Call):
        return max(map(nested_loops, tree.args), default=0)
    return 0


class Estimate:
    """The bounds of one expression for the values of its variables.

    `kept` are the units of work that each loop which filters takes for an item that it keeps.
    """

    def __init__(self, tree: Tree, variables: Mapping[str, Json]) -> None:
        self.kept: dict[tuple[int, int], float] = {}
        self._measured: dict[int, Bound] = {}
        self.work = self._bound(tree, dict(variables), {}).work
        check(self.work)

    def _bound(self, tree: Tree, data: Mapping[str, Json], items: Mapping[str, Bound]) -> Bound:
        """The bound of a part. `items` are the variables of the loops around it."""
        if isinstance(tree, Literal):
            return Bound(1) if tree.value is None else self._known([tree.value])
        if isinstance(tree, Name):
            if tree.name in items:
                return items[tree.name]
            return self._known([data[tree.name]]) if tree.name in data else Bound(1)
        if isinstance(tree, Select):
            of = self._bound(tree.of, data, items)
            part = self._part(of, tree.field)
            # The engine copies a member that is selected by a dot.
            return replace(part, work=of.work + part.copying)
        if isinstance(tree, Loop):
            return self._loop(tree, data, items)
        return self._call(tree, data, items)

    def _known(self, values: Sequence[Json]) -> Bound:
        """The bound of values of the variables. A single value is measured once."""
        if len(values) != 1 or not isinstance(values[0], dict | list):
            return measured(values)
        known = self._measured.get(id(values[0]))
        if known is None:
            known = self._measured[id(values[0])] = measured(values)
        return known

    def _part(self, of: Bound, step: str | int | None) -> Bound:
        """The bound of a member or an item: of this one if it is known, else of all together."""
        if of.values is None:
            return Bound(0, of.nodes, of.nodes, of.characters)
        if step is None:
            return self._known(_items(of.values))
        return self._known(_members(of.values, step))

    # --- functions and operators -----------------------------------------------------------------

    def _call(self, tree: Call, data: Mapping[str, Json], items: Mapping[str, Bound]) -> Bound:
        if tree.function == "[]":
            return self._item(tree, data, items)
        args = [self._bound(arg, data, items) for arg in tree.args]
        work = 1 + sum(arg.work for arg in args)
        if tree.function == "matches" and len(args) == 2:
            return Bound(work + _matching(args[0], args[1]))
        if tree.function in _COMPARISONS:
            read = sum(arg.nodes / _COMPARED + arg.characters / _COPIED for arg in args)
            return Bound(work + read * (_COPIED_OUT if tree.function == "size" else 1))
        if tree.function in _SCALARS or tree.function.startswith("get"):
            return Bound(work)
        return _made(work, tree.function, args)

    def _item(self, tree: Call, data: Mapping[str, Json], items: Mapping[str, Bound]) -> Bound:
        of, index = (self._bound(arg, data, items) for arg in tree.args)
        step = tree.args[1].value if isinstance(tree.args[1], Literal) else None
        return replace(self._part(of, step), work=of.work + index.work + 1)

    # --- loops -----------------------------------------------------------------------------------

    def _loop(self, tree: Loop, data: Mapping[str, Json], items: Mapping[str, Bound]) -> Bound:
        of = self._bound(tree.of, data, items)
        nothing = Bound(1, 0, 0, 0, ())
        everything = replace(self._part(of, None), work=1)
        one = [self._bound(part, data, {**items, tree.variable: nothing}) for part in tree.parts]
        all_ = [
            self._bound(part, data, {**items, tree.variable: everything}) for part in tree.parts
        ]
        others = max(of.length - 1, 0)
        work = of.work + 2 * of.length
        work += sum(others * least.work + most.work for least, most in zip(one, all_, strict=True))
        if tree.function == "filter":
            result = Bound(work, of.length, of.nodes, of.characters)
        elif tree.function == "map":
            nodes = others * one[-1].nodes + all_[-1].nodes + 1
            characters = others * one[-1].characters + all_[-1].characters
            result = Bound(work, of.length, nodes, characters)
            _check_size(result)
        else:
            return Bound(work)
        if tree.condition:
            self.kept[tree.condition] = max(result.copying, self.kept.get(tree.condition, 0))
            return result
        return Bound(
            work + of.length * result.copying / 2, result.length, result.nodes, result.characters
        )


def _items(values: Sequence[Json]) -> list[Json]:
    """The items of all lists among these values, and the keys of all objects."""
    items: list[Json] = []
    for value in values:
        if isinstance(value, dict | list | tuple):
            items += value
        if isinstance(value, dict):
            items += value.values()
    return items


def _members(values: Sequence[Json], step: str | int) -> list[Json]:
    """What the values have at this name or index."""
    members: list[Json] = []
    for value in values:
        in_list = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if in_list or (isinstance(value, dict) and step in value):
            members.append(value[step])
    return members


def _made(work: float, function: str, args: list[Bound]) -> Bound:
    """A value that is put together from the values of its parts, or an unknown function's."""
    nodes = sum(arg.nodes for arg in args) + 1
    length = sum(arg.length for arg in args) if function in ("+", "?:") else len(args)
    if function not in ("+", "?:", "[…]", "{…}", ":"):
        length = nodes
    characters = sum(arg.characters for arg in args) + 400  # a number as text has up to 330
    result = Bound(work, length, nodes, characters)
    if function == "?:":
        return result
    _check_size(result)
    copied = result.copying * (len(args) if function == "+" else 1)
    return Bound(work + copied, length, nodes, characters)


def _check_size(bound: Bound) -> None:
    if bound.nodes * _NODE_BYTES + bound.characters > MAX_SIZE:
        raise TooMuchWork(
            f"it would make a value of more than {MAX_SIZE:,} bytes; use less data at once"
        )


def check(work: float) -> None:
    """Raises TooMuchWork beyond MAX_WORK."""
    if work > MAX_WORK:
        raise TooMuchWork(
            f"it would take more than {MAX_WORK:,} steps with so much data; use less data at once"
        )


def measured(values: Sequence[Json]) -> Bound:
    """The bound of values that are at hand."""
    length = nodes = characters = 0
    for value in values:
        if isinstance(value, dict | list | tuple):
            length += len(value)
    waiting = list(values)
    while waiting:
        item = waiting.pop()
        nodes += 1
        if isinstance(item, str):
            characters += len(item)
        elif isinstance(item, dict):
            nodes += len(item)
            characters += sum(len(key) for key in item if isinstance(key, str))
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
        else:
            characters += 20
    return Bound(1, length, nodes, characters, values)


# --- regular expressions -------------------------------------------------------------------------

_MAX_COMPILING = 3_000_000  # the engine refuses what takes longer
_ATOM = 25  # units of work that the engine takes to compile a character of a pattern
_CLASS = 7_500  # and a class such as \w, which has thousands of characters
_COUNT = re.compile(r"\{\s*(\d+)?\s*(,)?\s*(\d+)?\s*\}")
_SEARCHED = 50  # characters times positions in the pattern that are looked at in a unit of work


def _matching(text: Bound, pattern: Bound) -> float:
    """The work of one match. A pattern is compiled whenever it is used."""
    if pattern.values is None:
        return _MAX_COMPILING + text.characters * pattern.characters / _SEARCHED
    work = 0.0
    for value in pattern.values:
        compiling, positions = pattern_work(value) if isinstance(value, str) else (0, 0)
        work += min(compiling, _MAX_COMPILING) + text.characters * positions / _SEARCHED
    return work


def pattern_work(pattern: str) -> tuple[float, float]:
    """The units of work to compile a pattern, and its positions with all repetitions."""
    groups: list[tuple[float, float]] = [(0, 0)]
    last: tuple[float, float] = (0, 0)
    at = 0
    while at < len(pattern):
        count = _COUNT.match(pattern, at)
        if count:
            times = max(int((number or "1")[:6]) for number in (count[1], count[3]))
            groups[-1] = _plus(groups[-1], last, times - 1)
            last = (last[0] * times, last[1] * times)
            at = count.end()
            continue
        character = pattern[at]
        at += 1
        if character == "(":
            groups.append((0, 0))
            last = (0, 0)
        elif character == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] = _plus(groups[-1], last)
        else:
            last = (_ATOM, 1)
            if character == "\\":
                last = (_CLASS, 1) if pattern[at : at + 1] in tuple("wWdDsSpPbB") else (_ATOM, 1)
                at += 1
            elif character in ".[^":
                last = (10 * _ATOM, 1)
            groups[-1] = _plus(groups[-1], last)
    while len(groups) > 1:
        groups[-2] = _plus(groups[-2], groups.pop())
    return groups[0]


def _plus(
    one: tuple[float, float], other: tuple[float, float], times: int = 1
) -> tuple[float, float]:
    return one[0] + other[0] * times, one[1] + other[1] * times
