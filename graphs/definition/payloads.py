"""JSON as we store it: of any type, bounded in size, and nothing in it that a database or a client would choke on."""

import json
from datetime import UTC, datetime
from typing import Any

from django.conf import settings


class NotJson(ValueError):
    """A value that JSON, or our storage of it, can't carry; the message says which part of it."""


def dump(value: Any, limit: int | None = None) -> str:
    """The value as compact JSON text. Raises NotJson for NaN, unknown types, NUL, lone surrogates, depth and size."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise NotJson("it is nested too deeply") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise NotJson(str(error)) from None
    if "\\u0000" in text and "\x00" in _texts(value):
        raise NotJson("it holds a NUL character")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise NotJson("it holds a lone surrogate, which is no valid text") from None
    if size > (limit or settings.MAX_PAYLOAD_BYTES):
        raise NotJson(f"it has {size:,} bytes; {limit or settings.MAX_PAYLOAD_BYTES:,} are allowed")
    return text


def _texts(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "".join(map(_texts, [*value.keys(), *value.values()]))
    return "".join(map(_texts, value)) if isinstance(value, list | tuple) else ""


def clean(text: str, limit: int) -> str:
    """Text from a node or a client, made harmless to store: no NUL, no lone surrogates, cut to `limit` characters."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return cut.replace("\x00", "").encode("utf-8", "replace").decode()


def when(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with Z, always with microseconds, so that the texts sort as the times do."""
    return (
        moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        if moment
        else None
    )
