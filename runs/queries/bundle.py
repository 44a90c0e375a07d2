"""Everything that is known about a run as one JSON document.

The document is streamed, so memory use does not depend on the size of the run.
"""

import json
from collections.abc import Iterable, Iterator

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models.functions import Length

from graphs.auth.callers import Caller
from graphs.definition import redaction
from graphs.definition.payloads import when
from graphs.definition.types import Json, JsonObject
from runs.models import AuditEntry, Run, RunNote

FORMAT = 1  # the version of the document's format
ROWS_AT_ONCE = 200
LINES_AT_ONCE = 1000
_RUN = (
    "run_id",
    "name",
    "status",
    "progress",
    "trigger",
    "username",
    "workspace",
    "session_id",
    "labels",
    "emitted",
    "node_counts",
)
_RUN_PAYLOADS = (
    "purpose",
    "error_message",
    "initial_data",
    "store",
    "metadata",
    "data",
    "sop",
)
_STATE = (
    "id",
    "identifier",
    "node",
    "status",
    "path",
    "parent",
    "attempt",
    "retry_count",
    "emitted",
)
_STATE_PAYLOADS = ("error", "inputs", "outputs", "answer")
_TIMES = ("created_at", "started_at", "finished_at")
_LOG_LINE = ("created_at", "level", "identifier", "state", "attempt", "message")
_ARTIFACT = ("name", "kind", "size", "checksum", "identifier")
_CHECKPOINT = ("ns", "checkpoint_id", "parent_checkpoint_id", "type", "metadata", "size")
_NOTE = ("author", "text", "created_at")
_AUDIT_ENTRY = ("at", "actor", "via", "action", "detail")


def bundle(run: Run, caller: Caller) -> Iterator[str]:
    """The text of the document, in parts.

    Payloads are left out if the caller may not see them. Values whose names look like those of
    secrets are always hidden.
    """
    payloads = caller.can("payloads", run.namespace_id)
    head = {"format": FORMAT, "run": _run(run, payloads), "graph": _graph(run, payloads)}
    yield _dump(head).removesuffix("}")
    lists = {
        "states": _states(run, payloads),
        "logs": _logs(run, payloads),
        "artifacts": run.artifacts.values(*_ARTIFACT),
        "checkpoints": _checkpoints(run, payloads),
        "notes": _notes(run),
        "audit": _audit(run),
    }
    for name, rows in lists.items():
        yield f', "{name}": ['
        for index, row in enumerate(rows):
            yield f"{', ' if index else ''}{_dump(row)}"
        yield "]"
    yield "}\n"


def _dump(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, cls=DjangoJSONEncoder)


def _run(run: Run, payloads: bool) -> JsonObject:
    return {
        **{name: getattr(run, name) for name in _RUN},
        **{name: when(getattr(run, name)) for name in _TIMES},
        "namespace": run.namespace.name,
        "parent": run.parent.run_id if run.parent else None,
        **{name: redaction.shown(getattr(run, name), payloads) for name in _RUN_PAYLOADS},
    }


def _graph(run: Run, payloads: bool) -> JsonObject | None:
    if not (run.graph and run.version):
        return None
    return {
        "name": run.graph.name,
        "version": run.version.number,
        "definition": redaction.shown(run.version.definition, payloads),
    }


def _states(run: Run, payloads: bool) -> Iterable[JsonObject]:
    states = run.states.order_by("pk").values(*_STATE, *_TIMES, *_STATE_PAYLOADS)
    for row in states.iterator(chunk_size=ROWS_AT_ONCE):
        times = {name: when(row[name]) for name in _TIMES}
        shown = {name: redaction.shown(row[name], payloads) for name in _STATE_PAYLOADS}
        yield {**row, **times, **shown}


def _logs(run: Run, payloads: bool) -> Iterable[JsonObject]:
    lines = run.logs.order_by("pk").values(*_LOG_LINE)
    for row in lines.iterator(chunk_size=LINES_AT_ONCE):
        message = redaction.shown(row["message"], payloads)
        yield {**row, "created_at": when(row["created_at"]), "message": message}


def _checkpoints(run: Run, payloads: bool) -> Iterable[JsonObject]:
    checkpoints = run.checkpoints.order_by("pk").annotate(size=Length("body"))
    for row in checkpoints.values(*_CHECKPOINT).iterator(chunk_size=ROWS_AT_ONCE):
        yield {**row, "metadata": redaction.shown(row["metadata"], payloads)}


def _notes(run: Run) -> Iterable[JsonObject]:
    for row in RunNote.objects.filter(run=run).order_by("pk").values(*_NOTE):
        yield {**row, "created_at": when(row["created_at"])}


def _audit(run: Run) -> Iterable[JsonObject]:
    entries = AuditEntry.objects.filter(run=run.pk).order_by("pk").values(*_AUDIT_ENTRY)
    for row in entries.iterator(chunk_size=ROWS_AT_ONCE):
        yield {**row, "at": when(row["at"])}
