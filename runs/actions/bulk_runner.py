"""Running bulk operations, run by run.

The runner of an operation is a worker of a cluster, the page that asked for it, or a command. It
leases the operation under a token. What it does to a run, the result and the operation's cursor are
committed together, and only while the token is still valid. So no run is touched twice, however
often another runner takes the operation over.
"""

import logging
import tempfile
import uuid
from collections.abc import Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

from django.core.files import File
from django.db import OperationalError, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from graphs.auth.callers import Caller, caller_of_command, caller_of_key, caller_of_user
from graphs.definition import errors
from graphs.models import ApiKey
from runs.actions import delete, export
from runs.actions.bulk import ACTIONS, TO_DO, Call, targets
from runs.core import db_errors, sql
from runs.core.failpoints import failpoint
from runs.models import AuditEntry, BulkOperation, BulkResult, Run
from statemanager.file_storage import file_storage

log = logging.getLogger(__name__)
MAX_INLINE = 100  # runs of an operation that a page runs while the user waits
INLINE_SECONDS = 5.0
TURN_SECONDS = 2.0
LEASE = timedelta(seconds=30)
BATCH = 100
MAX_CANDIDATES = 5
LINES_PER_RENEWAL = 5000
EXPORT_AGE = timedelta(days=1)


class _LeaseLost(Exception):
    """Another runner has taken the operation over."""


# --- taking operations ----------------------------------------------------------------------------


def _available() -> QuerySet[BulkOperation]:
    """Unfinished operations that no runner has leased."""
    no_lease = Q(lease_expires_at=None) | Q(lease_expires_at__lt=Now())
    return BulkOperation.objects.filter(no_lease, status__in=TO_DO)


def waiting() -> bool:
    """Whether an operation waits for a runner."""
    return _available().exists()


def run_waiting(seconds: float = TURN_SECONDS) -> bool:
    """Run waiting operations, the oldest first. Returns whether some are left after this time."""
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        operation = _take(_available().order_by("id"))
        if operation is None:
            return False
        run_until(operation, deadline)
    return True


def run_inline(operation: BulkOperation, seconds: float = INLINE_SECONDS) -> BulkOperation:
    """Run a small operation while the caller waits, unless it has a runner already."""
    if operation.total <= MAX_INLINE:
        untouched = BulkOperation.objects.filter(
            pk=operation.pk, lease_expires_at=None, status__in=TO_DO
        )
        taken = _take(untouched)
        if taken is not None:
            run_until(taken, monotonic() + seconds)
    operation.refresh_from_db()
    return operation


def _take(operations: QuerySet[BulkOperation]) -> BulkOperation | None:
    """Lease the first of these operations that no other runner is faster to take."""
    for operation in operations[:MAX_CANDIDATES]:
        # The token is new with every lease, so of several runners one changes the row.
        unchanged = BulkOperation.objects.filter(
            pk=operation.pk, token=operation.token, status__in=TO_DO
        )
        if unchanged.update(
            status=BulkOperation.Status.RUNNING,
            token=uuid.uuid4().hex,
            lease_expires_at=sql.clock() + LEASE,
        ):
            operation.refresh_from_db()
            return operation
    return None


# --- running an operation -------------------------------------------------------------------------


def run_until(operation: BulkOperation, deadline: float) -> None:
    """Run a leased operation until the deadline (`monotonic`), its end, or the loss of the lease.

    An error of ours ends the operation: it would occur again and again, and hold up the operations
    behind it. Errors of the database that pass are raised.
    """
    try:
        _run_batches(operation, deadline)
    except _LeaseLost:
        return
    except Exception as error:
        if db_errors.passes(error):
            raise
        log.exception("operation %s could not continue", operation.pk)
        _end(operation, f"{type(error).__name__}: {error}")


def _run_batches(operation: BulkOperation, deadline: float) -> None:
    caller = caller_of(operation)
    while monotonic() < deadline:
        operation.refresh_from_db(fields=["stop_asked"])
        batch = [] if operation.stop_asked else _next_batch(operation, caller)
        if not batch:
            _end(operation)
            return
        if operation.action == "export":
            _export(operation, caller)
        elif operation.action == "delete":
            _delete_batch(operation, batch, caller)
            failpoint("bulk-delete-between-batches")
        else:
            _run_batch(operation, batch, caller, deadline)
    _leased(operation).update(lease_expires_at=None)


def _next_batch(operation: BulkOperation, caller: Caller) -> list[Run]:
    runs = targets(operation.query, caller).filter(pk__lte=operation.bound)
    if operation.cursor is not None:
        runs = runs.filter(pk__lt=operation.cursor)
    if operation.action == "delete":
        runs = runs.only("pk", "run_id", "name", "namespace_id")
    else:
        runs = runs.select_related("namespace", "graph__current", "version")
    return list(runs.order_by("-pk")[:BATCH])


def _run_batch(
    operation: BulkOperation, batch: Sequence[Run], caller: Caller, deadline: float
) -> None:
    """Do the action to each run in its own transaction, until the deadline."""
    for run in batch:
        if monotonic() >= deadline:
            return
        action = ACTIONS[operation.action]
        with action.prepared(run, caller, operation.params) as call, transaction.atomic():
            result = _result_of_action(operation, run, caller, call)
            _record(operation, [result], run.pk)


def _result_of_action(operation: BulkOperation, run: Run, caller: Caller, call: Call) -> BulkResult:
    """Do the action to a run. A run for which it fails must not stop the operation."""
    try:
        with transaction.atomic():
            created = call(run, caller, operation.params)
    except errors.StateManagerError as error:
        return _result(operation, run, type(error).__name__.lower(), str(error))
    except Exception as error:
        if db_errors.passes(error):
            raise
        log.exception("%s of run %s failed", operation.action, run.run_id)
        return _result(operation, run, "error", f"{type(error).__name__}: {error}")
    result = _result(operation, run)
    result.created_run_id = created
    return result


def _delete_batch(operation: BulkOperation, batch: Sequence[Run], caller: Caller) -> None:
    """Delete a batch in one transaction; if one of its runs is locked, each in its own."""
    even_active = operation.params.get("active") == "delete"
    try:
        with transaction.atomic():
            kept = delete.delete_runs([run.pk for run in batch], caller, even_active)
            _record(operation, _results_of_deletion(operation, batch, kept), batch[-1].pk)
    except OperationalError as error:
        if not db_errors.is_lock_timeout(error):
            raise
        for run in batch:
            with transaction.atomic():
                kept = delete.try_one_by_one([run.pk], caller, even_active)
                _record(operation, _results_of_deletion(operation, [run], kept), run.pk)


def _results_of_deletion(
    operation: BulkOperation, batch: Sequence[Run], kept: Sequence[delete.KeptRun]
) -> list[BulkResult]:
    """The results of a batch. A run that was gone already counts as done."""
    kept_by_pk = {run.run_pk: run for run in kept if run.code != "gone"}
    results = []
    for run in batch:
        if run.pk in kept_by_pk:
            reason = kept_by_pk[run.pk]
            results.append(_result(operation, run, reason.code, reason.reason))
        else:
            run.name = ""  # nothing of a deleted run stays but its id
            results.append(_result(operation, run))
    return results


def _result(operation: BulkOperation, run: Run, code: str = "", reason: str = "") -> BulkResult:
    """A result: done without a code, failed with one."""
    return BulkResult(
        operation=operation,
        run=run.pk,
        run_id=run.run_id,
        name=run.name,
        done=not code,
        code=code,
        reason=reason,
    )


# --- exports --------------------------------------------------------------------------------------


def _export(operation: BulkOperation, caller: Caller) -> None:
    """Write the file in one go. A runner that takes the operation over starts a new file."""
    format_name = operation.params.get("format", export.DEFAULT_FORMAT)
    runs = targets(operation.query, caller).filter(pk__lte=operation.bound)
    view = export.view_of(operation.params)
    lines, _ = export.exported(export.exportable(runs, caller), format_name, caller, view)

    with tempfile.NamedTemporaryFile("w+", encoding="utf-8", newline="") as file:
        line_count = 0
        for line_count, line in enumerate(lines, start=1):
            file.write(line)
            if line_count % LINES_PER_RENEWAL == 0:
                _update(operation, done=line_count)
        file.flush()
        with open(file.name, "rb") as written:
            name = f"operations/{operation.pk}/runs.{format_name}"
            name = file_storage.save(name, File(written))
    run_count = line_count - export.FORMATS[format_name].other_lines
    _update(operation, done=run_count, file=name, cursor=0)


def exported_file(operation: BulkOperation, caller: Caller) -> File:
    """The file that an export wrote. Raises NotFound if there is none, or none any more."""
    if not operation.file or not file_storage.exists(operation.file):
        raise errors.NotFound("The file does not exist. Exports are deleted after a day.")
    caller = caller.with_door(caller.via, operation.pk)
    AuditEntry.objects.record_global(caller, "download", f"the file of {operation}")
    return file_storage.open(operation.file, "rb")


def forget_files() -> int:
    """Remove exported files that are older than a day. Returns their number."""
    limit = sql.clock() - EXPORT_AGE
    old = BulkOperation.objects.exclude(file="").filter(finished_at__lt=limit)
    for operation in old:
        file_storage.delete(operation.file)
        BulkOperation.objects.filter(pk=operation.pk).update(file="")
    return len(old)


# --- the operation's row --------------------------------------------------------------------------


def _leased(operation: BulkOperation) -> QuerySet[BulkOperation]:
    """The operation's row, if this runner still has its lease."""
    return BulkOperation.objects.filter(
        pk=operation.pk, token=operation.token, status=BulkOperation.Status.RUNNING
    )


def _update(operation: BulkOperation, **values: Any) -> None:
    """Renew the lease and set these columns. Raises _LeaseLost if another runner has it."""
    if not _leased(operation).update(lease_expires_at=sql.clock() + LEASE, **values):
        raise _LeaseLost
    operation.cursor = values.get("cursor", operation.cursor)


def _record(operation: BulkOperation, results: Sequence[BulkResult], cursor: int) -> None:
    """Store the results, and move the cursor below the runs that they are about."""
    done = sum(result.done for result in results)
    failed = len(results) - done
    _update(operation, cursor=cursor, done=F("done") + done, failed=F("failed") + failed)
    BulkResult.objects.bulk_create(results)


def _end(operation: BulkOperation, error: str = "") -> None:
    stopped = operation.stop_asked or error
    _leased(operation).update(
        status=BulkOperation.Status.STOPPED if stopped else BulkOperation.Status.DONE,
        error=error,
        finished_at=sql.clock(),
        lease_expires_at=None,
    )


def caller_of(operation: BulkOperation) -> Caller:
    """The caller who asked for the operation, with the rights that it has now.

    A caller whose user or API key is gone has no rights.
    """
    if operation.via == "command":
        caller = caller_of_command()
    elif operation.user:
        caller = caller_of_user(operation.user)
    elif operation.key and _is_usable(operation.key):
        caller = caller_of_key(operation.key)
    else:
        caller = Caller(operation.actor, frozenset(), frozenset(), rights=frozenset())
    return caller.with_door(operation.via, operation.pk)


def _is_usable(key: ApiKey) -> bool:
    return ApiKey.objects.usable().filter(pk=key.pk).exists()
