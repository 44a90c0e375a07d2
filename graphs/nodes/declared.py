"""What the node of an external worker declares, as reports need it: which secrets it asks for, and whether outputs fit.

Read once a second per process; a verdict against outputs is always made by what is stored at that moment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from graphs.definition.validation import schema_validator
from graphs.models import RegisteredNode

KNOWN_SECONDS = 1.0


@dataclass(frozen=True)
class Declared:
    """`check` gives the first thing that is wrong with an output, or ""."""

    secrets: tuple[str, ...]
    check: Callable[[Any], str]


_known: dict[tuple[int, str], tuple[float, Declared]] = {}


def declared(namespace: int, name: str, fresh: bool = False) -> Declared:
    since, found = _known.get((namespace, name), (0.0, None))
    if found is None or fresh or monotonic() - since > KNOWN_SECONDS:
        found = _read(namespace, name)
        if len(_known) > 1000:
            _known.clear()
        _known[namespace, name] = monotonic(), found
    return found


def wrong_outputs(namespace: int, name: str, outputs: Sequence[Any]) -> str:
    """Why these outputs don't fit the node's registered schema; "" when they do."""
    for fresh in (False, True):
        check = declared(namespace, name, fresh).check
        wrong = next(
            (
                f"output {at}: {found}"
                for at, value in enumerate(outputs)
                if (found := check(value))
            ),
            "",
        )
        if not wrong:
            return ""
    return wrong


def forget() -> None:
    _known.clear()


def _read(namespace: int, name: str) -> Declared:
    node = (
        RegisteredNode.objects.filter(namespace=namespace, name=name)
        .only("outputs_schema", "secrets")
        .first()
    )
    if node is None:
        return Declared((), lambda value: "")
    validator = schema_validator(node.outputs_schema)

    def check(value: Any) -> str:
        error = next(validator.iter_errors(value), None)
        return (
            f"{'/'.join(map(str, error.instance_path)) or 'it'}: {error.message}"[:500]
            if error
            else ""
        )

    return Declared(tuple(node.secrets), check)
