"""Trying again what failed for good: one state, or all of a run. The only way in which a run that has ended goes on.

Under the run's lock the states become RETRY_CREATED with a new retry each, the counts move back, and joins fire that the end kept from firing.
"""

from collections.abc import Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from graphs.auth.callers import Caller
from graphs.definition import errors, payloads, uuids
from graphs.definition.references import Unresolved
from runs.core import sql, statuses
from runs.core.node_counts import BAD
from runs.engine import advance, claim, counters, join, store, wakeup
from runs.engine.advance import Recorded
from runs.engine.counters import RunCounters
from runs.engine.types import Claimed, NewState
from runs.models import AuditEntry, LogLine, Run, State


def retry_state(state: State, fanout_id: str, caller: Caller) -> NewState:
    """A new retry of a state that failed for good or was cancelled. Raises Conflict for others, and when the fanout id was used before."""
    if state.status not in statuses.RETRYABLE:
        raise errors.Conflict(
            f"A state that is {state.status} can't be retried.", allowed=list(statuses.RETRYABLE)
        )
    if State.objects.filter(
        run=state.run_id, identifier=state.identifier, fanout_id=fanout_id
    ).exists():
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
            f"The fanout id {fanout_id!r} was used for {state.identifier!r} at this moment."
        ) from None


def retry_failed(run: Run, caller: Caller) -> list[NewState]:
    """Retry every state that failed for good or was cancelled; the run goes on. Raises Conflict when there is none."""
    with transaction.atomic():
        return _retry_states(run, State.objects.filter(run=run), "what failed", caller)


def _retry_states(run: Run, asked: QuerySet[State], what: str, caller: Caller) -> list[NewState]:
    caller.require("cancel", run.namespace_id)
    if run.version is None:
        raise errors.Conflict("The run was not made by this system; it can't be continued here.")
    run_counters = counters.lock([run.pk], {run.pk: run.version.plan}).get(run.pk)
    if run_counters is None:
        raise errors.NotFound(f"There is no run {run.run_id!r}.")
    failed = State.objects.filter(pk__in=asked.filter(status__in=statuses.RETRYABLE).values("pk"))
    states = list(failed.order_by("pk"))
    if not states:
        raise errors.Conflict(
            f"The run is {run_counters.status} and has no failed states here.",
            allowed=list(statuses.RUN_ACTIONS[run_counters.status]),
        )
    facts = claim.FactsCache()
    leased = {
        each.id: each
        for each in claim.leased_states(
            sql.among("s.id", "uuid"), [sql.choices([state.pk.hex for state in states])], facts
        )
    }
    retries = [_retry_of(leased[state.pk.hex], state) for state in states]
    failed.move(statuses.RETRY_CREATED)
    Run.objects.filter(pk=run.pk, archived_at__isnull=False).update(archived_at=None)
    _move_back(run_counters, states)
    for retry in retries:
        run_counters.appear(retry.identifier, retry=True)
    new = [*retries, *missed_joins(run, retries, facts, run_counters)]
    statements = sql.Statements()
    store.insert([store.new_row(state, run_counters.paused) for state in new], statements)
    statements.flush()
    LogLine.objects.create(
        run=run, message=f"{len(retries):,} states: {what} is retried by {caller.label}"[:2000]
    )
    AuditEntry.objects.record(caller, "retry", run, f"{what}: {len(retries):,} states")
    run_counters.log_count += 1
    run_counters.close()
    counters.store([run_counters])
    wakeup.hint()
    return retries


def _move_back(run_counters: RunCounters, states: Sequence[State]) -> None:
    for state in states:
        if state.status == statuses.CANCELLED:
            run_counters.cancelled_count -= 1
        else:
            run_counters.errored_count -= 1
            run_counters.count(state.identifier, BAD, -1)
        run_counters.retried_count += 1
    run_counters.status, run_counters.paused, run_counters.stopping = (
        statuses.RUNNING,
        run_counters.paused and run_counters.open,
        False,
    )
    run_counters.error_message = run_counters.error_message if run_counters.errored_count else ""


def _retry_of(state: Claimed, stored: State) -> NewState:
    retry = NewState(
        uuids.uuid7(),
        state.run,
        state.identifier,
        state.path,
        state.parent,
        state.inputs,
        payloads.dump(state.inputs),
    )
    if stored.joined and stored.status == statuses.NEXT_CREATED_ERROR and not stored.attempt:
        render_again(retry)
    return retry


def render_again(retry: NewState) -> None:
    """A join whose inputs couldn't be made has none to repeat; they are made anew."""
    needs = retry.run.plan.nodes[retry.identifier].needs
    places = {
        advance.place_of(retry.run, retry.identifier, retry.path, need.node)
        for need in needs
        if need.source == "node"
    }
    try:
        fresh = advance.new_state(
            retry.run, retry.identifier, retry.path, retry.parent, Recorded(places)
        )
    except (Unresolved, payloads.NotJson) as error:
        raise errors.Conflict(
            f"The inputs of {retry.identifier} still can't be made: {error}."
        ) from None
    retry.inputs, retry.inputs_json = fresh.inputs, fresh.inputs_json


def missed_joins(
    run: Run, retries: list[NewState], facts: claim.FactsCache, run_counters: RunCounters
) -> list[NewState]:
    """The joins that the run's end kept from firing, although all that they wait for is there."""
    known: Any = facts.get([run.pk])
    done = State.objects.filter(
        run=run, watched=True, status__in=(statuses.SUCCESS, statuses.PRUNED)
    ).values_list("identifier", "path")
    asked = {
        each
        for identifier, path in done
        for each in join.candidates(known[run.pk], identifier, path)
    }
    fired = join.fire(asked, known, {run.pk: run_counters}, list(retries))
    for state in fired:
        run_counters.appear(state.identifier)
        if state.status != statuses.CREATED:
            run_counters.finish(state.identifier, state.status)
    return fired
