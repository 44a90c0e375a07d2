"""JSON Schemas of tenants, which have a budget for the work that they ask for. Pure.

A schema is weighed when it is read, and a value before it is validated: `schema_weight` says how.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import jsonschema_rs

from graphs.definition.errors import Malformed
from graphs.definition.schema_weight import Weigher
from graphs.definition.types import Json, Schema

MAX_PATTERN_BYTES = 2**18  # of a compiled pattern
MAX_PROBLEMS = 100  # that are reported of one value
MAX_MESSAGE = 1_000  # characters of each
MAX_PLACE = 100  # characters of a name in the place of a problem
MAX_PLACES = 50  # names in it
# What all problems of a value could take in memory; beyond it only the first one is made.
MAX_PROBLEM_BYTES = 64 * 2**20


class BadSchema(Malformed, ValueError):
    """A JSON Schema can't be used. It may have been stored before it had a budget."""


@dataclass(frozen=True)
class ValueProblem:
    """What is wrong with a value, and where in it."""

    message: str
    instance_path: tuple[str | int, ...] = ()


class SchemaValidator:
    """Validates values by one schema, and never fetches anything.

    Raises BadSchema for a schema that is invalid or asks for too much work.
    """

    def __init__(self, schema: Schema) -> None:
        try:
            self._weigher = Weigher(schema)
            self._validator = trusted_validator(schema, _PATTERNS)
        except ValueError as error:
            raise BadSchema(str(error)) from None

    def iter_errors(self, value: Json) -> Iterator[ValueProblem]:
        """The first problems of a value: MAX_PROBLEMS of them, or one of a value that is large."""
        refusal = self._weigher.refusal(value)
        if refusal:
            yield ValueProblem(refusal)
        elif not self._validator.is_valid(value):
            for error in islice(self._errors(value), MAX_PROBLEMS):
                yield ValueProblem(error.message[:MAX_MESSAGE], _shortened(error.instance_path))

    def _errors(self, value: Json) -> Iterator[jsonschema_rs.ValidationError]:
        """The problems; the library makes all of them at once, each with what it is about."""
        if self._weigher.problem_bytes(value) <= MAX_PROBLEM_BYTES:
            yield from self._validator.iter_errors(value)
            return
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            yield error


@lru_cache(maxsize=16)
def _validator_of(text: str) -> SchemaValidator:
    return SchemaValidator(json.loads(text))


def validator_of(schema: Schema) -> SchemaValidator:
    """The validator of a schema that is used many times. Raises BadSchema."""
    return _validator_of(json.dumps(schema))


def _shortened(path: Iterable[str | int]) -> tuple[str | int, ...]:
    places = islice(path, MAX_PLACES)
    return tuple(place[:MAX_PLACE] if isinstance(place, str) else place for place in places)


# Without look-around and back-references, which take exponential time.
_PATTERNS = jsonschema_rs.RegexOptions(size_limit=MAX_PATTERN_BYTES)


def trusted_validator(
    schema: Schema, patterns: jsonschema_rs.RegexOptions | None = None
) -> jsonschema_rs.Validator:
    """A validator for a schema of ours, without the budget."""
    return jsonschema_rs.validator_for(
        dict(schema), retriever=_refuse_to_fetch, pattern_options=patterns
    )


def _refuse_to_fetch(address: str) -> Json:
    raise ValueError(f"a schema may not refer to {address}")
