"""What may be a name: of a namespace, graph, dataset or run. One rule, because all of them stand in paths."""

from typing import Any

from graphs.definition.errors import Malformed

MAX_ID = 2**63 - 1
LIMITS = {"namespace": 100, "graph": 200, "dataset": 200, "run id": 200, "secret": 200}


def checked(kind: str, name: str) -> str:
    """The name, stripped of blanks around it. Raises Malformed saying what is wrong with it."""
    name = name.strip()
    if not name or len(name) > LIMITS[kind]:
        raise Malformed(
            f"A {kind} has 1 to {LIMITS[kind]} characters; {f'this one has {len(name)}' if name else 'this one is empty'}."
        )
    if name in (".", "..") or "/" in name or not name.isprintable():
        raise Malformed(
            f"A {kind} can't be '.' or '..' and holds no slash and no control characters; {name!r:.80} does."
        )
    return name


def parse_id(text: Any) -> int | None:
    """A row id from a path or query; None for anything that can't be one."""
    if not isinstance(text, str) or len(text) >= 20 or not (text.isascii() and text.isdigit()):
        return None
    return int(text) if int(text) <= MAX_ID else None
