"""A run with all that is known of it as one JSON document, streamed, so that memory stays flat."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models.functions import Length

from graphs.auth.callers import Caller
from graphs.definition import redaction
from graphs.definition.payloads import when
from runs.models import AuditEntry, Run

FORMAT = 1
PIECE = 200
_RUN = (
    "run_id",
    "name",
    "status",
    "progress",
    "trigger",
    "username",
    "workspace",
    "session_id",
    "purpose",
    "error_message",
    "labels",
    "emitted",
    "node_counts",
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
    "error",
    "emitted",
)
_TIMES = ("created_at", "started_at", "finished_at")


def bundle(run: Run, caller: Caller) -> Iterator[str]:
    """The text of the document, piece by piece. Payloads are left out for who may not see them; values that are named like secrets always are."""
    allowed = caller.can("payloads", run.namespace_id)
    head = {
        "format": FORMAT,
        "run": {
            **{name: getattr(run, name) for name in _RUN},
            **{name: when(getattr(run, name)) for name in _TIMES},
            "namespace": run.namespace.name,
            "parent": run.parent.run_id if run.parent else None,
            **{
                name: redaction.shown(getattr(run, name), allowed)
                for name in ("initial_data", "store", "metadata", "data", "sop")
            },
        },
        "graph": {
            "name": run.graph.name,
            "version": run.version.number,
            "definition": redaction.shown(run.version.definition, allowed),
        }
        if run.graph and run.version
        else None,
    }
    yield f"{_dump(head)[:-1]}"
    parts = {
        "states": _states(run, allowed), "logs": _logs(run, allowed), "artifacts": _artifacts(run), "checkpoints": _checkpoints(run, allowed),
        "audit": _audit(run),
    }  # fmt: skip
    for name, rows in parts.items():
        yield f', "{name}": ['
        for at, row in enumerate(rows):
            yield f"{', ' if at else ''}{_dump(row)}"
        yield "]"
    yield "}\n"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, cls=DjangoJSONEncoder)


def _states(run: Run, allowed: bool) -> Iterable[dict[str, Any]]:
    payloads = ("inputs", "outputs", "answer")
    for row in (
        run.states.order_by("pk").values(*_STATE, *_TIMES, *payloads).iterator(chunk_size=PIECE)
    ):
        yield {
            **row,
            **{name: when(row[name]) for name in _TIMES},
            **{name: redaction.shown(row[name], allowed) for name in payloads},
        }


def _logs(run: Run, allowed: bool) -> Iterable[dict[str, Any]]:
    for row in (
        run.logs.order_by("pk")
        .values("created_at", "level", "identifier", "state", "attempt", "message")
        .iterator(chunk_size=1000)
    ):
        yield {
            **row,
            "created_at": when(row["created_at"]),
            "message": redaction.shown(row["message"], allowed),
        }


def _artifacts(run: Run) -> Iterable[dict[str, Any]]:
    for row in run.artifacts.values("name", "kind", "size", "checksum", "identifier"):
        yield {**row}


def _checkpoints(run: Run, allowed: bool) -> Iterable[dict[str, Any]]:
    found = run.checkpoints.order_by("pk").annotate(size=Length("body"))
    for row in found.values(
        "ns", "checkpoint_id", "parent_checkpoint_id", "type", "metadata", "size"
    ).iterator(chunk_size=PIECE):
        yield {**row, "metadata": redaction.shown(row["metadata"], allowed)}


def _audit(run: Run) -> Iterable[dict[str, Any]]:
    for row in (
        AuditEntry.objects.filter(run=run.pk)
        .order_by("pk")
        .values("at", "actor", "via", "action", "detail")
        .iterator(chunk_size=PIECE)
    ):
        yield {**row, "at": when(row["at"])}
