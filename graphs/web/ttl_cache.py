"""Answers that are kept in this process for some seconds, because many people ask for them and making them reads much."""

from collections.abc import Callable, Hashable
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")
SECONDS = 10.0
MOST = 1000
_cached: dict[Hashable, tuple[float, Any]] = {}


def cached(
    key: Hashable,
    make: Callable[[], T],
    worth: Callable[[T], bool] = lambda value: True,
    seconds: float = SECONDS,
) -> T:
    """The answer under this key, made anew when it is older than so many seconds, or was not worth keeping."""
    since, value = _cached.get(key, (0.0, None))
    if since and monotonic() - since < seconds:
        return value
    value = make()
    if worth(value):
        if len(_cached) >= MOST:
            _cached.clear()
        _cached[key] = monotonic(), value
    return value


def forget() -> None:
    _cached.clear()
