"""Doing one thing to many runs: what can be done, what it would touch, and asking for it. `runs.actions.bulk_runner` does it.

An operation is stored with its query, not with ids; runs that match only after it was asked for are left alone (`bound`).
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Count, F, Max, QuerySet, Sum
from django.http import QueryDict

from graphs.auth.callers import RIGHT_LABELS, Caller
from graphs.definition import errors
from runs.actions import annotate, delete
from runs.actions.rerun import RerunOptions, rerun
from runs.core import statuses
from runs.engine import control, wakeup
from runs.engine.retry import retry_failed
from runs.models import (
    Artifact,
    AuditEntry,
    BulkOperation,
    BulkResult,
    Checkpoint,
    CheckpointWrite,
    Run,
)
from runs.queries import filters

MAX_CHOSEN = 1000
TO_DO = (BulkOperation.Status.QUEUED, BulkOperation.Status.RUNNING)


@dataclass(frozen=True)
class Action:
    """`right` that it needs, how a result says it, on which statuses it can work, and what it does to one run (the id of a run that it makes)."""

    right: str
    done: str
    statuses: Sequence[str]
    call: Callable[[Run, Caller, Mapping[str, Any]], str]


def _quietly(verb: Callable[[Run, Caller], Any]) -> Callable[[Run, Caller, Mapping[str, Any]], str]:
    def call(run: Run, caller: Caller, params: Mapping[str, Any]) -> str:
        verb(run, caller)
        return ""

    return call


def _rerun(run: Run, caller: Caller, params: Mapping[str, Any]) -> str:
    return rerun(
        run,
        caller,
        RerunOptions(
            newest=params.get("version") == "newest", failed=params.get("from") == "failed"
        ),
    ).run_id


def _label(run: Run, caller: Caller, params: Mapping[str, Any]) -> str:
    annotate.label_run(run, caller, params.get("add") or {}, params.get("remove") or ())
    return ""


def _set_status(run: Run, caller: Caller, params: Mapping[str, Any]) -> str:
    annotate.set_status(run, caller, str(params.get("status")), str(params.get("reason")))
    return ""


def _delete(run: Run, caller: Caller, params: Mapping[str, Any]) -> str:
    delete.delete_run(run, caller)
    return ""


_FAILED = (statuses.PARTIAL, statuses.FAILED, statuses.RUN_CANCELLED)
ACTIONS: Mapping[str, Action] = {
    "delete": Action("delete", "deleted", statuses.ENDED_RUNS, _delete),
    "archive": Action("change", "archived", statuses.ENDED_RUNS, _quietly(annotate.archive_run)),
    "unarchive": Action(
        "change", "brought back", statuses.ENDED_RUNS, _quietly(annotate.unarchive_run)
    ),
    "rerun": Action("rerun", "run again", statuses.RUN_STATUSES, _rerun),
    "retry": Action("cancel", "retried", _FAILED, _quietly(retry_failed)),
    "cancel": Action("cancel", "cancelled", statuses.ACTIVE_RUNS, _quietly(control.cancel_run)),
    "pause": Action(
        "cancel", "paused", (statuses.RUN_QUEUED, statuses.RUNNING), _quietly(control.pause_run)
    ),
    "resume": Action("cancel", "resumed", (statuses.PAUSED,), _quietly(control.resume_run)),
    "label": Action("change", "labelled", statuses.RUN_STATUSES, _label),
    "set_status": Action("set_status", "set", statuses.RUN_STATUSES, _set_status),
    "export": Action("export", "exported", statuses.RUN_STATUSES, lambda run, caller, params: ""),
}


# --- what an operation is about -----------------------------------------------------------------------------------------


def targets(query: Mapping[str, Any], caller: Caller) -> QuerySet[Run]:
    """The runs that a query names, of those that the caller sees. Raises Malformed for a filter that can't be read."""
    visible = Run.objects.visible_to(caller)
    if "pk" in query:
        return visible.filter(pk__in=query["pk"])
    if "failed_of" in query:
        return visible.filter(
            pk__in=BulkResult.objects.filter(operation=query["failed_of"], done=False).values("run")
        )
    return filters.found(filter_query(query), visible)


def filter_query(query: Mapping[str, Any]) -> QueryDict:
    """The filters as a query string. Raises Malformed for one that there is not: without it the operation would take more runs than were meant."""
    if unknown := query.keys() - filters.ManagerFilter.base_filters.keys():
        raise errors.Malformed(f"There is no filter {', '.join(sorted(map(repr, unknown)))[:200]}.")
    asked = QueryDict(mutable=True)
    for name, values in query.items():
        asked.setlist(
            name, [str(value) for value in values] if isinstance(values, list) else [str(values)]
        )
    return asked


@dataclass(frozen=True)
class Preview:
    """What an operation would touch: how many runs, of which status, how many of them it can't work on, and what goes with them."""

    total: int
    by_status: dict[str, int]
    unfit: int
    bound: int
    traces: dict[str, int]


def preview(action: str, query: Mapping[str, Any], caller: Caller) -> Preview:
    """A dry run: nothing is changed. Raises Forbidden without the action's right, and Malformed for a query that can't be read."""
    kind = ACTIONS[action]
    if not caller.may(kind.right):
        raise errors.Forbidden(f"{caller.label} may not {RIGHT_LABELS[kind.right]}.")
    runs = targets(query, caller).order_by()
    counts = dict(runs.values_list("status").annotate(Count("pk")))
    unfit = sum(count for status, count in counts.items() if status not in kind.statuses)
    bound = runs.aggregate(most=Max("pk"))["most"] or 0
    return Preview(
        sum(counts.values()), counts, unfit, bound, _traces(runs) if action == "delete" else {}
    )


def _traces(runs: QuerySet[Run]) -> dict[str, int]:
    every = (
        F("pending_count")
        + F("success_count")
        + F("errored_count")
        + F("retried_count")
        + F("cancelled_count")
    )
    kept = runs.aggregate(states=Sum(every), lines=Sum("log_count"))
    files = Artifact.objects.filter(run__in=runs.values("pk")).aggregate(
        count=Count("pk"), size=Sum("size")
    )
    found = {
        "states": kept["states"],
        "log lines": kept["lines"],
        "files": files["count"],
        "bytes": files["size"],
    }
    found |= {
        name: model.objects.filter(run__in=runs.values("pk")).count()
        for name, model in _CHECKPOINTS.items()
    }  # type: ignore[attr-defined]
    return {name: number or 0 for name, number in found.items()}


_CHECKPOINTS = {"checkpoints": Checkpoint, "checkpoint writes": CheckpointWrite}


def ask(
    action: str,
    query: Mapping[str, Any],
    caller: Caller,
    params: Mapping[str, Any] | None = None,
    reason: str = "",
    idempotency_key: uuid.UUID | None = None,
) -> BulkOperation:
    """Store an operation, to be carried out in the background. The same key again gives the first operation. Raises what `preview` raises."""
    _check(action, params or {}, reason)
    seen = preview(action, query, caller)
    if not {"pk", "failed_of"} & query.keys():
        query = filters.frozen(filter_query(query))
    values = {
        "action": action, "params": {**(params or {}), **({"reason": reason} if reason else {})}, "query": dict(query), "reason": reason[:500],
        "user": caller.user, "key_id": caller.key, "actor": caller.label[:150], "via": caller.via, "total": seen.total, "bound": seen.bound,
    }  # fmt: skip
    idempotency_key = idempotency_key or uuid.uuid4()
    try:
        with transaction.atomic():
            operation = BulkOperation.objects.create(idempotency_key=idempotency_key, **values)
            AuditEntry.objects.record_global(
                caller.with_door(caller.via, operation.pk),
                f"bulk_{action}",
                f"{seen.total:,} runs; {reason}"[:500],
            )
            wakeup.hint()
    except IntegrityError:
        found = BulkOperation.objects.filter(
            idempotency_key=idempotency_key, user=caller.user, key=caller.key
        ).first()
        if found is None:
            raise errors.Conflict(
                "This `asked` was used by somebody else; make a new one."
            ) from None
        return found
    return operation


def _check(action: str, params: Mapping[str, Any], reason: str) -> None:
    if action not in ACTIONS:
        raise errors.Malformed(f"The action is one of {', '.join(ACTIONS)}.")
    if action == "set_status" and (
        params.get("status") not in statuses.ENDED_RUNS or not reason.strip()
    ):
        raise errors.Malformed(
            f"Setting a status needs one of {', '.join(statuses.ENDED_RUNS)} and a reason."
        )
    add, remove = params.get("add") or {}, params.get("remove") or []
    if not (
        isinstance(add, dict)
        and isinstance(remove, list)
        and all(isinstance(word, str) for word in (*add.values(), *remove))
    ):
        raise errors.Malformed("`add` maps labels to texts, `remove` is a list of labels.")
    if action == "label" and not (add or remove):
        raise errors.Malformed("Say which labels to add or to remove.")


def retry(operation: BulkOperation, caller: Caller) -> BulkOperation:
    """A new operation on what this one could not do. Raises Conflict while it goes on, or when nothing failed."""
    if not operation.over or not operation.failed:
        raise errors.Conflict(
            "The operation is not over yet." if not operation.over else "Nothing of it failed.",
            allowed=[],
        )
    key = uuid.uuid5(operation.idempotency_key, "retry")  # a second click finds the first one
    return ask(
        operation.action,
        {"failed_of": operation.pk},
        caller,
        operation.params,
        operation.reason,
        key,
    )


def stop(operation: BulkOperation, caller: Caller) -> None:
    """Leave the runs alone that it has not reached yet. Raises Conflict when it is over."""
    if not BulkOperation.objects.filter(pk=operation.pk, status__in=TO_DO).update(stop_asked=True):
        raise errors.Conflict("The operation is over.", allowed=[])
    AuditEntry.objects.record_global(
        caller.with_door(caller.via, operation.pk), "bulk_stop", str(operation)
    )
    wakeup.hint()


def seen_by(caller: Caller) -> QuerySet[BulkOperation]:
    """A caller's own operations; those of everybody for who may do everything in all namespaces."""
    every = BulkOperation.objects.select_related("user")
    if caller.may("admin") and caller.namespaces is None:
        return every
    return every.filter(user=caller.user) if caller.user else every.filter(key=caller.key)
