"""Answering a state that waits for a person."""

from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from graphs.auth.callers import Caller
from graphs.definition import errors, payloads
from graphs.definition.json_schema import SchemaValidator
from graphs.definition.types import Json, JsonObject
from runs.core import statuses
from runs.engine import counters, priority, slots, wakeup
from runs.engine.counters import RunCounters
from runs.models import AnswerDeadline, AuditEntry, LogLine, Run, State

WAITS = Q(status=statuses.CREATED, due_at=None, waiting_for__isnull=False)


def answer_state(run: Run, state_id: str | UUID, answer: Json, caller: Caller) -> State:
    """Store the answer, with its author and time, and let the state run again with it.

    Raises NotFound if the run has no such state, Conflict if the state doesn't wait, and Malformed
    if the answer doesn't fit its schema.
    """
    caller.require("cancel", run.namespace_id)
    with transaction.atomic():
        plans = {run.pk: run.version.plan} if run.version else {}
        run_counters = counters.lock([run.pk], plans).get(run.pk)
        state = State.objects.filter(run=run, pk=state_id).first()
        if run_counters is None or state is None:
            raise errors.NotFound(f"The run has no state {state_id}.")
        _check(state, answer)

        AuditEntry.objects.record(caller, "answer", run, state.identifier)
        record = {"value": answer, "by": caller.label}
        message = f"{state.identifier} was answered by {caller.label}"
        store_answer(run, state, run_counters, record, message)
    state.refresh_from_db()
    return state


def store_answer(
    run: Run,
    state: State,
    run_counters: RunCounters,
    answer: JsonObject,
    message: str,
    level: str = "info",
) -> None:
    """Let a waiting state of a locked run go on with this answer, and log the message."""
    AnswerDeadline.objects.filter(pk=state.pk).delete()
    record = {**answer, "at": timezone.now().isoformat()}
    ahead = timedelta(seconds=priority.head_start(run.priority))
    State.objects.filter(WAITS, pk=state.pk).move(
        statuses.CREATED, answer=record, due_at=Now(), claim_at=Now() - ahead, waiting_for=None
    )
    LogLine.objects.create(
        run=run, state=state.pk, identifier=state.identifier, level=level, message=message
    )
    if run.version and run.version.plan.concurrency:
        slots.keep_back(run.pk)
    run_counters.waiting_count -= 1
    run_counters.log_count += 1
    run_counters.update_status()
    counters.store([run_counters])
    wakeup.hint()


def waits(state: State) -> bool:
    """Whether the state waits for an answer, as WAITS says it in SQL."""
    return state.status == statuses.CREATED and state.due_at is None and bool(state.waiting_for)


def _check(state: State, answer: Json) -> None:
    if not waits(state):
        raise errors.Conflict(
            f"The state {state.identifier} doesn't wait for an answer; it is {state.status}.",
            allowed=[],
        )
    try:
        payloads.dump(answer)
    except payloads.NotJson as error:
        raise errors.Malformed(f"The answer can't be stored: {error}.") from None
    schema = state.waiting_for.get("schema") or {}
    problems = [
        f"{'/'.join(map(str, problem.instance_path)) or 'answer'}: {problem.message}"
        for problem in SchemaValidator(schema).iter_errors(answer)
    ]
    if problems:
        raise errors.Malformed("The answer doesn't fit the question's schema.", errors=problems)
