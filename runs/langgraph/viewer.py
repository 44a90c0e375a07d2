"""The contents of checkpoints as JSON that people can read.

Nothing that is stored gets executed: no class is imported, no function is called, and pickles are
not opened.
"""

import json
import math

from graphs.definition import payloads
from graphs.definition.types import Json, JsonObject
from runs.external import documents
from runs.langgraph import checkpoints
from runs.models import Checkpoint

MAX_DEPTH = 100
MISSING = "its values are msgpack; install requirements-langgraph.txt to read them here"


def inspected(row: Checkpoint) -> JsonObject:
    """Return what a checkpoint holds as {"values", "writes"}.

    `values` maps channels to their values; for a run document it is the document. `writes` lists
    what tasks wrote on top of the checkpoint as {"task", "channel", "value"}.
    """
    if row.ns == documents.NS:
        return {"values": readable(row.type, bytes(row.body)), "writes": []}
    [stored] = checkpoints.load([row])
    values = {
        channel: readable(*value) for channel, value in sorted(stored.channel_values().items())
    }
    writes = [
        {
            "task": write.task_id,
            "channel": write.channel,
            "value": readable(write.type, bytes(write.body or b"")),
        }
        for write in stored.writes
    ]
    return {"values": values, "writes": writes}


def readable(kind: str, body: bytes) -> Json:
    """Return a serialized value as JSON, or a sentence that says why it can't be read.

    An object becomes {"type": its class, "value": its contents}.
    """
    size = f"{len(body):,} bytes"
    if kind == "null":
        return None
    if "+" in kind:
        return f"encrypted ({kind}), {size}"
    try:
        if kind == "json":
            return _to_json(json.loads(body))
        if kind == "msgpack":
            return _to_json(_unpack(body))
    except ImportError:
        return MISSING
    except (ValueError, TypeError, RecursionError) as error:
        label = "JSON" if kind == "json" else kind
        return f"{label} that can't be read ({type(error).__name__}), {size}"
    return f"{kind}, {size}"


def _unpack(body: bytes) -> Json:
    import ormsgpack

    def unpack(data: bytes) -> Json:
        return ormsgpack.unpackb(data, ext_hook=extension, option=ormsgpack.OPT_NON_STR_KEYS)

    def extension(code: int, data: bytes) -> JsonObject:
        """LangGraph packs an object as (module, class, contents, ...) within an extension."""
        content = unpack(data)
        match content:
            case [str(module), str(name), value, *_]:
                return {"type": f"{module}.{name}", "value": value}
        return {"type": f"extension {code}", "value": content}

    return unpack(body)


def _to_json(value: object, depth: int = 0) -> Json:
    if depth > MAX_DEPTH:
        return "…"
    if isinstance(value, dict):
        return {_text(str(key)): _to_json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_to_json(item, depth + 1) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value):,} bytes"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int | float) or value is None:
        return value
    return _text(str(value))


def _text(text: str) -> str:
    """Return the text without what UTF-8 can't encode."""
    return payloads.clean(text, len(text))
