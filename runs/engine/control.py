"""Cancelling, pausing and resuming a run.

Each is one transaction under the lock of the run, so it never races a batch that is recorded.
"""

from django.db import transaction

from graphs.auth.callers import Caller
from graphs.definition import errors
from runs.core import sql, statuses
from runs.core.failpoints import failpoint
from runs.engine import counters, store, wakeup
from runs.engine.counters import RunCounters
from runs.models import AuditEntry, LogLine, Run


def cancel_run(run: Run, caller: Caller) -> Run:
    """Cancel the run and all of its unfinished states. Raises Conflict if it has ended."""
    message = f"Cancelled by {caller.label}"
    with transaction.atomic():
        run_counters = _locked(run, "cancel", caller)
        run_counters.status = statuses.RUN_CANCELLED
        run_counters.error_message = message
        failpoint("cancel-between-flag-and-states")
        store.cancel_unfinished(run_counters)
        _store(run, run_counters, "cancel", message, caller)
    failpoint("after-cancel-commit")
    return run


def pause_run(run: Run, caller: Caller) -> Run:
    """Let no more states of the run be claimed. What workers hold is still recorded.

    Raises Conflict unless the run is queued or running.
    """
    with transaction.atomic():
        run_counters = _locked(run, "pause", caller)
        run_counters.paused = True
        sql.send(
            "UPDATE statemanager_runs_state SET paused = true"
            " WHERE run_id = %s AND status = 'CREATED'",
            [run.pk],
        )
        _store(run, run_counters, "pause", f"Paused by {caller.label}", caller)
    return run


def resume_run(run: Run, caller: Caller) -> Run:
    """Let a run go on that a person paused.

    Raises Conflict for other runs: one that waits for an answer needs the answer.
    """
    with transaction.atomic():
        run_counters = _locked(run, "resume", caller)
        if not run_counters.paused:
            raise _not_paused_by_a_person(run)
        run_counters.paused = False
        sql.send(
            "UPDATE statemanager_runs_state SET paused = false"
            " WHERE run_id = %s AND status = 'CREATED'",
            [run.pk],
        )
        _store(run, run_counters, "resume", f"Resumed by {caller.label}", caller)
        wakeup.hint()
    return run


def _not_paused_by_a_person(run: Run) -> errors.Conflict:
    if run.version_id is None:
        return errors.Conflict(
            "Its program paused the run, and only the program can let it go on.",
            allowed=["cancel"],
        )
    return errors.Conflict(
        "The run waits for an answer. Answer its waiting state to let it go on.",
        allowed=["answer", "cancel"],
    )


def _locked(run: Run, action: str, caller: Caller) -> RunCounters:
    """The counters of the run. Raises Conflict if the run allows no such action now."""
    caller.require("cancel", run.namespace_id)
    plans = {run.pk: run.version.plan} if run.version else {}
    run_counters = counters.lock([run.pk], plans).get(run.pk)
    if run_counters is None:
        raise errors.NotFound(f"There is no run {run.run_id!r}.")
    allowed = statuses.RUN_ACTIONS[run_counters.status]
    if action not in allowed:
        raise errors.Conflict(
            f"You can't {action} a run that is {run_counters.status}.", allowed=list(allowed)
        )
    return run_counters


def _store(run: Run, run_counters: RunCounters, action: str, message: str, caller: Caller) -> None:
    AuditEntry.objects.record(caller, action, run)
    LogLine.objects.create(run=run, message=message)
    run_counters.log_count += 1
    run_counters.update_status()
    counters.store([run_counters])
    run.refresh_from_db()
