"""Cancel, pause and resume: each one transaction under the run's lock, so it never races a slice."""

from django.db import transaction

from graphs.auth.callers import Caller
from graphs.definition import errors
from runs.core import sql, statuses
from runs.core.failpoints import failpoint
from runs.engine import counters, store, wakeup
from runs.engine.counters import RunCounters
from runs.models import AuditEntry, LogLine, Run


def cancel_run(run: Run, caller: Caller) -> Run:
    """Move the run and all its unfinished states at once. Raises Conflict when it has ended."""
    with transaction.atomic():
        run_counters = _locked(run, "cancel", caller)
        run_counters.status, run_counters.error_message = (
            statuses.RUN_CANCELLED,
            f"Cancelled by {caller.label}",
        )
        failpoint("cancel-between-flag-and-states")
        store.cancel_unstarted({run.pk: run_counters}, "'CREATED', 'QUEUED'", every=True)
        _close(run, run_counters, "cancel", f"Cancelled by {caller.label}", caller)
    failpoint("after-cancel-commit")
    return run


def pause_run(run: Run, caller: Caller) -> Run:
    """Nothing more of it is claimed; what is in hand is recorded. Raises Conflict unless queued or running."""
    with transaction.atomic():
        run_counters = _locked(run, "pause", caller)
        run_counters.paused = True
        sql.send(
            "UPDATE statemanager_runs_state SET paused = true WHERE run_id = %s AND status = 'CREATED'",
            [run.pk],
        )
        _close(run, run_counters, "pause", f"Paused by {caller.label}", caller)
    return run


def resume_run(run: Run, caller: Caller) -> Run:
    """Let a paused run go on. Raises Conflict unless a person paused it; one that waits for an answer needs the answer."""
    with transaction.atomic():
        run_counters = _locked(run, "resume", caller)
        if not run_counters.paused and run.version_id is None:
            raise errors.Conflict(
                "Its program paused the run; the program lets it go on.", allowed=["cancel"]
            )
        if not run_counters.paused:
            raise errors.Conflict(
                "The run waits for an answer; answering its waiting state lets it go on.",
                allowed=["answer", "cancel"],
            )
        run_counters.paused = False
        sql.send(
            "UPDATE statemanager_runs_state SET paused = false WHERE run_id = %s AND status = 'CREATED'",
            [run.pk],
        )
        _close(run, run_counters, "resume", f"Resumed by {caller.label}", caller)
        wakeup.hint()
    return run


def _locked(run: Run, action: str, caller: Caller) -> RunCounters:
    caller.require("cancel", run.namespace_id)
    plans = {run.pk: run.version.plan} if run.version else {}
    run_counters = counters.lock([run.pk], plans).get(run.pk)
    if run_counters is None:
        raise errors.NotFound(f"There is no run {run.run_id!r}.")
    if action not in (allowed := statuses.RUN_ACTIONS[run_counters.status]):
        raise errors.Conflict(
            f"A run that is {run_counters.status} can't be asked to {action}.",
            allowed=list(allowed),
        )
    return run_counters


def _close(run: Run, run_counters: RunCounters, action: str, message: str, caller: Caller) -> None:
    AuditEntry.objects.record(caller, action, run)
    LogLine.objects.create(run=run, message=message)
    run_counters.log_count += 1
    run_counters.close()
    counters.store([run_counters])
    run.refresh_from_db()
