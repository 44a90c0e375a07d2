"""A cache that is bounded by the size of what is in it. Pure."""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SizedCache(Generic[K, V]):
    """Keeps the newest values, as long as their sizes add up to `limit` at most.

    The newest one is kept whatever its size. Reading takes no lock, because it happens several
    times for every state.
    """

    def __init__(self, limit: int, size_of: Callable[[V], int]) -> None:
        self._limit = limit
        self._size_of = size_of
        self._values: dict[K, V] = {}
        self._size = 0
        self._lock = Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, made if necessary. Threads may make the same value at once."""
        known = self._values.get(key)
        if known is not None:
            return known
        value = make()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._size += self._size_of(value)
            while self._size > self._limit and len(self._values) > 1:
                oldest = self._values.pop(next(iter(self._values)))
                self._size -= self._size_of(oldest)
        return value

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
            self._size = 0

    def __len__(self) -> int:
        return len(self._values)
