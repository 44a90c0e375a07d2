"""What the saver trusts of a serializer.

Somebody else may be able to write to the database. Such a writer must not be able to make the saver
instantiate a class, or accept a value that was not encrypted.
"""

import math
from collections.abc import Collection

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from graphs.definition import payloads
from graphs.definition.types import Json

MAX_METADATA_KEY = 1000
MAX_METADATA_TEXT = 1000  # of a value that JSON doesn't know


def make_strict(
    serde: SerializerProtocol | None, allowed: Collection[tuple[str, str]]
) -> SerializerProtocol:
    """Return a serializer that doesn't read pickles and makes only harmless or `allowed` types.

    This applies to LangGraph's own serializer, alone or under encryption. One that already names
    its types is returned as it is, and so is a serializer of any other class.
    """
    if type(serde) is EncryptedSerializer:
        return EncryptedSerializer(serde.cipher, make_strict(serde.serde, allowed))
    if serde is None or (type(serde) is JsonPlusSerializer and _allows_everything(serde)):
        return JsonPlusSerializer(
            pickle_fallback=False, allowed_msgpack_modules=list(allowed) or None
        )
    return serde


def _allows_everything(serde: JsonPlusSerializer) -> bool:
    return serde.pickle_fallback or serde._allowed_msgpack_modules is True


def deserialize(serde: SerializerProtocol, kind: str, body: bytes | memoryview | None) -> Json:
    """Return a stored value. Raises ValueError if it should be encrypted and is not."""
    if isinstance(serde, EncryptedSerializer) and "+" not in kind:
        raise ValueError(
            f"A value of type {kind!r} is not encrypted, so it was not stored by this serializer."
        )
    return serde.loads_typed((kind, bytes(body or b"")))


def storable(value: object, levels: int = payloads.MAX_DEPTH) -> Json:
    """Return metadata as JSON that both databases can store.

    NUL characters are removed and lone surrogates replaced. Infinities, NaN and values of a type
    that JSON lacks become text, and so does what is nested deeper than these levels.
    """
    if levels <= 0 and isinstance(value, dict | list | tuple | set):
        return "…"
    if isinstance(value, str):
        return payloads.clean(value, len(value))
    if isinstance(value, dict):
        return {
            payloads.clean(str(key), MAX_METADATA_KEY): storable(item, levels - 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set):
        return [storable(item, levels - 1) for item in value]
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return payloads.clean(str(value), MAX_METADATA_TEXT)
