"""Where two JSON values differ. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

MAX_DIFFERENCES = 200
MISSING = object()


@dataclass(frozen=True)
class Difference:
    """A place in two JSON values: `sign` is + where only the second has it, - where only the first has, ~ where both have other values."""

    path: str
    sign: str
    a: Any = None
    b: Any = None


def differences(a: Any, b: Any, path: str = "") -> Iterator[Difference]:
    """Where two JSON values differ, in the order of the first. Numbers are equal by value; true is not 1."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            yield from differences(
                a.get(key, MISSING), b.get(key, MISSING), f"{path}.{key}" if path else str(key)
            )
    elif isinstance(a, list) and isinstance(b, list):
        for at, (one, other) in enumerate(zip_longest(a, b, fillvalue=MISSING)):
            yield from differences(one, other, f"{path}[{at}]")
    elif a is MISSING:
        yield Difference(path, "+", None, b)
    elif b is MISSING:
        yield Difference(path, "-", a, None)
    elif a != b or isinstance(a, bool) != isinstance(b, bool):
        yield Difference(path, "~", a, b)


def some_differences(a: Any, b: Any) -> list[Difference]:
    """The first of them."""
    return [each for each, _ in zip(differences(a, b), range(MAX_DIFFERENCES), strict=False)]
