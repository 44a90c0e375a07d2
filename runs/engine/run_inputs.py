"""The inputs of a run: their defaults, their schema, and the inputs of its states."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from graphs.definition import errors
from graphs.definition.json_schema import SchemaValidator, validator_of
from graphs.definition.plan import Plan
from graphs.definition.types import Json, JsonObject
from graphs.nodes.base import registry


def with_defaults(inputs: Mapping[str, Json], plan: Plan) -> JsonObject:
    """The inputs, with the defaults of the graph's schema for those that were not given."""
    return {**plan.input_defaults, **inputs}


class Unfitting(errors.Malformed):
    """Inputs don't fit the schema of a graph. The problems that it lists quote the inputs."""


def check(inputs: Mapping[str, Json], schema: Mapping[str, Json] | None) -> None:
    """Raises Unfitting with every problem if the inputs don't fit the graph's schema."""
    found = problems(inputs, validator_of(schema)) if schema is not None else []
    if found:
        raise Unfitting("The inputs don't fit the graph's schema.", errors=found)


@contextmanager
def hidden(is_hidden: bool) -> Iterator[None]:
    """Keep the problems of inputs from a caller who may not see the inputs that are checked."""
    try:
        yield
    except Unfitting:
        if not is_hidden:
            raise
        raise errors.Malformed(
            "The inputs, which you may not see, don't fit the graph's schema."
        ) from None


def problems(inputs: Mapping[str, Json], validator: SchemaValidator) -> list[str]:
    """What is wrong with the inputs, each problem after its place."""
    return [
        f"{'/'.join(map(str, problem.instance_path)) or 'inputs'}: {problem.message}"
        for problem in validator.iter_errors(dict(inputs))
    ]


def replaced(kind: str, inputs: Mapping[str, Json], replacements: Mapping[str, Json]) -> JsonObject:
    """The inputs of a state, with those of the run in place of its own of the same names.

    A registered node of this kind may declare more inputs than the state has.
    """
    node = registry.get(kind)
    declared = set(inputs) | (set(node.inputs.model_fields) if node else set())
    return {**inputs, **{key: value for key, value in replacements.items() if key in declared}}
