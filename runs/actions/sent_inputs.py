"""Inputs that a person saw with their secrets as dots, and sent back."""

from collections.abc import Mapping

from graphs.auth.callers import Caller
from graphs.definition import redaction
from graphs.definition.types import Json, JsonObject


def restored(
    inputs: Mapping[str, Json], former: Mapping[str, Json], caller: Caller, namespace: int
) -> JsonObject:
    """The inputs with the secrets of `former` in the place of the dots.

    Raises Malformed for dots that match no secret, and for any dots of a caller who may not see the
    former inputs.
    """
    seen = dict(former) if caller.can("payloads", namespace) else {}
    return dict(redaction.restored(dict(inputs), seen))
