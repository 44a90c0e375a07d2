"""Masking of secret values in texts and JSON, however they are written there.

A value is found as a whole, as one of its lines, or as one of the texts in it if it is JSON; each
of them as plain text, escaped in JSON, in a Python representation or in a URL, and in base64.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from graphs.definition.types import Json

MASK = "•••"
MIN_MASKED = 8  # characters; shorter values are words that occur in other texts, too
MAX_SPELLINGS = 500  # that are searched for; each takes about half a millisecond in 2 MB
# The characters of base64 that depend on what comes before the value, by its offset in a group of
# three bytes, and those that depend on what comes after it, by the number of bytes that are left.
BEFORE = (0, 2, 3)
AFTER = (0, 1, 1)


class Mask:
    """Replaces secret values in texts and JSON with •••, however they are spelt.

    Values, lines and members with fewer than MIN_MASKED characters are not masked. Beyond
    MAX_SPELLINGS, lines and members of the longest secrets are masked only as part of the whole.
    """

    def __init__(self, values: Iterable[str]) -> None:
        self._spellings = _longest_first(_some_spellings(list(values)))

    def __bool__(self) -> bool:
        return bool(self._spellings)

    def text(self, text: str) -> str:
        """The text with all values masked."""
        for spelling in self._spellings:
            text = text.replace(spelling, MASK)
        return text

    def value(self, value: Json) -> Json:
        """The JSON value with all texts masked, including the keys of objects."""
        if not self._spellings:
            return value
        found = self._in(value)
        return _masked(value, found) if found else value

    def _in(self, value: Json) -> list[str]:
        """The spellings that may occur in the value: usually none, so that it needs no copy.

        All texts of the value are searched as one. Texts of many small ones would cost more.
        """
        if isinstance(value, str):
            return [spelling for spelling in self._spellings if spelling in value]
        joined = "\0".join(_texts(value))
        return [spelling for spelling in self._spellings if spelling in joined]


def _texts(value: Json) -> Iterator[str]:
    """The texts of a value, including the keys of its objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _masked(value: Json, spellings: list[str]) -> Json:
    if isinstance(value, str):
        for spelling in spellings:
            value = value.replace(spelling, MASK)
        return value
    if isinstance(value, dict):
        masked: dict[Json, Json] = {}
        for key, item in value.items():
            masked_key = _masked(key, spellings)
            while masked_key in masked:  # two keys may look the same now; neither may be lost
                masked_key += MASK
            masked[masked_key] = _masked(item, spellings)
        return masked
    if isinstance(value, list | tuple):
        return [_masked(item, spellings) for item in value]
    return value


def _longest_first(spellings: Iterable[str]) -> list[str]:
    """No spelling is cut in two by another one inside it."""
    return sorted(spellings, key=len, reverse=True)


def _some_spellings(values: list[str]) -> set[str]:
    """The spellings of all values, and of their parts as long as there are not too many."""
    spellings: set[str] = set()
    for value in values:
        if len(value) >= MIN_MASKED:
            spellings |= _spellings(value)
    for part in _parts(values):
        if len(spellings) >= MAX_SPELLINGS:
            break
        spellings |= _spellings(part)
    return spellings


def _parts(values: list[str]) -> Iterator[str]:
    """The lines of values, and the texts in those that are JSON, each long enough to be masked."""
    for value in values:
        for text in (value, *_members(value)):
            for part in (text, *text.splitlines()):
                if len(part.strip()) >= MIN_MASKED:
                    yield part.strip()


def _members(value: str) -> Iterator[str]:
    """The texts in a value that is JSON. The names of members are no secrets."""
    try:
        waiting = [json.loads(value)]
    except (ValueError, RecursionError):
        return
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
        elif item is not None:
            yield str(item)


def _spellings(text: str) -> set[str]:
    """The spellings of a text."""
    return {
        text,
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        quote(text),
        quote(text, safe=""),
        quote_plus(text),
        *_base64_spellings(text.encode()),
    }


def _base64_spellings(data: bytes) -> Iterator[str]:
    """The bytes in base64 by themselves, and those characters that they have in a longer text."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        alone = encode(data).decode()
        yield alone
        yield alone.rstrip("=")
        for offset in range(3):
            text = encode(bytes(offset) + data).decode().rstrip("=")
            end = len(text) - AFTER[(offset + len(data)) % 3]
            yield text[BEFORE[offset] : end]
