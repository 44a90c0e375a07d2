"""What the node of an external worker declares: the secrets it needs, and its outputs' schema.

Reports of external workers need this for every state, so each process caches it for a second.
Outputs are never refused because of a cached schema: a mismatch is checked again with the stored
one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from django.db.backends.signals import connection_created
from django.dispatch import receiver

from graphs.definition.json_schema import SchemaValidator
from graphs.definition.types import Json
from graphs.models import RegisteredNode

CACHE_SECONDS = 1.0
MAX_CACHED = 1000
MAX_MESSAGE = 500


@dataclass(frozen=True)
class Declared:
    """`check` returns the first problem of an output, or "" if the output fits."""

    secrets: tuple[str, ...]
    check: Callable[[Json], str]


_cache: dict[tuple[int, str], tuple[float, Declared]] = {}


def declared(namespace: int, name: str, fresh: bool = False) -> Declared:
    """The declaration of a node, empty for an unknown node. `fresh` bypasses the cache."""
    read_at, declaration = _cache.get((namespace, name), (0.0, None))
    if declaration is None or fresh or monotonic() - read_at > CACHE_SECONDS:
        declaration = _read(namespace, name)
        if len(_cache) > MAX_CACHED:
            _cache.clear()
        _cache[namespace, name] = monotonic(), declaration
    return declaration


def wrong_outputs(namespace: int, name: str, outputs: Sequence[Json]) -> str:
    """The first problem of these outputs under the registered schema, or "" if all of them fit."""
    problem = _first_problem(declared(namespace, name), outputs)
    if problem:
        problem = _first_problem(declared(namespace, name, fresh=True), outputs)
    return problem


def _first_problem(declaration: Declared, outputs: Sequence[Json]) -> str:
    for index, value in enumerate(outputs):
        problem = declaration.check(value)
        if problem:
            return f"output {index}: {problem}"
    return ""


@receiver(connection_created)
def forget(**_: object) -> None:
    """Empty the cache. After a failover, another namespace may have the key."""
    _cache.clear()


def _read(namespace: int, name: str) -> Declared:
    node = (
        RegisteredNode.objects.filter(namespace=namespace, name=name)
        .only("outputs_schema", "secrets")
        .first()
    )
    if node is None:
        return Declared((), lambda value: "")
    validator = SchemaValidator(node.outputs_schema)

    def check(value: Json) -> str:
        error = next(validator.iter_errors(value), None)
        if error is None:
            return ""
        place = "/".join(map(str, error.instance_path)) or "it"
        return f"{place}: {error.message}"[:MAX_MESSAGE]

    return Declared(tuple(node.secrets), check)
