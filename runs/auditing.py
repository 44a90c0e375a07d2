"""One row for each thing that somebody did to a run, written in the transaction of the deed, whatever door it came through."""

from collections.abc import Iterable
from typing import Any

from graphs.auth.callers import Caller
from runs.models import AuditEntry, Run

LONGEST_DETAIL = 2000


def note(caller: Caller, action: str, run: Run, detail: str = "") -> None:
    """Record that the caller did this to the run."""
    AuditEntry.objects.create(**_values(caller, action, run.namespace_id, run.pk, run.run_id, detail))


def note_many(caller: Caller, action: str, runs: Iterable[tuple[int, int, str]], detail: str = "") -> None:
    """The same for several runs, given as (namespace id, pk, run id)."""
    AuditEntry.objects.bulk_create((AuditEntry(**_values(caller, action, *run, detail)) for run in runs), batch_size=500)


def note_other(caller: Caller, action: str, detail: str) -> None:
    """Record what was done to no single run: a view, an operation, an export."""
    AuditEntry.objects.create(**_values(caller, action, None, None, "", detail))


def _values(caller: Caller, action: str, namespace: int | None, pk: int | None, run_id: str, detail: str) -> dict[str, Any]:
    return {
        "actor": caller.label[:150], "via": caller.via, "action": action, "namespace_id": namespace, "run": pk, "run_id": run_id,
        "detail": detail[:LONGEST_DETAIL], "operation": caller.operation,
    }  # fmt: skip
