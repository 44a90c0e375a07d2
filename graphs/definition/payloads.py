"""JSON as it is stored: any value of bounded size that both databases and every client accept."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NoReturn

from graphs.definition.types import Json, JsonObject
from statemanager.conf import conf

MAX_DEPTH = 200  # levels of nested lists and objects: what reads values later calls itself for each


_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))


class NotJson(ValueError):
    """Raised when a value can't be represented in JSON, or can't be stored."""


def dump(value: Json, limit: int | None = None) -> str:
    """The value as compact JSON text of at most `limit` bytes (MAX_PAYLOAD_BYTES by default).

    Raises NotJson for NaN, unknown types, NUL, lone surrogates, and values that are nested too
    deeply or too large.
    """
    limit = limit or conf.MAX_PAYLOAD_BYTES
    try:
        text = _ENCODER.encode(value)
    except RecursionError:
        raise NotJson("it is nested too deeply") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise NotJson(str(error)) from None

    brackets = text.count("[") + text.count("{")
    if brackets > MAX_DEPTH and is_deeper(value, MAX_DEPTH):
        raise NotJson(f"it is nested deeper than {MAX_DEPTH} levels")
    if "\\u0000" in text and "\x00" in _joined_texts(value):
        raise NotJson("it contains a NUL character")
    try:
        bytes_ = size(text)
    except UnicodeEncodeError:
        raise NotJson("it contains a lone surrogate, which is not valid text") from None
    if bytes_ > limit:
        raise NotJson(f"it has {bytes_:,} bytes; {limit:,} are allowed")
    return text


def parse(text: str) -> Json:
    """The value of a JSON text, if every reader of it would read the same.

    Raises ValueError for NaN, numbers that are too large, and objects with a member twice, and
    RecursionError for deep nesting.
    """
    return _decode(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:30]} is too large")
    return value


def _members(pairs: list[tuple[str, Json]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        [(repeated, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object has the member {repeated[:80]!r} twice")
    return members


_decode = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_members
).decode


def size(text: str | None) -> int:
    """The bytes of a text that `dump` made; none for None."""
    if text is None:
        return 0
    return len(text) if text.isascii() else len(text.encode())


def sizes(values: Iterable[Json]) -> list[int]:
    """The bytes of each value as JSON. A value that is there many times is measured once."""
    values = list(values)  # which keeps them alive, so that their ids stay theirs
    known = {id(value): value for value in values}
    measured = {key: size(_ENCODER.encode(value)) for key, value in known.items()}
    return [measured[id(value)] for value in values]


def is_deeper(value: Json, levels: int) -> bool:
    """Whether the lists and objects of a value are nested deeper than this.

    They are counted level by level, because recursion would fail on a deep value.
    """
    level = [value]
    for _ in range(levels):
        level = _nested(level)
        if not level:
            return False
    return True


def _nested(values: list[Json]) -> list[Json]:
    """The lists and objects within these."""
    nested: list[Json] = []
    for value in values:
        children = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list | tuple):
            nested.extend(child for child in children if isinstance(child, dict | list | tuple))
    return nested


def _joined_texts(value: Json) -> str:
    """All strings in a value, keys included, as one text, in no particular order."""
    texts: list[str] = []
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
    return "".join(texts)


class Budget:
    """Adds up the sizes of values before they are rendered, and refuses those that are too large.

    Many placeholders may refer to the same large value. `limit` is in bytes (MAX_PAYLOAD_BYTES by
    default).
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit or conf.MAX_PAYLOAD_BYTES
        self._left = self.limit

    def spend(self, value: Json) -> None:
        """Take the size of a value off the budget. Raises NotJson when it is spent.

        A text counts as one byte a character, so this never refuses what `dump` would accept.
        """
        waiting = [value]
        while waiting and self._left >= 0:
            value = waiting.pop()
            if isinstance(value, str):
                self._left -= len(value)
            elif isinstance(value, dict):
                self._left -= sum(map(len, value))
                waiting.extend(value.values())
            elif isinstance(value, list | tuple):
                waiting.extend(value)
            else:
                self._left -= 1
        if self._left < 0:
            raise NotJson(f"it would have more than the {self.limit:,} bytes that are allowed")


def clean(text: str, limit: int) -> str:
    """Text from a node or a client, made safe to store.

    NUL characters are removed, lone surrogates replaced, and the text is cut to `limit`
    characters.
    """
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return cut.replace("\x00", "").encode("utf-8", "replace").decode()


def when(moment: datetime | None) -> str | None:
    """A time as ISO 8601 in UTC, ending in Z.

    It always has microseconds, so that the texts sort in the same order as the times.
    """
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
