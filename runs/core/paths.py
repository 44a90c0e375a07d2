"""The place of a state below fan-outs: `<node>:<item>` parts joined by ".". Pure functions.

The node is given by its index in the plan. The three siblings of the node with index 2 have the
paths "2:0", "2:1" and "2:2", and everything below a sibling begins with its path. An empty fan-out
leaves its state at "2:-". A node with a single output adds no part. While a node runs, the path of
its state lacks the state's own part.
"""

import re
from collections.abc import Container

EMPTY = "-"
# Instead of a node's index: a branch of the run itself (`runs.engine.create_states`).
BRANCH = "r"
_PART = f"(?:{BRANCH}|[0-9]+):(?:{EMPTY}|[0-9]+)"
_PATH = re.compile(rf"{_PART}(?:\.{_PART})*")


def is_path(text: str) -> bool:
    """Whether the text could be a path that is not empty."""
    return bool(_PATH.fullmatch(text))


def below(path: str, index: int | str, item: int | str) -> str:
    """The path of output `item` of the node with this index."""
    part = f"{index}:{item}"
    return f"{path}.{part}" if path else part


def trim(path: str, nodes: Container[str]) -> str:
    """The parts of the path that belong to these node indexes (as text)."""
    if not path:
        return ""
    return ".".join(part for part in path.split(".") if part.partition(":")[0] in nodes)


def first_sibling(path: str) -> str:
    """The path of the first of a state's siblings. All siblings share its inputs."""
    return f"{path.rpartition(':')[0]}:0"


def step(path: str, index: int) -> str:
    """The path as it was while the node with this index ran."""
    head, _, last_part = path.rpartition(".")
    return head if last_part.partition(":")[0] == str(index) else path


def prefixes(path: str) -> list[str]:
    """The path and everything above it, beginning with the empty path."""
    parts = path.split(".") if path else []
    return [".".join(parts[:count]) for count in range(len(parts) + 1)]


def is_empty(path: str) -> bool:
    """Whether this is the path of an empty fan-out."""
    return path.endswith(f":{EMPTY}")


def order(path: str) -> tuple[int, ...]:
    """A sort key that puts paths in the order of their fan-outs."""
    if not path:
        return ()
    return tuple(_item(part) for part in path.split("."))


def _item(part: str) -> int:
    return -1 if part.endswith(EMPTY) else int(part.partition(":")[2])


def last(prefix: str) -> str:
    """The upper end, in byte order, of all paths at and below the prefix. Its lower end is the
    prefix itself.
    """
    return f"{prefix}.~" if prefix else "~"
