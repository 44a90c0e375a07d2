"""Placeholders in node inputs: `${{ node.outputs.field }}`, `${{ store.key }}`, `${{ run.inputs.key }}`.

Pure. Blanks around the parts don't count; a field may go deeper with more dots; there is no escaping. A text that
is exactly one placeholder becomes the referenced value with its JSON type; inside longer text the value is rendered as text
(text as it is, anything else as JSON). Rendered values are never parsed again.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

_OPEN = "${{"
_PLACEHOLDER = re.compile(r"\$\{\{([^{}]*)\}\}")

Resolve = Callable[["Reference"], Any]


class BadReference(ValueError):
    """A placeholder that is not closed or doesn't have one of the three forms; the message quotes it."""


class Unresolved(LookupError):
    """A well-formed reference whose value isn't there, such as a field that the node did not output."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What one placeholder points to. `node` is "" for the store and "run" stands for the run's own inputs."""

    source: str  # "node", "store" or "run"
    node: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        head = {"node": f"{self.node}.outputs", "store": "store", "run": "run.inputs"}[self.source]
        return ".".join((head, *self.path))


def parse(text: str) -> list[str | Reference]:
    """The text as literal pieces and references, in order. Raises BadReference."""
    pieces: list[str | Reference] = []
    at = 0
    for match in _PLACEHOLDER.finditer(text):
        pieces += [text[at : match.start()], _reference(match.group(1).strip())]
        at = match.end()
    pieces.append(text[at:])
    for piece in pieces:
        if isinstance(piece, str) and _OPEN in piece:
            raise BadReference(f"a placeholder in {text[:80]!r} is not closed with }}}}")
    return [piece for piece in pieces if piece != ""]


def _reference(inner: str) -> Reference:
    parts = tuple(part.strip() for part in inner.split("."))
    if all(parts):
        if len(parts) == 2 and parts[0] == "store":
            return Reference("store", "", parts[1:])
        if len(parts) >= 3 and parts[:2] == ("run", "inputs"):
            return Reference("run", "", parts[2:])
        if len(parts) >= 3 and parts[1] == "outputs":
            return Reference("node", parts[0], parts[2:])
    raise BadReference(f"${{{{ {inner} }}}} is not node.outputs.field, store.key or run.inputs.key")


def can_name(node: str) -> bool:
    """Whether a reference can lead to a node of this id: not if the id has a dot or a brace in it, or blanks around it."""
    try:
        return parse(f"${{{{ {node}.outputs.field }}}}") == [Reference("node", node, ("field",))]
    except BadReference:
        return False


def find(value: Any) -> Iterator[Reference]:
    """Every reference anywhere in a JSON value. Raises BadReference at the first broken one."""
    if isinstance(value, str):
        if _OPEN in value:
            yield from (piece for piece in parse(value) if isinstance(piece, Reference))
    elif isinstance(value, dict):
        for item in value.values():
            yield from find(item)
    elif isinstance(value, list):
        for item in value:
            yield from find(item)


def renamed(value: Any, names: Mapping[str, str], source: str = "node") -> Any:
    """The value with every reference to a renamed node, or to a renamed input of the `run`, leading to its new name; what is no good placeholder stays."""
    if isinstance(value, str):
        return _renamed(value, names, source) if _OPEN in value else value
    if isinstance(value, dict):
        return {key: renamed(item, names, source) for key, item in value.items()}
    return [renamed(item, names, source) for item in value] if isinstance(value, list) else value


def _renamed(text: str, names: Mapping[str, str], source: str) -> str:
    try:
        pieces = parse(text)
    except BadReference:
        return text
    moved = [
        _moved(piece, names) if isinstance(piece, Reference) and piece.source == source else piece
        for piece in pieces
    ]
    return (
        text
        if moved == pieces
        else "".join(piece if isinstance(piece, str) else f"${{{{ {piece} }}}}" for piece in moved)
    )


def _moved(reference: Reference, names: Mapping[str, str]) -> Reference:
    if reference.source == "node":
        return replace(reference, node=names.get(reference.node, reference.node))
    return replace(
        reference, path=(names.get(reference.path[0], reference.path[0]), *reference.path[1:])
    )


def compiled(value: Any, text: Collection[str] = ()) -> Callable[[Resolve], Any]:
    """A function that renders the value again and again without parsing it again; members named in `text` become text."""
    if text and isinstance(value, dict):
        each = {
            key: _as_text_from(compiled(item)) if key in text else compiled(item)
            for key, item in value.items()
        }
        return lambda resolve: {key: render(resolve) for key, render in each.items()}
    if isinstance(value, str) and _OPEN in value:
        pieces = parse(value)
        if len(pieces) == 1 and isinstance(pieces[0], Reference):
            only = pieces[0]
            return lambda resolve: resolve(only)
        return lambda resolve: "".join(
            piece if isinstance(piece, str) else as_text(resolve(piece)) for piece in pieces
        )
    if isinstance(value, dict) and any(True for _ in find(value)):
        members = {key: compiled(item) for key, item in value.items()}
        return lambda resolve: {key: render(resolve) for key, render in members.items()}
    if isinstance(value, list) and any(True for _ in find(value)):
        items = [compiled(item) for item in value]
        return lambda resolve: [render(resolve) for render in items]
    return lambda resolve: value


def _as_text_from(render: Callable[[Resolve], Any]) -> Callable[[Resolve], str]:
    return lambda resolve: as_text(render(resolve))


def as_text(value: Any) -> str:
    """A value inside text: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def dig(value: Any, path: tuple[str, ...], label: object) -> Any:
    """The part of a value that a path leads to; list items by number. Raises Unresolved naming what is missing."""
    for step in path:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise Unresolved(f"{label} is not there: no {step!r} in {_shape(value)}")
    return value


def _shape(value: Any) -> str:
    if isinstance(value, dict):
        return (
            f"an object with {', '.join(map(repr, list(value)[:8]))}"
            if value
            else "an empty object"
        )
    return f"a list of {len(value)}" if isinstance(value, list) else f"{value!r:.40}"
