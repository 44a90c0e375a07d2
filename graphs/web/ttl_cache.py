"""Values that each process caches for some seconds: many pages need them, and they are slow."""

from collections.abc import Callable, Hashable
from time import monotonic
from typing import Any, TypeVar

from django.db.backends.signals import connection_created
from django.dispatch import receiver

T = TypeVar("T")
SECONDS = 10.0
MAX_CACHED = 1000
_cached: dict[Hashable, tuple[float, Any]] = {}


def cached(
    key: Hashable,
    make: Callable[[], T],
    worth: Callable[[T], bool] = lambda value: True,
    seconds: float = SECONDS,
) -> T:
    """The cached value of a key, or the result of `make` if it is older than `seconds`.

    Only values for which `worth` returns True are cached. The cache is emptied when it is full.
    """
    cached_at, value = _cached.get(key, (0.0, None))
    if cached_at and monotonic() - cached_at < seconds:
        return value

    value = make()
    if worth(value):
        if len(_cached) >= MAX_CACHED:
            _cached.clear()
        _cached[key] = monotonic(), value
    return value


@receiver(connection_created)
def forget(**_: object) -> None:
    """Empty the cache. After a failover, other rows may have the keys in it."""
    _cached.clear()
