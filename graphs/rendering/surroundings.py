"""The part of a large graph that a picture shows. Pure."""

from collections.abc import Callable, Iterable

Neighbours = Callable[[str], Iterable[str]]


def nearest(
    centres: Iterable[str], neighbours: Neighbours, limit: int, hops: int | None = None
) -> list[str]:
    """The centres and the nodes around them, the nearest first and at most `limit` of them.

    With `hops`, only nodes that are at most so many edges away.
    """
    found = dict.fromkeys(centres)
    border = list(found)
    while border and len(found) < limit and hops != 0:
        around = [other for node in border for other in neighbours(node)]
        border = [node for node in dict.fromkeys(around) if node not in found]
        found |= dict.fromkeys(border)
        hops = None if hops is None else hops - 1
    return list(found)[:limit]
