"""Paths to values within JSON, such as `customer.id`, `rows[0].name` or `["a b"]`. Pure.

`path_of` writes them, on the page of a run for example; `parse` reads them, as people write them.
"""

import json
import re
from collections.abc import Sequence

from graphs.definition.types import Json

Path = tuple[str | int, ...]  # the names of members and the places in lists
MAX_LENGTH = 200  # characters of a path

_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NAME = r'[^\s.=\[\]"]+'
_IN_BRACKETS = r'\[(?:\d{1,9}|"(?:[^"\\]|\\.)*")\]'
_PART = re.compile(rf"\.?({_NAME})|({_IN_BRACKETS})")
_PREFIX = re.compile(rf"(?:{_NAME}|{_IN_BRACKETS})(?:\.{_NAME}|{_IN_BRACKETS})*")


class _Missing:
    """What `value_at` returns where there is nothing: null is a value, too."""


MISSING = _Missing()


def path_of(path: str, key: str | int) -> str:
    """The path of a member of what is at a path."""
    if isinstance(key, str) and _PLAIN_NAME.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{json.dumps(key, ensure_ascii=False)}]"


def written(path: Path) -> str:
    """The path as text. Each path has one, however a person wrote it."""
    text = ""
    for key in path:
        text = path_of(text, key)
    return text


def parse(text: str) -> Path:
    """Read a path. Raises ValueError if the text is not one."""
    path, rest = parse_beginning(text)
    if rest:
        raise ValueError(f"{text[:MAX_LENGTH]!r} is not a path such as customer.id")
    return path


def parse_beginning(text: str) -> tuple[Path, str]:
    """The path with which a text begins, and what follows it. Raises ValueError if there is none.

    The path ends before the first `=` that is not within a quoted name.
    """
    beginning = _PREFIX.match(text)
    if not beginning:
        raise ValueError("a path has names with dots between them, such as customer.id")
    parts = _PART.finditer(beginning[0])
    path = tuple(part[1] or json.loads(part[2])[0] for part in parts)
    normal = written(path)
    if len(normal) > MAX_LENGTH:
        raise ValueError(f"a path has at most {MAX_LENGTH} characters")
    if any("\ud800" <= letter <= "\udfff" for letter in normal):
        raise ValueError("a path has no lone surrogates, which no database stores")
    return path, text[beginning.end() :]


def value_at(value: Json, path: Sequence[str | int]) -> Json:
    """The value at a path; MISSING if there is none."""
    for key in path:
        is_member = isinstance(value, dict) and isinstance(key, str) and key in value
        is_item = isinstance(value, list) and isinstance(key, int) and key < len(value)
        if not (is_member or is_item):
            return MISSING
        value = value[key]
    return value
