"""Sets of the nodes of one graph, as bit masks. Pure.

In a chain of ten thousand nodes, the sets of ancestors have fifty million members together. As
masks they take 12 MB at most, and their unions and intersections are single operations.
"""

from collections.abc import Iterable, Iterator, Sequence, Set


class NodeOrder:
    """The nodes of a graph in a fixed order. The place of a node is its bit in the masks."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.nodes = tuple(nodes)
        self.places = {node: place for place, node in enumerate(self.nodes)}

    def set_of(self, nodes: Iterable[str]) -> "NodeSet":
        return NodeSet(self, self.mask_of(nodes))

    def mask_of(self, nodes: Iterable[object]) -> int:
        """The mask of those of the given things that are nodes of the graph."""
        mask = 0
        for node in nodes:
            place = self.places.get(node)  # type: ignore[call-overload]
            if place is not None:
                mask |= 1 << place
        return mask


class NodeSet(Set[str]):
    """An immutable set of nodes. It iterates in the order of its graph.

    Operations with another set of the same graph cost the same for any number of members.
    """

    __slots__ = ("mask", "order")

    def __init__(self, order: NodeOrder, mask: int) -> None:
        self.order = order
        self.mask = mask

    def __contains__(self, node: object) -> bool:
        place = self.order.places.get(node)  # type: ignore[call-overload]
        return place is not None and bool(self.mask >> place & 1)

    def __iter__(self) -> Iterator[str]:
        nodes, mask, place = self.order.nodes, self.mask, 0
        while mask:
            skipped = (mask & -mask).bit_length() - 1
            place += skipped
            yield nodes[place]
            place += 1
            mask >>= skipped + 1

    def __len__(self) -> int:
        return self.mask.bit_count()

    def __and__(self, other: Iterable[object]) -> "NodeSet":
        return NodeSet(self.order, self.mask & self._mask_of(other))

    def __sub__(self, other: Iterable[object]) -> "NodeSet":
        return NodeSet(self.order, self.mask & ~self._mask_of(other))

    def _mask_of(self, other: Iterable[object]) -> int:
        if isinstance(other, NodeSet) and other.order is self.order:
            return other.mask
        return self.order.mask_of(other)

    __hash__ = Set._hash

    @classmethod
    def _from_iterable(cls, members: Iterable[str]) -> frozenset[str]:  # type: ignore[override]
        """What the other operations of `Set` return."""
        return frozenset(members)
