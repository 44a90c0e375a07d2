"""Doing one thing to many runs: an operation is stored with its query, and carried out run by run, so that it survives whoever carries it.

What is done to a run, its result and the cursor commit together, under the token of the worker that holds the operation: a run is never touched twice,
however often an operation is taken over. Runs that match only after the operation was asked for are left alone (`bound`).
"""

import logging
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any

from django.core.files import File
from django.core.files.storage import default_storage
from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import Count, F, Max, Q, QuerySet, Sum
from django.http import QueryDict
from django.utils import timezone

from graphs import errors
from graphs.access import SAID, Caller, caller_of_command, caller_of_key, caller_of_user
from graphs.models import ApiKey
from runs import auditing, deleting, exporting, filters, marking, queueing, reopening, sql, statuses, stopping
from runs.models import Artifact, BulkOperation, BulkResult, Checkpoint, CheckpointWrite, Run
from runs.rerunning import Again, rerun

log = logging.getLogger(__name__)
INLINE = 100  # so many are done while the page waits
INLINE_SECONDS = 5.0
SLICE_SECONDS = 2.0
LEASE = timedelta(seconds=30)
BATCH = 100
EXPORT_PIECE = 5000
FILES_STAY = timedelta(days=1)
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
    return rerun(run, caller, Again(newest=params.get("version") == "newest", failed=params.get("from") == "failed")).run_id


def _label(run: Run, caller: Caller, params: Mapping[str, Any]) -> str:
    marking.label_run(run, caller, params.get("add") or {}, params.get("remove") or ())
    return ""


def _set_status(run: Run, caller: Caller, params: Mapping[str, Any]) -> str:
    marking.set_status(run, caller, str(params.get("status")), str(params.get("reason")))
    return ""


def _delete(run: Run, caller: Caller, params: Mapping[str, Any]) -> str:
    deleting.delete_run(run, caller)
    return ""


_FAILED = (statuses.PARTIAL, statuses.FAILED, statuses.RUN_CANCELLED)
ACTIONS: Mapping[str, Action] = {
    "delete": Action("delete", "deleted", statuses.ENDED_RUNS, _delete),
    "archive": Action("change", "archived", statuses.ENDED_RUNS, _quietly(marking.archive_run)),
    "unarchive": Action("change", "brought back", statuses.ENDED_RUNS, _quietly(marking.unarchive_run)),
    "rerun": Action("rerun", "run again", statuses.RUN_STATUSES, _rerun),
    "retry": Action("cancel", "retried", _FAILED, _quietly(reopening.retry_failed)),
    "cancel": Action("cancel", "cancelled", statuses.ACTIVE_RUNS, _quietly(stopping.cancel_run)),
    "pause": Action("cancel", "paused", (statuses.RUN_QUEUED, statuses.RUNNING), _quietly(stopping.pause_run)),
    "resume": Action("cancel", "resumed", (statuses.PAUSED,), _quietly(stopping.resume_run)),
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
        return visible.filter(pk__in=BulkResult.objects.filter(operation=query["failed_of"], done=False).values("run"))
    asked = QueryDict(mutable=True)
    for name, values in query.items():
        asked.setlist(name, values if isinstance(values, list) else [str(values)])
    return filters.found(asked, visible)


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
        raise errors.Forbidden(f"{caller.label} may not {SAID[kind.right]}.")
    runs = targets(query, caller).order_by()
    counts = dict(runs.values_list("status").annotate(Count("pk")))
    unfit = sum(count for status, count in counts.items() if status not in kind.statuses)
    bound = runs.aggregate(most=Max("pk"))["most"] or 0
    return Preview(sum(counts.values()), counts, unfit, bound, _traces(runs) if action == "delete" else {})


def _traces(runs: QuerySet[Run]) -> dict[str, int]:
    every = F("pending_count") + F("success_count") + F("errored_count") + F("retried_count") + F("cancelled_count")
    kept = runs.aggregate(states=Sum(every), lines=Sum("log_count"))
    files = Artifact.objects.filter(run__in=runs.values("pk")).aggregate(count=Count("pk"), size=Sum("size"))
    found = {"states": kept["states"], "log lines": kept["lines"], "files": files["count"], "bytes": files["size"]}
    found |= {name: model.objects.filter(run__in=runs.values("pk")).count() for name, model in _CHECKPOINTS.items()}  # type: ignore[attr-defined]
    return {name: number or 0 for name, number in found.items()}


_CHECKPOINTS = {"checkpoints": Checkpoint, "checkpoint writes": CheckpointWrite}


def ask(
    action: str,
    query: Mapping[str, Any],
    caller: Caller,
    params: Mapping[str, Any] | None = None,
    reason: str = "",
    asked: uuid.UUID | None = None,
) -> BulkOperation:
    """Store an operation, to be carried out in the background. The same `asked` again gives the first one. Raises what `preview` raises."""
    _check(action, params or {}, reason)
    if not {"pk", "failed_of"} & query.keys():
        query = filters.frozen(query)
    seen = preview(action, query, caller)
    values = {
        "action": action, "params": {**(params or {}), **({"reason": reason} if reason else {})}, "query": dict(query), "reason": reason[:500],
        "user": caller.user, "key_id": caller.key, "actor": caller.label[:150], "via": caller.via, "total": seen.total, "bound": seen.bound,
    }  # fmt: skip
    asked = asked or uuid.uuid4()
    try:
        with transaction.atomic():
            operation = BulkOperation.objects.create(asked=asked, **values)
            auditing.note_other(caller.through(caller.via, operation.pk), f"bulk_{action}", f"{seen.total:,} runs; {reason}"[:500])
            queueing.hint()
    except IntegrityError:
        return BulkOperation.objects.get(asked=asked)
    return operation


def _check(action: str, params: Mapping[str, Any], reason: str) -> None:
    if action not in ACTIONS:
        raise errors.Malformed(f"The action is one of {', '.join(ACTIONS)}.")
    if action == "set_status" and (params.get("status") not in statuses.ENDED_RUNS or not reason.strip()):
        raise errors.Malformed(f"Setting a status needs one of {', '.join(statuses.ENDED_RUNS)} and a reason.")
    if action == "label" and not (params.get("add") or params.get("remove")):
        raise errors.Malformed("Say which labels to add or to remove.")


def retry(operation: BulkOperation, caller: Caller) -> BulkOperation:
    """A new operation on what this one could not do. Raises Conflict while it goes on, or when nothing failed."""
    if not operation.over or not operation.failed:
        raise errors.Conflict("The operation is not over yet." if not operation.over else "Nothing of it failed.", allowed=[])
    return ask(operation.action, {"failed_of": operation.pk}, caller, operation.params, operation.reason)


def stop(operation: BulkOperation, caller: Caller) -> None:
    """Leave the runs alone that it has not reached yet. Raises Conflict when it is over."""
    if not BulkOperation.objects.filter(pk=operation.pk, status__in=TO_DO).update(stop_asked=True):
        raise errors.Conflict("The operation is over.", allowed=[])
    auditing.note_other(caller.through(caller.via, operation.pk), "bulk_stop", str(operation))
    queueing.hint()


def seen_by(caller: Caller) -> QuerySet[BulkOperation]:
    """A caller's own operations; those of everybody for who may do everything in all namespaces."""
    every = BulkOperation.objects.select_related("user")
    if caller.may("admin") and caller.namespaces is None:
        return every
    return every.filter(user=caller.user) if caller.user else every.filter(key=caller.key)


# --- carrying it out ------------------------------------------------------------------------------------------------------


class _Lost(Exception):
    """Another worker holds the operation now."""


def carry_on(seconds: float = SLICE_SECONDS) -> bool:
    """Take up operations for so many seconds; whether some are left."""
    until = monotonic() + seconds
    while monotonic() < until:
        operation = _take(BulkOperation.objects.filter(Q(lease_expires_at=None) | Q(lease_expires_at__lt=timezone.now()), status__in=TO_DO).order_by("id"))
        if operation is None:
            return False
        work(operation, until)
    return True


def carry_out(operation: BulkOperation, seconds: float = INLINE_SECONDS) -> BulkOperation:
    """Work on this one while the caller waits, unless somebody does already."""
    if operation.total <= INLINE and (taken := _take(BulkOperation.objects.filter(pk=operation.pk, lease_expires_at=None, status__in=TO_DO))):
        work(taken, monotonic() + seconds)
    operation.refresh_from_db()
    return operation


def waiting() -> bool:
    """Whether an operation waits for somebody to take it up."""
    return BulkOperation.objects.filter(Q(lease_expires_at=None) | Q(lease_expires_at__lt=timezone.now()), status__in=TO_DO).exists()


def _take(operations: QuerySet[BulkOperation]) -> BulkOperation | None:
    for operation in operations[:5]:
        token = uuid.uuid4().hex
        mine = BulkOperation.objects.filter(pk=operation.pk, token=operation.token, status__in=TO_DO)
        if mine.update(status=BulkOperation.Status.RUNNING, token=token, lease_expires_at=timezone.now() + LEASE):
            operation.refresh_from_db()
            return operation
    return None


def work(operation: BulkOperation, until: float) -> None:
    """Do batches until the time is over, the operation is, or somebody else took it."""
    caller, kind = caller_of(operation), ACTIONS[operation.action]
    try:
        while monotonic() < until:
            operation.refresh_from_db(fields=["stop_asked"])
            batch = [] if operation.stop_asked else _batch(operation, caller)
            if not batch:
                _end(operation)
                return
            if operation.action == "export":
                _export(operation, caller)
            elif operation.action == "delete":
                _delete_batch(operation, batch, caller)
            else:
                _each(operation, batch, caller, kind, until)
        BulkOperation.objects.filter(pk=operation.pk, token=operation.token).update(lease_expires_at=None)
    except _Lost:
        return


def _batch(operation: BulkOperation, caller: Caller) -> list[Run]:
    runs = targets(operation.query, caller).filter(pk__lte=operation.bound)
    if operation.cursor is not None:
        runs = runs.filter(pk__lt=operation.cursor)
    lean = operation.action == "delete"
    found = runs.only("pk", "run_id", "name", "namespace_id") if lean else runs.select_related("namespace", "graph__current", "version")
    return list(found.order_by("-pk")[:BATCH])


def _each(operation: BulkOperation, batch: Sequence[Run], caller: Caller, kind: Action, until: float) -> None:
    for run in batch:
        if monotonic() >= until:
            return
        result = BulkResult(operation=operation, run=run.pk, run_id=run.run_id, name=run.name, done=True)
        with transaction.atomic():
            try:
                with transaction.atomic():
                    result.made = kind.call(run, caller, operation.params)
            except errors.StateManagerError as error:
                result.done, result.code, result.reason = False, type(error).__name__.lower(), str(error)
            except (OperationalError, InterfaceError):
                raise
            except Exception as error:  # one run that breaks must not stop the others, again and again
                log.exception("%s of run %s failed", operation.action, run.run_id)
                result.done, result.code, result.reason = False, "error", f"{type(error).__name__}: {error}"
            _record(operation, [result], run.pk)


def _delete_batch(operation: BulkOperation, batch: Sequence[Run], caller: Caller) -> None:
    even_active = operation.params.get("active") == "delete"
    try:
        with transaction.atomic():
            kept = deleting.delete_runs([run.pk for run in batch], caller, even_active)
            _record(operation, _results(operation, batch, kept), batch[-1].pk)
    except OperationalError as error:
        if not sql.is_lock_timeout(error):
            raise
        for run in batch:
            with transaction.atomic():
                kept = deleting.try_one_by_one([run.pk], caller, even_active)
                _record(operation, _results(operation, [run], kept), run.pk)


def _results(operation: BulkOperation, batch: Sequence[Run], kept: Sequence[deleting.Kept]) -> list[BulkResult]:
    """What is gone already counts as done."""
    why = {each.pk: each for each in kept if each.code != "gone"}
    return [
        BulkResult(
            operation=operation, run=run.pk, run_id=run.run_id, name=run.name, done=run.pk not in why,
            code=why[run.pk].code if run.pk in why else "", reason=why[run.pk].reason if run.pk in why else "",
        )
        for run in batch
    ]  # fmt: skip


def _export(operation: BulkOperation, caller: Caller) -> None:
    """Write the file in one go; whoever takes over begins anew. A line is a row, and JSON Lines have no heading."""
    form = "jsonl" if operation.params.get("format") == "jsonl" else "csv"
    allowed = caller.where("export")
    runs = targets(operation.query, caller).filter(*([allowed] if allowed else []), pk__lte=operation.bound)
    lines, _ = exporting.exported(runs, form)
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8", newline="") as file:
        for count, line in enumerate(lines, start=int(form == "jsonl")):
            file.write(line)
            if count % EXPORT_PIECE == 0:
                _hold(operation, done=count)
        file.flush()
        with open(file.name, "rb") as written:
            name = default_storage.save(f"operations/{operation.pk}/runs.{form}", File(written))
    _hold(operation, done=count, file=name, cursor=0)


def _hold(operation: BulkOperation, **values: Any) -> None:
    """Renew the lease and note these values. Raises _Lost when somebody else holds the operation."""
    mine = BulkOperation.objects.filter(pk=operation.pk, token=operation.token, status=BulkOperation.Status.RUNNING)
    if not mine.update(lease_expires_at=timezone.now() + LEASE, **values):
        raise _Lost
    operation.cursor = values.get("cursor", operation.cursor)


def forget_files() -> int:
    """Remove exported files after a day; how many."""
    old = BulkOperation.objects.exclude(file="").filter(finished_at__lt=timezone.now() - FILES_STAY)
    for operation in old:
        default_storage.delete(operation.file)
        BulkOperation.objects.filter(pk=operation.pk).update(file="")
    return len(old)


def _record(operation: BulkOperation, results: Sequence[BulkResult], cursor: int) -> None:
    done = sum(result.done for result in results)
    _hold(operation, cursor=cursor, done=F("done") + done, failed=F("failed") + len(results) - done)
    BulkResult.objects.bulk_create(results)


def _end(operation: BulkOperation) -> None:
    status = BulkOperation.Status.STOPPED if operation.stop_asked else BulkOperation.Status.DONE
    mine = BulkOperation.objects.filter(pk=operation.pk, token=operation.token, status=BulkOperation.Status.RUNNING)
    mine.update(status=status, finished_at=timezone.now(), lease_expires_at=None)


def caller_of(operation: BulkOperation) -> Caller:
    """Who asked, with what they may do now. Who is gone may do nothing any more."""
    if operation.via == "command":
        caller = caller_of_command()
    elif operation.user:
        caller = caller_of_user(operation.user)
    elif operation.key and ApiKey.objects.usable(timezone.now()).filter(pk=operation.key.pk).exists():
        caller = caller_of_key(operation.key)
    else:
        caller = Caller(operation.actor, frozenset(), frozenset(), rights=frozenset())
    return caller.through(operation.via, operation.pk)
