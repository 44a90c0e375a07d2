"""Expressions in graphs: edge conditions, row filters and row mappings, in CEL.

CEL (the Common Expression Language, github.com/google/cel-spec) is a specified, typed language
without side effects, loops or recursion, so an expression always ends. Users know it from
Kubernetes and cloud IAM, its regular expressions run in linear time, and the engine behind this
module is compiled (some microseconds per row), never `eval`.
"""

import re
from functools import lru_cache

import cel

from graphs.definition.types import Json, JsonObject

MAX_LENGTH = 2000  # characters
MAX_NESTED_LOOPS = 3
_LOOPS = ("map", "filter", "all", "exists", "exists_one")
_EXPECTED = re.compile(r" expecting \{.*\}")  # the parser lists every token it knows here


class BadExpression(ValueError):
    """Raised when a text is not a CEL expression, is too long, or contains too many loops."""


class EvaluationFailed(ValueError):
    """Raised when an expression meets data it can't work on, such as a missing field."""


@lru_cache(maxsize=1024)
def compiled(text: str) -> "Expression":
    """The expression, ready to be evaluated many times. Raises BadExpression."""
    return Expression(text)


class Expression:
    """One compiled expression; `text` is its source."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MAX_LENGTH:
            raise BadExpression(
                f"an expression may have {MAX_LENGTH} characters; this one has {len(text)}"
            )
        # Loops that follow each other are counted as if they were nested: that is stricter than
        # needed, but takes no parser of our own.
        if sum(text.count(f".{loop}(") for loop in _LOOPS) > MAX_NESTED_LOOPS:
            raise BadExpression(
                f"an expression may contain {MAX_NESTED_LOOPS} loops (map, filter, all, exists)"
            )
        try:
            self._program = cel.compile(text)
        except ValueError as error:
            raise BadExpression(_first_line(error)) from None

    def evaluate(self, **variables: Json) -> Json:
        """The value for these variables. Raises EvaluationFailed."""
        return self.evaluate_with(variables)

    def evaluate_with(self, variables: JsonObject) -> Json:
        """The value for these variables. Raises EvaluationFailed."""
        try:
            return self._program.execute(variables)
        except KeyError as error:
            raise EvaluationFailed(
                f"{self.text!r}: there is no field {error}; use has(…) to test for a field"
            ) from None
        except Exception as error:
            # The engine raises whatever Python error fits best, such as IndexError. An expression
            # that fails on its data must never look like a failure of the program around it.
            raise EvaluationFailed(f"{self.text!r}: {_first_line(error)}") from None

    def is_true(self, **variables: Json) -> bool:
        """The value, which must be true or false. Raises EvaluationFailed."""
        value = self.evaluate_with(variables)
        if not isinstance(value, bool):
            raise EvaluationFailed(f"{self.text!r} must be true or false; it is {value!r:.60}")
        return value


def _first_line(error: BaseException) -> str:
    lines = str(error).replace("<input>:", "at ").strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return _EXPECTED.sub("", text.removeprefix("Failed to parse expression "))[:300]
