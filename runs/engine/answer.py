"""Answering a state that waits for a person: who, when and what are recorded with it, and it becomes ready."""

from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from graphs.auth.callers import Caller
from graphs.definition import errors, payloads, validation
from runs.core import statuses
from runs.engine import counters, wakeup
from runs.models import AuditEntry, LogLine, Run, State

WAITS = Q(status=statuses.CREATED, due_at=None, waiting_for__isnull=False)


def answer_state(run: Run, state_id: Any, answer: Any, caller: Caller) -> State:
    """Record the answer and let the state run again with it.

    Raises NotFound for a state of another run, Conflict when it doesn't wait (any more) and Malformed when the answer doesn't fit.
    """
    caller.require("cancel", run.namespace_id)
    with transaction.atomic():
        run_counters = counters.lock(
            [run.pk], {run.pk: run.version.plan} if run.version else {}
        ).get(run.pk)
        state = State.objects.filter(run=run, pk=state_id).first()
        if run_counters is None or state is None:
            raise errors.NotFound(f"The run has no state {state_id}.")
        if state.status != statuses.CREATED or state.due_at is not None or not state.waiting_for:
            raise errors.Conflict(
                f"The state {state.identifier} doesn't wait for an answer; it is {state.status}.",
                allowed=[],
            )
        _fits(state, answer)
        record = {"value": answer, "by": caller.label, "at": timezone.now().isoformat()}
        State.objects.filter(WAITS, pk=state.pk).move(
            statuses.CREATED, answer=record, due_at=Now(), waiting_for=None
        )
        LogLine.objects.create(
            run=run,
            state=state.pk,
            identifier=state.identifier,
            message=f"{state.identifier} was answered by {caller.label}",
        )
        AuditEntry.objects.record(caller, "answer", run, state.identifier)
        run_counters.waiting_count -= 1
        run_counters.log_count += 1
        run_counters.close()
        counters.store([run_counters])
        wakeup.hint()
    state.refresh_from_db()
    return state


def _fits(state: State, answer: Any) -> None:
    try:
        payloads.dump(answer)
    except payloads.NotJson as error:
        raise errors.Malformed(f"The answer can't be stored: {error}.") from None
    schema = state.waiting_for.get("schema") or {}
    wrong = [
        f"{'/'.join(map(str, each.instance_path)) or 'answer'}: {each.message}"
        for each in validation.schema_validator(schema).iter_errors(answer)
    ]
    if wrong:
        raise errors.Malformed("The answer doesn't fit what was asked.", errors=wrong)
