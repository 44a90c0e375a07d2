"""JSON as a tree that can be folded, each value with a button that copies its path.

Folding needs no JavaScript, and without it the tree reads as plain text.
"""

import json
from collections.abc import Iterable

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from graphs.definition.types import Json
from graphs.definition.value_paths import path_of

MAX_VALUES = 300  # of a tree; what has more is shown as text
MAX_TEXT = 2000  # characters of a value


def is_small(value: Json) -> bool:
    """Whether a value is small enough to be shown as a tree."""
    left = MAX_VALUES
    waiting = [value]
    while waiting and left:
        left -= 1
        waiting.extend(item for _, item in _members(waiting.pop()))
    return not waiting


def tree(value: Json) -> SafeString:
    """The HTML of a value. Everything that comes from it is escaped."""
    return mark_safe(f'<ul class="rm-tree">{_items(value, "")}</ul>')  # noqa: S308


def _members(value: Json) -> Iterable[tuple[str | int, Json]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _items(value: Json, path: str) -> str:
    if not isinstance(value, dict | list) or not value:
        return f"<li>{_leaf(value)}</li>"
    return "".join(_item(key, item, path_of(path, key)) for key, item in _members(value))


def _item(key: str | int, value: Json, path: str) -> str:
    place = escape(path)
    name = f"<b>{escape(key)}</b>"
    button = (
        f'<button type="button" class="rm-copy" data-copy="{place}"'
        f' aria-label="Copy the path {place}">copy path</button>'
    )
    if not isinstance(value, dict | list) or not value:
        return f"<li>{name} {_leaf(value)} {button}</li>"
    size = f"{len(value):,} {'members' if isinstance(value, dict) else 'items'}"
    return (
        f"<li><details open><summary>{name} <span>{size}</span></summary>{button}"
        f"<ul>{_items(value, path)}</ul></details></li>"
    )


def _leaf(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    rest = len(text) - MAX_TEXT
    shown = text if rest <= 0 else f"{text[:MAX_TEXT]}… {rest:,} more characters"
    return f"<code>{escape(shown)}</code>"
