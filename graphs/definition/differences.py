"""Where two JSON values differ. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest

from graphs.definition.types import Json

MAX_DIFFERENCES = 200
MAX_PATH = 500  # characters
MISSING = object()


@dataclass(frozen=True)
class Difference:
    """A place at which two JSON values differ. The end of a long path is left out.

    `sign` is + if only the second has it, - if only the first has it, and ~ if both have it with
    different values.
    """

    path: str
    sign: str
    a: Json = None
    b: Json = None


def differences(a: Json, b: Json, path: str = "") -> Iterator[Difference]:
    """The places at which two JSON values differ, in the order of the first.

    Numbers are compared by value, but true is not 1.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            inner = f"{path}.{key}" if path else str(key)
            if len(inner) > MAX_PATH:
                inner = f"{inner[: MAX_PATH - 1]}…"
            yield from differences(a.get(key, MISSING), b.get(key, MISSING), inner)
    elif isinstance(a, list) and isinstance(b, list):
        for at, (first, second) in enumerate(zip_longest(a, b, fillvalue=MISSING)):
            yield from differences(first, second, f"{path}[{at}]")
    elif a is MISSING:
        yield Difference(path, "+", None, b)
    elif b is MISSING:
        yield Difference(path, "-", a, None)
    elif a != b or isinstance(a, bool) != isinstance(b, bool):
        yield Difference(path, "~", a, b)


def some_differences(a: Json, b: Json) -> list[Difference]:
    """The first MAX_DIFFERENCES differences."""
    return list(islice(differences(a, b), MAX_DIFFERENCES))
