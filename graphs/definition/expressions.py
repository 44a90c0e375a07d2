"""Expressions in graphs: edge conditions, row filters and row mappings, in CEL.

CEL (the Common Expression Language, github.com/google/cel-spec) was chosen because it is a specified, typed language without
side effects, loops or recursion, so an expression always ends; users know it from Kubernetes and cloud IAM; its regular
expressions run in linear time; and the engine behind this module is compiled (some microseconds a row), never `eval`.
"""

import re
from functools import lru_cache
from typing import Any

import cel

MAX_LENGTH = 2000
MAX_NESTED_LOOPS = 3
_EXPECTED = re.compile(r" expecting \{.*\}")  # what the parser could have taken instead: everything


class BadExpression(ValueError):
    """The text is no CEL expression, is too long, or nests too many loops; the message says which."""


class EvaluationFailed(ValueError):
    """A right expression met data that it can't work on, such as a missing field; the message names it."""


@lru_cache(maxsize=1024)
def compiled(text: str) -> "Expression":
    """The expression ready to be evaluated many times. Raises BadExpression."""
    return Expression(text)


class Expression:
    """One compiled expression; `text` is its source."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MAX_LENGTH:
            raise BadExpression(
                f"an expression may have {MAX_LENGTH} characters; this one has {len(text)}"
            )
        if (
            sum(
                text.count(f".{macro}(")
                for macro in ("map", "filter", "all", "exists", "exists_one")
            )
            > MAX_NESTED_LOOPS
        ):
            raise BadExpression(
                f"an expression may hold {MAX_NESTED_LOOPS} loops (map, filter, all, exists)"
            )
        try:
            self._program = cel.compile(text)
        except ValueError as error:
            raise BadExpression(_first_line(error)) from None

    def evaluate(self, **variables: Any) -> Any:
        """The value for these variables. Raises EvaluationFailed."""
        return self.evaluate_with(variables)

    def evaluate_with(self, variables: dict[str, Any]) -> Any:
        try:
            return self._program.execute(variables)
        except KeyError as error:
            raise EvaluationFailed(
                f"{self.text!r}: no field {error} here; has(…) asks whether a field exists"
            ) from None
        except (ValueError, TypeError, RuntimeError, ArithmeticError, OverflowError) as error:
            raise EvaluationFailed(f"{self.text!r}: {_first_line(error)}") from None

    def is_true(self, **variables: Any) -> bool:
        """As evaluate, but only true and false are allowed."""
        value = self.evaluate_with(variables)
        if not isinstance(value, bool):
            raise EvaluationFailed(f"{self.text!r} must be true or false; it is {value!r:.60}")
        return value


def _first_line(error: BaseException) -> str:
    text = str(error).replace("<input>:", "at ").strip().splitlines()[0]
    return _EXPECTED.sub("", text.removeprefix("Failed to parse expression "))[:300]
