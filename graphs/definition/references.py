"""Placeholders in the inputs of nodes. Pure.

A placeholder is `${{ node.outputs.field }}`, `${{ store.key }}` or `${{ run.inputs.key }}`.
Spaces around its parts are ignored, more dots lead deeper into a field, and there is no escaping.
A text that is exactly one placeholder becomes the value with its JSON type. Inside longer text the
value becomes text: a string as it is, anything else as JSON. Rendered values are never parsed
again.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from graphs.definition.types import Json

_OPEN = "${{"
_PLACEHOLDER = re.compile(r"\$\{\{([^{}]*)\}\}")
_MAX_DIGITS = 20  # of an index; Python reads no more than 4,300
_MAX_QUOTE = 80  # characters of a text that a message repeats

Resolve = Callable[["Reference"], Json]
Render = Callable[[Resolve], Json]


class BadReference(ValueError):
    """Raised when a placeholder is not closed or has none of the three forms."""


class Unresolved(LookupError):
    """Raised when the value of a reference is missing, such as a field that was not output."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What one placeholder points to. `node` is "" unless the source is a node."""

    source: str  # "node", "store" or "run"
    node: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        heads = {"node": f"{self.node}.outputs", "store": "store", "run": "run.inputs"}
        return ".".join((heads[self.source], *self.path))


def parse(text: str) -> list[str | Reference]:
    """Split a text into literal pieces and references, in order. Raises BadReference."""
    pieces: list[str | Reference] = []
    at = 0
    for match in _PLACEHOLDER.finditer(text):
        pieces += [text[at : match.start()], _reference(match.group(1).strip())]
        at = match.end()
    pieces.append(text[at:])

    for piece in pieces:
        if isinstance(piece, str) and _OPEN in piece:
            raise BadReference(f"a placeholder in {text[:_MAX_QUOTE]!r} is not closed with }}}}")
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
    raise BadReference(
        f"${{{{ {inner} }}}} is not a valid placeholder; write node.outputs.field, store.key"
        " or run.inputs.key"
    )


def can_name(node: str) -> bool:
    """Whether a reference can lead to a node with this id.

    It can't if the id contains a dot or a brace, or starts or ends with a space.
    """
    try:
        return parse(f"${{{{ {node}.outputs.field }}}}") == [Reference("node", node, ("field",))]
    except BadReference:
        return False


def find(value: Json) -> Iterator[Reference]:
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


def renamed(value: Json, names: Mapping[str, str], source: str = "node") -> Json:
    """The value with its references changed to the new names of nodes, or of inputs of the run.

    `names` maps old names to new ones, and `source` is "node" or "run". Broken placeholders stay
    as they are.
    """
    if isinstance(value, str):
        return _renamed_text(value, names, source) if _OPEN in value else value
    if isinstance(value, dict):
        return {key: renamed(item, names, source) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, names, source) for item in value]
    return value


def _renamed_text(text: str, names: Mapping[str, str], source: str) -> str:
    try:
        pieces = parse(text)
    except BadReference:
        return text
    new_pieces: list[str | Reference] = []
    for piece in pieces:
        if isinstance(piece, Reference) and piece.source == source:
            new_pieces.append(_renamed_reference(piece, names))
        else:
            new_pieces.append(piece)
    if new_pieces == pieces:
        return text
    return "".join(
        piece if isinstance(piece, str) else f"${{{{ {piece} }}}}" for piece in new_pieces
    )


def _renamed_reference(reference: Reference, names: Mapping[str, str]) -> Reference:
    if reference.source == "node":
        return replace(reference, node=names.get(reference.node, reference.node))
    name, *rest = reference.path
    return replace(reference, path=(names.get(name, name), *rest))


def compiled(value: Json, text: Collection[str] = ()) -> Render:
    """A function that renders the value any number of times without parsing it again.

    The members named in `text` always become text. Raises BadReference.
    """
    if text and isinstance(value, dict):
        members = {
            key: _as_text_from(compiled(item)) if key in text else compiled(item)
            for key, item in value.items()
        }
        return _object_from(members)
    if isinstance(value, str) and _OPEN in value:
        return _text_from(parse(value))
    if isinstance(value, dict) and _has_reference(value):
        return _object_from({key: compiled(item) for key, item in value.items()})
    if isinstance(value, list) and _has_reference(value):
        items = [compiled(item) for item in value]
        return lambda resolve: [render(resolve) for render in items]
    return lambda resolve: value


def _has_reference(value: Json) -> bool:
    return any(True for _ in find(value))


def _object_from(members: Mapping[str, Render]) -> Render:
    return lambda resolve: {key: render(resolve) for key, render in members.items()}


def _text_from(pieces: list[str | Reference]) -> Render:
    """A single reference keeps the type of its value; pieces of text are joined."""
    if len(pieces) == 1 and isinstance(pieces[0], Reference):
        only = pieces[0]
        return lambda resolve: resolve(only)
    return lambda resolve: "".join(
        piece if isinstance(piece, str) else as_text(resolve(piece)) for piece in pieces
    )


def _as_text_from(render: Render) -> Callable[[Resolve], str]:
    return lambda resolve: as_text(render(resolve))


def as_text(value: Json) -> str:
    """A value as a part of text: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def dig(value: Json, path: tuple[str, ...], label: object) -> Json:
    """The part of a value at a path, where numbers select items of lists.

    Raises Unresolved if it is missing; `label` names the reference in the message.
    """
    for step in path:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and _is_index(step, value):
            value = value[int(step)]
        else:
            raise Unresolved(f"{label} is missing: there is no {step!r} in {_described(value)}")
    return value


def _is_index(step: str, items: list[Json]) -> bool:
    return step.isdecimal() and len(step) <= _MAX_DIGITS and int(step) < len(items)


def _described(value: Json) -> str:
    if isinstance(value, dict):
        names = ", ".join(map(repr, list(value)[:8]))
        return f"an object with {names}" if names else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"{value!r:.40}"
