"""What a checkpoint holds, for people to read. Nothing of it is brought to life: no class is imported, nothing is called, a pickle stays shut."""

import json
from typing import Any

from graphs.definition import payloads
from runs.external import documents
from runs.langgraph import threads
from runs.models import Checkpoint

DEEPEST = 100
MISSING = "its values are msgpack; install requirements-langgraph.txt to read them here"


def inspected(row: Checkpoint) -> dict[str, Any]:
    """A checkpoint as JSON: its channels' values (of a `run-state` document: its members), and what its tasks wrote."""
    if row.ns == documents.NS:
        return {"values": readable(row.type, bytes(row.body)), "writes": []}
    [kept] = threads.whole([row])
    values = {
        channel: kept.values.get((channel, version)) for channel, version in row.versions.items()
    }
    writes = [
        {
            "task": write.task_id,
            "channel": write.channel,
            "value": readable(write.type, bytes(write.body or b"")),
        }
        for write in kept.writes
    ]
    return {
        "values": {
            channel: readable(*value)
            for channel, value in sorted(values.items())
            if value and value[0] != "empty"
        },
        "writes": writes,
    }


def readable(kind: str, body: bytes) -> Any:
    """A serialised value as JSON. Objects become {"type": their class, "value": their contents}; what can't be read says why."""
    if kind == "null":
        return None
    if "+" in kind:
        return f"encrypted ({kind}), {len(body):,} bytes"
    if kind == "json":
        try:
            return _json(json.loads(body))
        except (ValueError, RecursionError) as error:
            return f"JSON that can't be read ({type(error).__name__}), {len(body):,} bytes"
    if kind != "msgpack":
        return f"{kind}, {len(body):,} bytes"
    try:
        import ormsgpack
    except ImportError:
        return MISSING
    try:
        return _json(_unpacked(ormsgpack, body))
    except (ValueError, TypeError, RecursionError) as error:
        return f"msgpack that can't be read ({type(error).__name__}), {len(body):,} bytes"


def _unpacked(ormsgpack: Any, body: bytes) -> Any:
    def extension(code: int, data: bytes) -> Any:
        inner = ormsgpack.unpackb(data, ext_hook=extension, option=ormsgpack.OPT_NON_STR_KEYS)
        if (
            isinstance(inner, list | tuple)
            and len(inner) > 2
            and isinstance(inner[0], str)
            and isinstance(inner[1], str)
        ):
            return {"type": f"{inner[0]}.{inner[1]}", "value": inner[2]}
        return {"type": f"extension {code}", "value": inner}

    return ormsgpack.unpackb(body, ext_hook=extension, option=ormsgpack.OPT_NON_STR_KEYS)


def _json(value: Any, depth: int = 0) -> Any:
    if depth > DEEPEST:
        return "…"
    if isinstance(value, dict):
        return {_text(str(key)): _json(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_json(each, depth + 1) for each in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value):,} bytes"
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value if isinstance(value, int | float | bool) or value is None else _text(str(value))


def _text(text: str) -> str:
    """What UTF-8 can say; a lone surrogate is nothing of the kind."""
    return payloads.clean(text, len(text))
