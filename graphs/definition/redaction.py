"""What of a payload is shown: values under names that promise a secret are not, and nothing to who may not see payloads. Pure."""

import re
from collections.abc import Iterable
from typing import Any

SECRET = re.compile(
    r"passw(or)?d|passphrase|secret|token|api[_-]?key|authorization|credential|private[_-]?key|cookie",
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


def shown(value: Any, allowed: bool = True) -> Any:
    """The value as a page, an export or a person's request may have it."""
    if not allowed:
        return HIDDEN if value not in (None, {}, []) else value
    return _without_secrets(value)


def restored(value: Any, former: Any) -> Any:
    """A value that a person sent back, with what was shown as dots as it was."""
    if value == DOTS:
        return former
    if isinstance(value, dict) and isinstance(former, dict):
        return {
            key: restored(each, former.get(key)) if key in former else each
            for key, each in value.items()
        }
    if isinstance(value, list) and isinstance(former, list):
        return [
            restored(each, former[at]) if at < len(former) else each
            for at, each in enumerate(value)
        ]
    return value


def hide(rows: Iterable[Any], allowed: bool) -> None:
    """Take the payloads out of rows (states, log lines, runs) for a caller who may not see them."""
    for row in rows if not allowed else ():
        for name in PAYLOADS:
            if getattr(row, name, None):
                setattr(row, name, HIDDEN)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: DOTS if _is_secret(key, each) else _without_secrets(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(each) for each in value]
    return value


def _is_secret(key: str, value: Any) -> bool:
    return (
        bool(SECRET.search(str(key)))
        and value not in (None, "", [], {})
        and not isinstance(value, bool | int | float)
    )
