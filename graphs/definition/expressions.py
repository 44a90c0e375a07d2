"""Expressions in graphs: edge conditions, row filters and row mappings, in CEL.

CEL (the Common Expression Language, github.com/google/cel-spec) is a specified, typed language
without side effects or recursion, so an expression always ends. Users know it from Kubernetes and
cloud IAM, and the engine behind this module is compiled (some microseconds per row), never `eval`.

An expression that ends may still take days: three loops inside each other over 10,000 items.
`graphs.definition.cel_work` bounds the work of each evaluation before it begins.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import ModuleType

from graphs.definition import cel_syntax, cel_work
from graphs.definition.cel_work import MAX_NESTED_LOOPS
from graphs.definition.types import Json, JsonObject

MAX_LENGTH = 2000  # characters
_EXPECTED = re.compile(r" expecting \{.*\}")  # the parser lists every token it knows here
_KEPT = "_kept"  # the function that counts what loops keep
_SIZE = "_size"


class BadExpression(ValueError):
    """Raised when a text is not a CEL expression, is too long, or contains too many loops."""


class EvaluationFailed(ValueError):
    """Raised when an expression meets data it can't work on, such as a missing field."""


@cache
def _engine() -> ModuleType:
    """The package `cel`, imported when it is needed: it brings a command line that takes long."""
    import cel

    return cel


@lru_cache(maxsize=1024)
def compiled(text: str) -> "Expression":
    """The expression, ready to be evaluated many times. Raises BadExpression."""
    return Expression(text)


def stored(text: str) -> "Expression | Refused":
    """An expression that was checked when it was stored, maybe by fewer rules than today's."""
    try:
        return compiled(text)
    except BadExpression as error:
        return Refused(text, str(error))


class Expression:
    """One compiled expression; `text` is its source."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MAX_LENGTH:
            raise BadExpression(
                f"an expression may have {MAX_LENGTH} characters; this one has {len(text)}"
            )
        try:
            tree = cel_syntax.parse(text)
            self._program = _engine().compile(text)
        except (ValueError, RecursionError) as error:
            raise BadExpression(_first_line(error)) from None
        if cel_work.nested_loops(tree) > MAX_NESTED_LOOPS:
            raise BadExpression(
                f"loops (map, filter, all, exists) may be nested {MAX_NESTED_LOOPS} deep"
            )
        self.names = cel_syntax.names(tree)
        self._tree = tree if cel_work.needs_bound(tree) else None
        self._conditions = cel_syntax.conditions(tree)
        self._members: dict[str, frozenset[str] | None] = {}
        sizes = cel_syntax.calls_of(text, "size")
        self._functions = {_SIZE: _size} if sizes else {}
        if self._conditions or sizes:
            self._program = _engine().compile(_rewritten(text, self._conditions, sizes))

    def evaluate(self, **variables: Json) -> Json:
        """The value for these variables. Raises EvaluationFailed."""
        return self.evaluate_with(variables)

    def evaluate_with(self, variables: JsonObject) -> Json:
        """The value for these variables. Raises EvaluationFailed."""
        try:
            value = self._value(variables)
            if isinstance(value, dict | list):
                _refuse_equal_keys(value)
            return value
        except KeyError as error:
            raise EvaluationFailed(
                f"{self.text!r}: there is no field {error}; use has(…) to test for a field"
            ) from None
        except Exception as error:
            # The engine raises whatever Python error fits best, such as IndexError. An expression
            # that fails on its data must never look like a failure of the program around it.
            raise EvaluationFailed(f"{self.text!r}: {_first_line(error)}") from None

    def members_of(self, variable: str) -> frozenset[str] | None:
        """The members of a variable that the expression can read; None if they can be any.

        Converting a whole row to the engine's types costs much more than evaluating it.
        """
        uses = re.findall(rf"\b{variable}\b(?:\s*\.\s*(\w+)(?!\s*\(|\w))?", self.text)
        return None if "" in uses else frozenset(uses)

    def _value(self, variables: JsonObject) -> Json:
        for name, value in variables.items():
            if name in self.names:
                _refuse_long_integers(self._read_of(name, value))
        estimate = cel_work.Estimate(self._tree, variables) if self._tree else None
        if estimate is None or not self._conditions:
            return self._execute(variables, self._functions)
        count = _Count(estimate, self._conditions)
        value = self._execute(variables, {**self._functions, _KEPT: count})
        cel_work.check(count.work)
        return value

    def _read_of(self, variable: str, value: Json) -> list[Json]:
        """What the expression reads of the value of a variable."""
        members = self._members.setdefault(variable, self.members_of(variable))
        if members is None or not isinstance(value, dict):
            return [value]
        return [value[name] for name in members if name in value]

    def _execute(
        self, variables: JsonObject, functions: Mapping[str, Callable[..., object]]
    ) -> Json:
        if not functions:
            return self._program.execute(variables)
        return self._program.execute(_engine().Context(variables, dict(functions)))

    def is_true(self, **variables: Json) -> bool:
        """The value, which must be true or false. Raises EvaluationFailed."""
        value = self.evaluate_with(variables)
        if not isinstance(value, bool):
            raise EvaluationFailed(
                f"{self.text!r} must be true or false; it is {_abbreviated(value)}"
            )
        return value


@dataclass(frozen=True)
class Refused:
    """An expression that can't be evaluated; `reason` says why."""

    text: str
    reason: str

    def evaluate_with(self, variables: JsonObject) -> Json:
        """Raises EvaluationFailed."""
        raise EvaluationFailed(f"{self.text!r}: {self.reason}")

    def is_true(self, **variables: Json) -> bool:
        """Raises EvaluationFailed."""
        return bool(self.evaluate_with(variables))


class _Count:
    """Counts the work of the items that loops keep. Each call is one item of a loop.

    Beyond the limit nothing is kept any more, so that the evaluation ends soon.
    """

    def __init__(self, estimate: cel_work.Estimate, loops: list[tuple[int, int]]) -> None:
        self.work = estimate.work
        self._costs = [estimate.kept.get(span, 1.0) for span in loops]

    def __call__(self, loop: int) -> bool:
        self.work += self._costs[loop]
        return self.work <= cel_work.MAX_WORK


def _rewritten(text: str, conditions: list[tuple[int, int]], sizes: list[int]) -> str:
    """The expression for the engine: with a call of `_kept` after each of these conditions, if it
    holds, and with `_size` for each call of `size`.
    """
    insertions = [(at, 1, "_") for at in sizes]
    for number, (start, end) in enumerate(conditions):
        insertions.append((start, -end, "("))
        insertions.append((end, -start, f") && {_KEPT}({number})"))
    for at, _, inserted in sorted(insertions, reverse=True):
        text = text[:at] + inserted + text[at:]
    return text


def _size(value: object) -> int:
    """CEL's `size`. That of the engine counts a text's bytes instead of its characters."""
    if not isinstance(value, str | bytes | list | dict):
        raise ValueError("size() takes a text, bytes, a list or a map")
    return len(value)


def _refuse_long_integers(value: Json) -> None:
    """Raises ValueError for integers that the engine would round to floats."""
    for item in value.values() if isinstance(value, dict) else value:
        kind = type(item)
        if kind is int:
            if not -(2**63) <= item < 2**64:
                raise ValueError(f"an integer has at most 64 bits, not {item.bit_length()}")
        elif kind is dict or kind is list:
            _refuse_long_integers(item)


def _refuse_equal_keys(value: Json) -> None:
    """Raises ValueError for maps with keys that are one in JSON, such as 1 and "1"."""
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        texts = {json.dumps(key).strip('"') for key in value}
        if len(texts) < len(value):
            raise ValueError("a map has two keys that are the same as text")
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            _refuse_equal_keys(item)


def _abbreviated(value: Json) -> str:
    """The beginning of a value that may be large and deep."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return f"{value!r:.60}"


def _first_line(error: BaseException) -> str:
    lines = str(error).replace("<input>:", "at ").strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return _EXPECTED.sub("", text.removeprefix("Failed to parse expression "))[:300]
