"""What the saver trusts of a serialiser: a database that somebody else can write to brings no class to life, and no value in that wasn't encrypted."""

from collections.abc import Collection
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from graphs.definition import payloads


def strict(
    serde: SerializerProtocol | None, allowed: Collection[tuple[str, str]]
) -> SerializerProtocol:
    """The serialiser; LangGraph's own, alone or under encryption, without pickles, and only with the types that are harmless or `allowed`.

    One whose author has named the types already is left as it is, and so is any other class.
    """
    if type(serde) is EncryptedSerializer:
        return EncryptedSerializer(serde.cipher, strict(serde.serde, allowed))
    if serde is None or (
        type(serde) is JsonPlusSerializer
        and (serde.pickle_fallback or serde._allowed_msgpack_modules is True)
    ):
        return JsonPlusSerializer(
            pickle_fallback=False, allowed_msgpack_modules=list(allowed) or None
        )
    return serde


def opened(serde: Any, kind: str, body: bytes | memoryview | None) -> Any:
    """A stored value. Raises ValueError for one that was put beside the encryption."""
    if isinstance(serde, EncryptedSerializer) and "+" not in kind:
        raise ValueError(
            f"A value of the type {kind!r} is not encrypted; it was not stored by this serialiser."
        )
    return serde.loads_typed((kind, bytes(body or b"")))


def storable(value: Any) -> Any:
    """Metadata as JSON that both databases keep: no NUL, no lone surrogates, no numbers that are none."""
    if isinstance(value, str):
        return payloads.clean(value, len(value))
    if isinstance(value, dict):
        return {payloads.clean(str(key), 1000): storable(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [storable(each) for each in value]
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float) and value == value and value not in (float("inf"), float("-inf")):
        return value
    return payloads.clean(str(value), 1000)
