"""Trying again what failed for good: one state, or all of a run. The only way in which a run that has ended goes on.

Under the run's lock the states become RETRY_CREATED with a new twin each, the counts move back, and joins fire that the end kept from firing.
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
from runs.engine.counters import Ledger
from runs.engine.types import Claimed, NewState
from runs.models import AuditEntry, LogLine, Run, State


def retry_state(state: State, fanout_id: str, caller: Caller) -> NewState:
    """A new twin of a state that failed for good or was cancelled. Raises Conflict for others, and when the fanout id was used before."""
    if state.status not in statuses.RETRYABLE:
        raise errors.Conflict(f"A state that is {state.status} can't be retried.", allowed=list(statuses.RETRYABLE))
    if State.objects.filter(run=state.run_id, identifier=state.identifier, fanout_id=fanout_id).exists():
        raise errors.Conflict(f"The fanout id {fanout_id!r} was used for {state.identifier!r} in this run already.")
    try:
        with transaction.atomic():
            [twin] = _again(state.run, State.objects.filter(pk=state.pk), state.identifier, caller)
            State.objects.filter(pk=twin.id).update(fanout_id=fanout_id)
            return twin
    except IntegrityError:
        raise errors.Conflict(f"The fanout id {fanout_id!r} was used for {state.identifier!r} at this moment.") from None


def retry_failed(run: Run, caller: Caller) -> list[NewState]:
    """Retry every state that failed for good or was cancelled; the run goes on. Raises Conflict when there is none."""
    with transaction.atomic():
        return _again(run, State.objects.filter(run=run), "what failed", caller)


def _again(run: Run, asked: QuerySet[State], what: str, caller: Caller) -> list[NewState]:
    caller.require("cancel", run.namespace_id)
    if run.version is None:
        raise errors.Conflict("The run was not made by this system; it can't be continued here.")
    book = counters.lock([run.pk], {run.pk: run.version.plan}).get(run.pk)
    if book is None:
        raise errors.NotFound(f"There is no run {run.run_id!r}.")
    failed = State.objects.filter(pk__in=asked.filter(status__in=statuses.RETRYABLE).values("pk"))
    states = list(failed.order_by("pk"))
    if not states:
        raise errors.Conflict(f"The run is {book.status} and has no failed states here.", allowed=list(statuses.RUN_ACTIONS[book.status]))
    facts = claim.FactsCache()
    held = {each.id: each for each in claim.held(sql.among("s.id", "uuid"), [sql.choices([state.pk.hex for state in states])], facts)}
    twins = [_twin(held[state.pk.hex], state) for state in states]
    failed.move(statuses.RETRY_CREATED)
    Run.objects.filter(pk=run.pk, archived_at__isnull=False).update(archived_at=None)
    _move_back(book, states)
    for twin in twins:
        book.appear(twin.identifier, retry=True)
    new = [*twins, *missed_joins(run, twins, facts, book)]
    batch = sql.Batch()
    store.insert([store.new_row(state, book.held) for state in new], batch)
    batch.flush()
    LogLine.objects.create(run=run, message=f"{len(twins):,} states: {what} is retried by {caller.label}"[:2000])
    AuditEntry.objects.record(caller, "retry", run, f"{what}: {len(twins):,} states")
    book.log_count += 1
    book.close()
    counters.store([book])
    wakeup.hint()
    return twins


def _move_back(book: Ledger, states: Sequence[State]) -> None:
    for state in states:
        if state.status == statuses.CANCELLED:
            book.cancelled_count -= 1
        else:
            book.errored_count -= 1
            book.count(state.identifier, BAD, -1)
        book.retried_count += 1
    book.status, book.held, book.stopping = statuses.RUNNING, book.held and book.open, False
    book.error_message = book.error_message if book.errored_count else ""


def _twin(state: Claimed, stored: State) -> NewState:
    twin = NewState(uuids.uuid7(), state.run, state.identifier, state.path, state.parent, state.inputs, payloads.dump(state.inputs))
    if stored.joined and stored.status == statuses.NEXT_CREATED_ERROR and not stored.attempt:
        render_again(twin)
    return twin


def render_again(twin: NewState) -> None:
    """A join whose inputs couldn't be made has none to repeat; they are made anew."""
    needs = twin.run.plan.nodes[twin.identifier].needs
    places = {advance.place_of(twin.run, twin.identifier, twin.path, need.node) for need in needs if need.source == "node"}
    try:
        fresh = advance.new_state(twin.run, twin.identifier, twin.path, twin.parent, Recorded(places))
    except (Unresolved, payloads.NotJson) as error:
        raise errors.Conflict(f"The inputs of {twin.identifier} still can't be made: {error}.") from None
    twin.inputs, twin.inputs_json = fresh.inputs, fresh.inputs_json


def missed_joins(run: Run, twins: list[NewState], facts: claim.FactsCache, book: Ledger) -> list[NewState]:
    """The joins that the run's end kept from firing, although all that they wait for is there."""
    known: Any = facts.get([run.pk])
    done = State.objects.filter(run=run, watched=True, status__in=(statuses.SUCCESS, statuses.PRUNED)).values_list("identifier", "path")
    asked = {each for identifier, path in done for each in join.candidates(known[run.pk], identifier, path)}
    fired = join.fire(asked, known, {run.pk: book}, list(twins))
    for state in fired:
        book.appear(state.identifier)
        if state.status != statuses.CREATED:
            book.finish(state.identifier, state.status)
    return fired
