"""Names of namespaces, graphs, datasets, runs and secrets, and ids of rows.

One rule holds for all names, because all of them are parts of URLs.
"""

from graphs.definition.errors import Malformed

MAX_ID = 2**63 - 1
MAX_ID_DIGITS = 19
LIMITS = {"namespace": 100, "graph": 200, "dataset": 200, "run id": 200, "secret": 200}


def checked(kind: str, name: str) -> str:
    """The name without surrounding whitespace. Raises Malformed if it is not valid.

    `kind` is one of LIMITS.
    """
    name = name.strip()
    limit = LIMITS[kind]
    if not name:
        raise Malformed(f"A {kind} has 1 to {limit} characters; this one is empty.")
    if len(name) > limit:
        raise Malformed(f"A {kind} has 1 to {limit} characters; this one has {len(name)}.")
    if name in (".", "..") or "/" in name or not name.isprintable():
        raise Malformed(
            f"A {kind} can't be '.' or '..', and can't contain slashes or control characters;"
            f" {name!r:.80} is not allowed."
        )
    return name


def parse_id(text: object) -> int | None:
    """The id of a row from a path or a query; None for anything that can't be one."""
    if not isinstance(text, str) or len(text) > MAX_ID_DIGITS:
        return None
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    return number if number <= MAX_ID else None
