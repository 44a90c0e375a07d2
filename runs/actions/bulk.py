"""Bulk operations: one action on many runs. Here they are checked, previewed and stored;
`runs.actions.bulk_runner` runs them.

An operation is stored with its filters, not with the ids of runs. Runs that match only later are
not touched: the operation takes runs up to its `bound`.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from django.db import IntegrityError, transaction
from django.db.models import Count, Max, QuerySet, Sum

from graphs.auth.callers import RIGHT_LABELS, Caller
from graphs.definition import errors
from graphs.definition.types import JsonObject
from runs.actions import bulk_inputs, bulk_params, export
from runs.actions.annotate import archive_run, label_run, set_status, unarchive_run
from runs.actions.delete import DELETABLE, DELETE_RIGHT, delete_run
from runs.actions.partial_rerun import CopiedFiles
from runs.actions.rerun import RerunOptions, files_for, rerun
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
from runs.models.run import STATE_COUNTS
from runs.queries import orderings
from runs.queries.filters import FilterValues, RunFilters

MAX_CHOSEN = 1000
TO_DO = (BulkOperation.Status.QUEUED, BulkOperation.Status.RUNNING)

Call = Callable[[Run, Caller, JsonObject], str]  # returns the id of the run that it made, or ""


@dataclass(frozen=True)
class Action:
    """Something that can be done to a run.

    `right` is what the caller needs, `done` the participle for results, `statuses` those of runs
    that it can work on. `prepare` does what must not happen in a transaction, and gives the call
    that does the rest.
    """

    right: str
    done: str
    statuses: Sequence[str]
    call: Call
    prepare: Callable[[Run, Caller, JsonObject], AbstractContextManager[Call]] | None = None

    def prepared(
        self, run: Run, caller: Caller, params: JsonObject
    ) -> AbstractContextManager[Call]:
        return self.prepare(run, caller, params) if self.prepare else nullcontext(self.call)


def _without_params(function: Callable[[Run, Caller], object]) -> Call:
    def call(run: Run, caller: Caller, params: JsonObject) -> str:
        function(run, caller)
        return ""

    return call


def _rerun_options(run: Run, caller: Caller, params: JsonObject) -> RerunOptions:
    """The options. By their key, a run that the operation comes to twice is rerun once."""
    inputs = params.get("inputs")
    return RerunOptions(
        newest=params.get("version") == "newest",
        failed=params.get("from") == "failed",
        inputs=bulk_inputs.merged(run, inputs, caller) if inputs else None,
        idempotency_key=f"operation {caller.operation}" if caller.operation else "",
    )


def _rerun(run: Run, caller: Caller, params: JsonObject, files: CopiedFiles | None = None) -> str:
    return rerun(run, caller, _rerun_options(run, caller, params), files).run_id


@contextmanager
def _prepared_rerun(run: Run, caller: Caller, params: JsonObject) -> Iterator[Call]:
    with files_for(run, caller, _rerun_options(run, caller, params)) as files:
        yield partial(_rerun, files=files)


def _label(run: Run, caller: Caller, params: JsonObject) -> str:
    label_run(run, caller, params.get("add") or {}, params.get("remove") or ())
    return ""


def _set_status(run: Run, caller: Caller, params: JsonObject) -> str:
    set_status(run, caller, str(params.get("status")), str(params.get("reason")))
    return ""


def _nothing(run: Run, caller: Caller) -> None:
    """An export touches no run; the bulk runner writes its file."""


_RETRYABLE = (statuses.PARTIAL, statuses.FAILED, statuses.RUN_CANCELLED)
_PAUSABLE = (statuses.RUN_QUEUED, statuses.RUNNING)
_ENDED, _ACTIVE, _ALL = statuses.ENDED_RUNS, statuses.ACTIVE_RUNS, statuses.RUN_STATUSES
ACTIONS: Mapping[str, Action] = {
    "delete": Action(DELETE_RIGHT, "deleted", DELETABLE, _without_params(delete_run)),
    "archive": Action("change", "archived", _ENDED, _without_params(archive_run)),
    "unarchive": Action("change", "brought back", _ENDED, _without_params(unarchive_run)),
    "rerun": Action("rerun", "run again", _ALL, _rerun, _prepared_rerun),
    "retry": Action("cancel", "retried", _RETRYABLE, _without_params(retry_failed)),
    "cancel": Action("cancel", "cancelled", _ACTIVE, _without_params(control.cancel_run)),
    "pause": Action("cancel", "paused", _PAUSABLE, _without_params(control.pause_run)),
    "resume": Action("cancel", "resumed", (statuses.PAUSED,), _without_params(control.resume_run)),
    "label": Action("change", "labelled", _ALL, _label),
    "set_status": Action("set_status", "set", _ALL, _set_status),
    "export": Action("export", "exported", _ALL, _without_params(_nothing)),
}


# --- the runs of an operation ---------------------------------------------------------------------


def targets(query: JsonObject, caller: Caller) -> QuerySet[Run]:
    """The runs that an operation's query names, as far as the caller sees them.

    The query has the list's filters; or `pk`, the runs that were ticked; or `failed_of`, the
    operation whose failed runs are meant. Raises InvalidFilters.
    """
    visible = Run.objects.visible_to(caller)
    if "pk" in query:
        return visible.filter(pk__in=query["pk"])
    if "failed_of" in query:
        failed = BulkResult.objects.filter(operation=query["failed_of"], done=False)
        return visible.filter(pk__in=failed.values("run"))
    return RunFilters.of_mapping(query).apply(visible, caller)


def filter_query(filters: Mapping[str, object]) -> FilterValues:
    """The query for runs that match these filters, which come from a request.

    Raises InvalidFilters for unknown names, and so for `pk` and `failed_of`, which a request must
    not smuggle in.
    """
    run_filters = RunFilters.of_mapping(filters)
    run_filters.check_names()
    return run_filters.values


@dataclass(frozen=True)
class Preview:
    """What an operation would touch.

    `unfit` is the number of runs whose status does not allow the action, `bound` the highest pk,
    and `traces` the number of rows and bytes that would be deleted with the runs.
    """

    total: int
    by_status: dict[str, int]
    unfit: int
    bound: int
    traces: dict[str, int]


def preview(action: str, query: JsonObject, caller: Caller) -> Preview:
    """What the action would touch; nothing is changed.

    Raises Forbidden without the action's right, and InvalidFilters.
    """
    kind = ACTIONS[action]
    if not caller.may(kind.right):
        raise errors.Forbidden(f"{caller.label} may not {RIGHT_LABELS[kind.right]}.")
    runs = targets(query, caller).order_by()
    counts = dict(runs.values_list("status").annotate(Count("pk")))
    return Preview(
        total=sum(counts.values()),
        by_status=counts,
        unfit=sum(count for status, count in counts.items() if status not in kind.statuses),
        bound=runs.aggregate(highest=Max("pk"))["highest"] or 0,
        traces=_deleted_with(runs) if action == "delete" else {},
    )


def _deleted_with(runs: QuerySet[Run]) -> dict[str, int]:
    """How much would be deleted with these runs. States and lines come from the run counters."""
    sums = runs.aggregate(lines=Sum("log_count"), **{name: Sum(name) for name in STATE_COUNTS})
    pks = runs.values("pk")
    files = Artifact.objects.filter(run__in=pks).aggregate(count=Count("pk"), size=Sum("size"))
    return {
        "states": sum(sums[name] or 0 for name in STATE_COUNTS),
        "log lines": sums["lines"] or 0,
        "files": files["count"],
        "bytes": files["size"] or 0,
        "checkpoints": Checkpoint.objects.filter(run__in=pks).count(),
        "checkpoint writes": CheckpointWrite.objects.filter(run__in=pks).count(),
    }


def checked_preview(
    action: str, query: JsonObject, caller: Caller, params: JsonObject, reason: str
) -> Preview:
    """What the action would touch, if nothing is wrong with it.

    Raises Malformed for params that don't suit the action or the runs, and what `preview` raises.
    """
    if action not in ACTIONS:
        raise errors.Malformed(f"The action is one of {', '.join(ACTIONS)}.")
    bulk_params.check(action, params, reason)
    expected = preview(action, query, caller)
    if action == "export":
        _check_export(params, expected.total)
    if params.get("inputs"):
        newest = params.get("version") == "newest"
        runs = targets(query, caller)
        bulk_inputs.check(runs, expected.total, params["inputs"], newest, caller)
    return expected


# --- operations -----------------------------------------------------------------------------------


def ask(
    action: str,
    query: JsonObject,
    caller: Caller,
    params: JsonObject | None = None,
    reason: str = "",
    idempotency_key: uuid.UUID | None = None,
) -> BulkOperation:
    """Store an operation, which will be run in the background.

    Returns the first operation if the idempotency key was used before. Raises Malformed for params
    that don't suit the action, Conflict for another caller's key, and what `preview` raises.
    """
    params = params or {}
    expected = checked_preview(action, query, caller, params, reason)
    idempotency_key = idempotency_key or uuid.uuid4()
    operation = BulkOperation(
        idempotency_key=idempotency_key,
        action=action,
        params={**params, "reason": reason} if reason else params,
        query=_stored(query),
        reason=reason[:500],
        user=caller.user,
        key_id=caller.key,
        actor=caller.label[:150],
        via=caller.via,
        total=expected.total,
        bound=expected.bound,
    )
    try:
        with transaction.atomic():
            operation.save(force_insert=True)
            changed = " with other inputs" if params.get("inputs") else ""
            detail = f"{expected.total:,} runs{changed}; {reason}"[:500]
            _audit(operation, caller, f"bulk_{action}", detail)
            wakeup.hint()
    except IntegrityError:
        return _asked_before(idempotency_key, caller)
    return operation


def _stored(query: JsonObject) -> JsonObject:
    """The query as it is stored: it must mean the same runs later."""
    if "pk" in query or "failed_of" in query:
        return dict(query)
    return RunFilters.of_mapping(query).frozen()


def _asked_before(idempotency_key: uuid.UUID, caller: Caller) -> BulkOperation:
    operation = BulkOperation.objects.filter(
        idempotency_key=idempotency_key, user=caller.user, key=caller.key
    ).first()
    if operation is None:
        raise errors.Conflict("Another caller has used this key (`asked`). Make a new one.")
    return operation


def _check_export(params: JsonObject, total: int) -> None:
    """Raises Malformed for a file that can't be written."""
    refusal = orderings.refusal(export.view_of(params).ordering, total)
    if refusal:
        raise errors.Malformed(refusal)


def retry(operation: BulkOperation, caller: Caller) -> BulkOperation:
    """A new operation on the runs for which this one failed.

    Raises Conflict if the operation is not over, or if nothing failed.
    """
    if not operation.over:
        raise errors.Conflict("The operation is not over yet.", allowed=[])
    if not operation.failed:
        raise errors.Conflict("No run of this operation failed.", allowed=[])
    return ask(
        operation.action,
        {"failed_of": operation.pk},
        caller,
        {name: value for name, value in operation.params.items() if name != "reason"},
        operation.reason,
        # The second of two clicks gets the operation that the first one made.
        uuid.uuid5(operation.idempotency_key, "retry"),
    )


def stop(operation: BulkOperation, caller: Caller) -> None:
    """Stop an operation; runs that it has not reached stay as they are.

    Raises Conflict if it is over.
    """
    with transaction.atomic():
        unfinished = BulkOperation.objects.filter(pk=operation.pk, status__in=TO_DO)
        if not unfinished.update(stop_asked=True):
            raise errors.Conflict("The operation is over.", allowed=[])
        _audit(operation, caller, "bulk_stop", str(operation))
        wakeup.hint()


def _audit(operation: BulkOperation, caller: Caller, action: str, detail: str) -> None:
    caller = caller.with_door(caller.via, operation.pk)
    AuditEntry.objects.record_global(caller, action, detail)


def seen_by(caller: Caller) -> QuerySet[BulkOperation]:
    """The caller's own operations; all of them for an administrator of all namespaces."""
    operations = BulkOperation.objects.select_related("user")
    if caller.may("admin") and caller.namespaces is None:
        return operations
    if caller.user:
        return operations.filter(user=caller.user)
    return operations.filter(key=caller.key)
