"""Which parts of a payload are shown. Pure.

Values under names that suggest a secret are replaced by dots. A caller who may not see payloads
gets a sentence instead of them.
"""

import re
from collections.abc import Iterable

from graphs.definition.types import Json

SECRET = re.compile(
    r"passw(or)?d|passphrase|secret|token|api[_-]?key|authorization|credential|private[_-]?key"
    r"|cookie",
    re.IGNORECASE,
)
PAYLOADS = (
    "inputs",
    "outputs",
    "answer",
    "message",
    "initial_data",
    "store",
    "metadata",
    "data",
    "sop",
)
DOTS = "•••"
HIDDEN = "hidden: you may not see inputs, outputs and logs of this run"


def shown(value: Json, allowed: bool = True) -> Json:
    """The value as a page, an export or a response may show it.

    `allowed` says whether the caller may see payloads; secrets are replaced in any case.
    """
    if allowed:
        return _without_secrets(value)
    return value if value in (None, {}, []) else HIDDEN


def restored(value: Json, former: Json) -> Json:
    """A value that a person sent back, with the dots replaced by what they stood for.

    `former` is the value that was shown to the person.
    """
    if value == DOTS:
        return former
    if isinstance(value, dict) and isinstance(former, dict):
        return {
            key: restored(item, former[key]) if key in former else item
            for key, item in value.items()
        }
    if isinstance(value, list) and isinstance(former, list):
        known = [restored(item, before) for item, before in zip(value, former, strict=False)]
        return known + value[len(known) :]
    return value


def hide(records: Iterable[object], allowed: bool) -> None:
    """Remove the payloads of states, log lines or runs for a caller who may not see them."""
    if allowed:
        return
    for record in records:
        for name in PAYLOADS:
            if getattr(record, name, None):
                setattr(record, name, HIDDEN)


def _without_secrets(value: Json) -> Json:
    if isinstance(value, dict):
        return {
            key: DOTS if _is_secret(key, item) else _without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value


def _is_secret(key: str, value: Json) -> bool:
    """Whether the value is one that a secret could be: numbers and empty values can't."""
    if value in (None, "", [], {}) or isinstance(value, bool | int | float):
        return False
    return bool(SECRET.search(str(key)))
