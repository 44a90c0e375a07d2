"""Where a state stands below fan-outs: `<node>:<item>` parts joined by ".", node being its index in the plan. Pure.

The three siblings of the node with index 2 stand at "2:0", "2:1" and "2:2", and so does everything below each of them; an empty
fan-out leaves its state at "2:-". A node with a single output adds no part. While a node runs, its state's path lacks its own part.
"""

from collections.abc import Collection

EMPTY = "-"
BRANCH = (
    "r"  # in the place of a node's index: a branch of the run itself (`runs.engine.create_states`)
)


def below(path: str, index: int | str, item: int | str) -> str:
    """The path of output `item` of the node with this index."""
    part = f"{index}:{item}"
    return f"{path}.{part}" if path else part


def trim(path: str, nodes: Collection[str]) -> str:
    """The leading parts that belong to these node indexes (as text)."""
    if not path:
        return ""
    return ".".join(part for part in path.split(".") if part.partition(":")[0] in nodes)


def first_sibling(path: str) -> str:
    """Where the first of a state's siblings is; they share its inputs."""
    return f"{path.rpartition(':')[0]}:0"


def step(path: str, index: int) -> str:
    """The path as it was while the node with this index ran."""
    head, _, last = path.rpartition(".")
    return head if last.partition(":")[0] == str(index) else path


def prefixes(path: str) -> list[str]:
    """The path and everything above it, up to the empty one."""
    parts = path.split(".") if path else []
    return [".".join(parts[:count]) for count in range(len(parts) + 1)]


def is_empty(path: str) -> bool:
    return path.endswith(f":{EMPTY}")


def order(path: str) -> tuple[int, ...]:
    """A sort key: fan-out order."""
    return (
        tuple(
            -1 if part.endswith(EMPTY) else int(part.partition(":")[2]) for part in path.split(".")
        )
        if path
        else ()
    )


def last(prefix: str) -> str:
    """The upper end, in byte order, of all paths that the prefix covers; the prefix itself is the lower end."""
    return f"{prefix}.~" if prefix else "~"
