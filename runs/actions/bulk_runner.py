"""Carrying out bulk operations, run by run, by whoever holds one at the moment: a worker of a cluster, the page that asked, or a command.

What is done to a run, its result and the cursor commit together under the holder's token, so a run is never touched twice, however often an operation is
taken over.
"""

import logging
import tempfile
import uuid
from collections.abc import Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

from django.core.files import File
from django.core.files.storage import default_storage
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from graphs.auth.callers import Caller, caller_of_command, caller_of_key, caller_of_user
from graphs.definition import errors
from graphs.models import ApiKey
from runs.actions import delete, export
from runs.actions.bulk import ACTIONS, TO_DO, Action, targets
from runs.core import sql
from runs.core.failpoints import failpoint
from runs.models import BulkOperation, BulkResult, Run

log = logging.getLogger(__name__)
INLINE = 100  # so many are done while the page waits
INLINE_SECONDS = 5.0
TURN_SECONDS = 2.0
LEASE = timedelta(seconds=30)
BATCH = 100
EXPORT_PIECE = 5000
FILES_STAY = timedelta(days=1)


class _Lost(Exception):
    """Another worker holds the operation now."""


def carry_on(seconds: float = TURN_SECONDS) -> bool:
    """Take up operations for so many seconds; whether some are left."""
    until = monotonic() + seconds
    while monotonic() < until:
        operation = _take(
            BulkOperation.objects.filter(
                Q(lease_expires_at=None) | Q(lease_expires_at__lt=Now()), status__in=TO_DO
            ).order_by("id")
        )
        if operation is None:
            return False
        work(operation, until)
    return True


def carry_out(operation: BulkOperation, seconds: float = INLINE_SECONDS) -> BulkOperation:
    """Work on this one while the caller waits, unless somebody does already."""
    if operation.total <= INLINE and (
        taken := _take(
            BulkOperation.objects.filter(pk=operation.pk, lease_expires_at=None, status__in=TO_DO)
        )
    ):
        work(taken, monotonic() + seconds)
    operation.refresh_from_db()
    return operation


def waiting() -> bool:
    """Whether an operation waits for somebody to take it up."""
    return BulkOperation.objects.filter(
        Q(lease_expires_at=None) | Q(lease_expires_at__lt=Now()), status__in=TO_DO
    ).exists()


def _take(operations: QuerySet[BulkOperation]) -> BulkOperation | None:
    for operation in operations[:5]:
        token = uuid.uuid4().hex
        mine = BulkOperation.objects.filter(
            pk=operation.pk, token=operation.token, status__in=TO_DO
        )
        if mine.update(
            status=BulkOperation.Status.RUNNING, token=token, lease_expires_at=sql.clock() + LEASE
        ):
            operation.refresh_from_db()
            return operation
    return None


def work(operation: BulkOperation, until: float) -> None:
    """Do batches until the time is over, the operation is, or somebody else took it."""
    try:
        caller, kind = caller_of(operation), ACTIONS[operation.action]
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
                failpoint("bulk-delete-between-batches")
            else:
                _each(operation, batch, caller, kind, until)
        BulkOperation.objects.filter(pk=operation.pk, token=operation.token).update(
            lease_expires_at=None
        )
    except _Lost:
        return
    except (OperationalError, InterfaceError):
        raise
    except (
        Exception
    ) as error:  # it would break again and again, and hold up the operations behind it
        log.exception("operation %s could not go on", operation.pk)
        _end(operation, f"{type(error).__name__}: {error}")


def _batch(operation: BulkOperation, caller: Caller) -> list[Run]:
    runs = targets(operation.query, caller).filter(pk__lte=operation.bound)
    if operation.cursor is not None:
        runs = runs.filter(pk__lt=operation.cursor)
    lean = operation.action == "delete"
    found = (
        runs.only("pk", "run_id", "name", "namespace_id")
        if lean
        else runs.select_related("namespace", "graph__current", "version")
    )
    return list(found.order_by("-pk")[:BATCH])


def _each(
    operation: BulkOperation, batch: Sequence[Run], caller: Caller, kind: Action, until: float
) -> None:
    for run in batch:
        if monotonic() >= until:
            return
        result = BulkResult(
            operation=operation, run=run.pk, run_id=run.run_id, name=run.name, done=True
        )
        with transaction.atomic():
            try:
                with transaction.atomic():
                    result.created_run_id = kind.call(run, caller, operation.params)
            except errors.StateManagerError as error:
                result.done, result.code, result.reason = (
                    False,
                    type(error).__name__.lower(),
                    str(error),
                )
            except (OperationalError, InterfaceError):
                raise
            except (
                Exception
            ) as error:  # one run that breaks must not stop the others, again and again
                log.exception("%s of run %s failed", operation.action, run.run_id)
                result.done, result.code, result.reason = (
                    False,
                    "error",
                    f"{type(error).__name__}: {error}",
                )
            _record(operation, [result], run.pk)


def _delete_batch(operation: BulkOperation, batch: Sequence[Run], caller: Caller) -> None:
    even_active = operation.params.get("active") == "delete"
    try:
        with transaction.atomic():
            kept = delete.delete_runs([run.pk for run in batch], caller, even_active)
            _record(operation, _results(operation, batch, kept), batch[-1].pk)
    except OperationalError as error:
        if not sql.is_lock_timeout(error):
            raise
        for run in batch:
            with transaction.atomic():
                kept = delete.try_one_by_one([run.pk], caller, even_active)
                _record(operation, _results(operation, [run], kept), run.pk)


def _results(
    operation: BulkOperation, batch: Sequence[Run], kept: Sequence[delete.Kept]
) -> list[BulkResult]:
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
    runs = targets(operation.query, caller).filter(
        *([allowed] if allowed else []), pk__lte=operation.bound
    )
    lines, _ = export.exported(runs, form)
    count = 0
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
    mine = BulkOperation.objects.filter(
        pk=operation.pk, token=operation.token, status=BulkOperation.Status.RUNNING
    )
    if not mine.update(lease_expires_at=sql.clock() + LEASE, **values):
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


def _end(operation: BulkOperation, error: str = "") -> None:
    status = (
        BulkOperation.Status.STOPPED if operation.stop_asked or error else BulkOperation.Status.DONE
    )
    mine = BulkOperation.objects.filter(
        pk=operation.pk, token=operation.token, status=BulkOperation.Status.RUNNING
    )
    mine.update(status=status, error=error, finished_at=timezone.now(), lease_expires_at=None)


def caller_of(operation: BulkOperation) -> Caller:
    """Who asked, with what they may do now. Who is gone may do nothing any more."""
    if operation.via == "command":
        caller = caller_of_command()
    elif operation.user:
        caller = caller_of_user(operation.user)
    elif (
        operation.key and ApiKey.objects.usable(timezone.now()).filter(pk=operation.key.pk).exists()
    ):
        caller = caller_of_key(operation.key)
    else:
        caller = Caller(operation.actor, frozenset(), frozenset(), rights=frozenset())
    return caller.with_door(operation.via, operation.pk)
