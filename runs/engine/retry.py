"""Retrying by hand: one state, or everything in a run that failed or was cancelled.

This is the only way in which a run that has ended goes on. In one transaction, under the lock of
the run:

1. The states become RETRY_CREATED, and each gets a retry.
2. The counts of their failures move back, and the run is running again.
3. Joins run that the end of the run kept from running.
"""

import sys
from collections.abc import Sequence

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from graphs.auth.callers import Caller
from graphs.definition import errors, payloads, uuids
from runs.core import statuses
from runs.core.node_counts import BAD
from runs.engine import concurrency, counters, deadlines, join, store, wakeup
from runs.engine.advance import CannotFollow, new_state
from runs.engine.claimed_states import FactsCache, states_by_id
from runs.engine.counters import RunCounters
from runs.engine.join_inspection import Candidate
from runs.engine.recorded_outputs import RecordedOutputs, places_of
from runs.engine.types import Claimed, NewState
from runs.models import AuditEntry, LogLine, Run, State


def retry_state(state: State, fanout_id: str, caller: Caller) -> NewState:
    """Retry a state that failed or was cancelled, and return its retry.

    Raises Conflict for other states, and if the fanout id was used for this node before.
    """
    if state.status not in statuses.RETRYABLE:
        raise errors.Conflict(
            f"A state that is {state.status} can't be retried.", allowed=list(statuses.RETRYABLE)
        )
    same_id = State.objects.filter(
        run=state.run_id, identifier=state.identifier, fanout_id=fanout_id
    )
    if same_id.exists():
        raise errors.Conflict(
            f"The fanout id {fanout_id!r} was used for {state.identifier!r} in this run already."
        )
    try:
        with transaction.atomic():
            [retry] = _retry_states(
                state.run, State.objects.filter(pk=state.pk), state.identifier, caller
            )
            State.objects.filter(pk=retry.id).update(fanout_id=fanout_id)
            return retry
    except IntegrityError:
        raise errors.Conflict(
            f"The fanout id {fanout_id!r} was just used for {state.identifier!r}."
        ) from None


def retry_failed(run: Run, caller: Caller) -> list[NewState]:
    """Retry every state of the run that failed or was cancelled, and return the retries.

    Raises Conflict if there is none.
    """
    with transaction.atomic():
        return _retry_states(run, State.objects.filter(run=run), "what failed", caller)


def _retry_states(
    run: Run, candidates: QuerySet[State], label: str, caller: Caller
) -> list[NewState]:
    """Retry the candidates that failed or were cancelled. `label` names them in the log."""
    caller.require("cancel", run.namespace_id)
    run_counters = _locked(run)
    retryable = candidates.filter(status__in=statuses.RETRYABLE)
    failed = State.objects.filter(pk__in=retryable.values("pk"))
    states = list(failed.order_by("pk"))
    if not states:
        raise errors.Conflict(
            f"The run is {run_counters.status} and has no failed states here.",
            allowed=list(statuses.RUN_ACTIONS[run_counters.status]),
        )
    facts = FactsCache()
    retries = _retries_of(states, facts)

    failed.move(statuses.RETRY_CREATED)
    Run.objects.filter(pk=run.pk, archived_at__isnull=False).update(archived_at=None)
    _move_back(run_counters, states)
    refusal = run_counters.refusal(sum(retry.size for retry in retries))
    if refusal:
        raise errors.TooLarge(f"Nothing was retried: {refusal}.")
    for retry in retries:
        run_counters.appear(retry.identifier, retry=True)
        run_counters.stored_bytes += retry.size
    joins = missed_joins(run, retries, facts, run_counters)
    store.insert_states_now([*retries, *joins], run_counters.paused)

    message = f"{len(retries):,} states: {label} is retried by {caller.label}"
    LogLine.objects.create(run=run, message=message[:2000])
    AuditEntry.objects.record(caller, "retry", run, f"{label}: {len(retries):,} states")
    run_counters.log_count += 1
    run_counters.update_status()
    counters.store([run_counters])
    deadlines.restart(run)
    concurrency.take_again(run)
    wakeup.hint()
    return retries


def _locked(run: Run) -> RunCounters:
    if run.version is None:
        raise errors.Conflict("An outside program drives the run; it can't be retried here.")
    run_counters = counters.lock([run.pk], {run.pk: run.version.plan}).get(run.pk)
    if run_counters is None:
        raise errors.NotFound(f"There is no run {run.run_id!r}.")
    return run_counters


def _move_back(run_counters: RunCounters, states: Sequence[State]) -> None:
    """Count the states as retried, no longer as failed or cancelled."""
    for state in states:
        if state.status == statuses.CANCELLED:
            run_counters.cancelled_count -= 1
        else:
            run_counters.errored_count -= 1
            run_counters.count(state.identifier, BAD, -1)
        run_counters.retried_count += 1
    run_counters.paused = run_counters.paused and run_counters.open
    run_counters.status = statuses.RUNNING
    run_counters.stopping = False
    if not run_counters.errored_count:
        run_counters.error_message = ""


# --- the new states ------------------------------------------------------------------------------


def _retries_of(states: Sequence[State], facts: FactsCache) -> list[NewState]:
    stored_states = states_by_id([state.pk.hex for state in states], facts)
    claimed_by_id = {claimed.id: claimed for claimed in stored_states}
    return [_retry_of(claimed_by_id[state.pk.hex], state) for state in states]


def _retry_of(claimed: Claimed, state: State) -> NewState:
    retry = NewState(
        uuids.uuid7(),
        claimed.run,
        claimed.identifier,
        claimed.path,
        claimed.parent,
        claimed.inputs,
        payloads.dump(claimed.inputs, limit=sys.maxsize),  # they were stored before
    )
    if state.joined and state.status == statuses.NEXT_CREATED_ERROR and not state.attempt:
        render_again(retry)
    return retry


def render_again(retry: NewState) -> None:
    """Render the inputs of a join whose inputs could not be made the first time."""
    run, identifier, path = retry.run, retry.identifier, retry.path
    recorded = RecordedOutputs(places_of(run, identifier, path))
    try:
        rendered = new_state(run, identifier, path, retry.parent, recorded)
    except CannotFollow as error:
        raise errors.Conflict(f"The join can't run yet: {error}.") from None
    retry.inputs = rendered.inputs
    retry.inputs_json = rendered.inputs_json


def missed_joins(
    run: Run, retries: Sequence[NewState], facts: FactsCache, run_counters: RunCounters
) -> list[NewState]:
    """The joins that the end of the run kept from running, although nothing holds them up.

    They are counted; the caller stores them.
    """
    runs = facts.get({run.pk: None})
    ended = State.objects.filter(
        run=run, watched=True, status__in=(statuses.SUCCESS, statuses.PRUNED)
    )
    candidates: set[Candidate] = set()
    for identifier, path in ended.values_list("identifier", "path"):
        candidates.update(join.candidates_after(runs[run.pk], identifier, path))
    return join.fire(candidates, runs, {run.pk: run_counters}, retries)
