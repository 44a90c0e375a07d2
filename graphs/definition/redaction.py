"""Which parts of a payload are shown. Pure.

Values under names that suggest a secret are replaced by dots. A caller who may not see payloads
gets a sentence instead of them.
"""

import json
import re
from collections.abc import Iterable, Mapping
from itertools import zip_longest

from graphs.definition import errors
from graphs.definition.types import Json

SECRET = re.compile(
    r"passw(or)?d|passphrase|secret|token|api[_-]?key|authorization|credential|private[_-]?key"
    r"|cookie",
    re.IGNORECASE,
)
PAYLOADS = (
    "inputs",
    "outputs",
    "answer",
    "message",
    "initial_data",
    "store",
    "metadata",
    "data",
    "sop",
    "purpose",
    "action_history",
    "chosen",
    "waiting_for",
    "error",
    "error_message",
)
DOTS = "•••"
HIDDEN = "hidden: you may not see inputs, outputs and logs of this run"
REFERENCE = re.compile(r"\$\{\{[^{}]*\}\}")  # such as ${{ login.outputs.token }}: a name, no value
MEMBERS = ("inputs", "settings", "metadata")  # of a definition, besides its nodes and edges
VALUES_OF_SCHEMA = ("default", "const", "examples")


def shown(value: Json, allowed: bool = True) -> Json:
    """The value as a page, an export or a response may show it.

    `allowed` says whether the caller may see payloads; secrets are replaced in any case.
    """
    if allowed:
        return _without_secrets(value)
    return value if value in (None, {}, []) else HIDDEN


def restored(value: Json, former: Json) -> Json:
    """A value that a person sent back, with the dots replaced by what they stood for.

    `former` is the value that was shown to the person. An item of a list is told by what is shown
    of it, wherever it is now, and by its place if it was changed.

    Raises Malformed for dots if it isn't certain what they stood for.
    """
    return _restored(value, former, "")


def _restored(value: Json, former: Json, place: str) -> Json:
    if value == DOTS:
        if former is None:
            where = f" at {place!r}" if place else ""
            raise errors.Malformed(
                f"Enter the value{where} again. It isn't known which secret the dots stand for."
            )
        return former
    if isinstance(value, dict):
        known = former if isinstance(former, dict) else {}
        prefix = f"{place}." if place else ""
        return {
            key: _restored(item, known.get(key), f"{prefix}{key}") for key, item in value.items()
        }
    if isinstance(value, list):
        partners = _partners(value, former) if isinstance(former, list) else [None] * len(value)
        return [
            _restored(item, partner, f"{place}[{number}]")
            for number, (item, partner) in enumerate(zip(value, partners, strict=True))
        ]
    return value


def _partners(items: list[Json], former: list[Json]) -> list[Json]:
    """What each item of a list was before, None if that isn't certain."""
    if f'"{DOTS}"' not in _text(items):
        return [None] * len(items)
    sent = [_text(item) for item in items]
    shown = [_text(_without_secrets(item)) for item in former]
    known: dict[str, Json] = {}  # None for different items that look the same
    for text, item in zip(shown, former, strict=True):
        known[text] = item if known.setdefault(text, item) == item else None
    changed = [at for at, texts in enumerate(zip_longest(sent, shown)) if texts[0] != texts[1]]
    in_place = len(items) == len(former) and len(changed) < 2

    def partner(number: int) -> Json:
        if known.get(sent[number]) is not None:
            return known[sent[number]]
        # It is one of several that look the same, or it was changed. Nothing else may have been.
        return former[number] if in_place and changed in ([], [number]) else None

    return [partner(number) for number in range(len(items))]


def _text(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def definition_shown(definition: Mapping[str, Json], allowed: bool) -> Json:
    """A definition as it is shown to a caller who may, or may not, see payloads.

    Without `allowed`, secrets among the inputs of its nodes, the defaults of the run's inputs, the
    store and the metadata are replaced by dots.
    """
    if allowed:
        return definition
    shown = {**definition, "nodes": [_node_shown(node) for node in definition["nodes"]]}
    for name in ("settings", "metadata"):
        if name in definition:
            shown[name] = _without_secrets(definition[name])
    if "inputs" in definition:
        shown["inputs"] = schema_shown(definition["inputs"])
    return shown


def definition_restored(
    definition: Json, former: Mapping[str, Json], renamed: tuple[str, str] | None = None
) -> Json:
    """A definition that a person sent back, with the dots replaced by what they stood for.

    Nodes are told by their ids; `renamed` holds the old and the new id of one.
    """
    if not isinstance(definition, dict) or not isinstance(definition.get("nodes"), list):
        return definition
    known = {node["id"]: node for node in former["nodes"]}
    if renamed and renamed[0] in known:
        known[renamed[1]] = known[renamed[0]]
    nodes = [
        restored(node, known.get(node["id"], {}))
        if isinstance(node, dict) and isinstance(node.get("id"), str)
        else node
        for node in definition["nodes"]
    ]
    members = {name: definition[name] for name in MEMBERS if name in definition}
    return {**definition, **restored(members, former), "nodes": nodes}


def hide(records: Iterable[object], allowed: bool) -> None:
    """Remove the payloads of states, log lines or runs for a caller who may not see them."""
    if allowed:
        return
    for record in records:
        for name in PAYLOADS:
            if _is_loaded(record, name) and getattr(record, name):
                setattr(record, name, HIDDEN)


def _is_loaded(record: object, name: str) -> bool:
    """Whether the record has the value already. A deferred column is not read to be hidden."""
    return name in getattr(record, "__dict__", ()) or name in getattr(record, "__slots__", ())


def _without_secrets(value: Json) -> Json:
    if isinstance(value, dict):
        return {
            key: DOTS if _is_secret(key, item) else _without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value


def _node_shown(node: Json) -> Json:
    inputs = (node.get("data") or {}).get("inputs")
    return (
        {**node, "data": {**node["data"], "inputs": _without_secrets(inputs)}} if inputs else node
    )


def schema_shown(schema: Json, secret: bool = False) -> Json:
    """A JSON Schema without the defaults of what is `secret` or has a name that suggests it."""
    if isinstance(schema, list):
        return [schema_shown(member, secret) for member in schema]
    if not isinstance(schema, dict):
        return schema
    shown: Json = {}
    for key, value in schema.items():
        if key == "properties" and isinstance(value, dict):
            shown[key] = {
                name: schema_shown(member, secret or bool(SECRET.search(name)))
                for name, member in value.items()
            }
        elif key in VALUES_OF_SCHEMA:
            shown[key] = DOTS if secret and _could_be_secret(value) else _without_secrets(value)
        else:
            shown[key] = schema_shown(value, secret)
    return shown


def holds_secret(key: str, value: Json) -> bool:
    """Whether the value under this name is a secret or has one in it."""
    return bool(_without_secrets({key: value}) != {key: value})


def _is_secret(key: str, value: Json) -> bool:
    return _could_be_secret(value) and bool(SECRET.search(str(key)))


def _could_be_secret(value: Json) -> bool:
    """Whether a secret could be the value. Numbers, empty values and references can't."""
    if value in (None, "", [], {}) or isinstance(value, bool | int | float):
        return False
    return not (isinstance(value, str) and REFERENCE.fullmatch(value.strip()))
