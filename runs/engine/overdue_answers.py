"""What happens when nobody answers a state in time.

A question may say within how many seconds it is to be answered (`answer_by`), and what happens
otherwise (`unanswered`): the state fails, gets a default as its answer, or goes on waiting and is
shown as overdue. The times are rows of AnswerDeadline, which the sweep looks at.
"""

import logging
from collections.abc import Iterable
from datetime import timedelta
from time import monotonic
from uuid import UUID

from django.db import transaction

from graphs.auth.callers import SYSTEM
from graphs.definition.types import Json, JsonObject
from runs.core import db_errors, sql
from runs.engine import counters
from runs.engine.answer import store_answer, waits
from runs.engine.counters import RunCounters
from runs.engine.deadlines import in_batches
from runs.engine.types import Outcome
from runs.models import AnswerDeadline, AuditEntry, LogLine, Run, State

log = logging.getLogger(__name__)
ROUND_SECONDS = 2.0
PAUSE_AFTER_ERROR = timedelta(minutes=1)
NOBODY = "nobody"  # the author of an answer that nobody gave


@sql.statement
def _deadlines_statement(gate: str) -> str:
    """Store by when these states are to be answered, if the states were stored.

    Parameters: rows of a state, its run, and the seconds from now.
    """
    return f"""
        INSERT INTO statemanager_runs_answerdeadline (state, run_id, at)
        SELECT v.state, v.run, {sql.later("v.seconds")}
        FROM {sql.rows("v", state="uuid", run="bigint", seconds="float8")}
        WHERE {gate}
        ON CONFLICT (state) DO UPDATE SET at = excluded.at
    """


def add_to(statements: sql.Statements, outcomes: Iterable[Outcome], gate: str = sql.ALWAYS) -> None:
    """Store the deadlines of the questions among these outcomes."""
    table = [
        [outcome.state.id, outcome.state.run.pk, outcome.answer_by]
        for outcome in outcomes
        if outcome.kind == "wait" and outcome.answer_by is not None
    ]
    if table:
        statements.add(_deadlines_statement(gate), sql.values(table))


def sweep() -> int:
    """Act on the questions that are overdue, for at most ROUND_SECONDS. Returns how many."""
    rows = AnswerDeadline.objects.filter(at__lte=sql.clock())
    until = monotonic() + ROUND_SECONDS
    done = 0
    for deadline in in_batches(rows):
        done += _judge_safely(deadline.pk)
        if monotonic() > until:
            break
    return done


def _judge_safely(pk: UUID) -> bool:
    """Whether the time of the question is over. A question that breaks doesn't hold up others."""
    try:
        with transaction.atomic():
            return _judge(pk)
    except Exception as error:
        if db_errors.is_away(error):
            raise
        if not db_errors.is_contention(error):
            log.exception("the question of state %s could not be closed", pk)
            later = sql.clock() + PAUSE_AFTER_ERROR
            AnswerDeadline.objects.filter(pk=pk).update(at=later)
        return False


def _judge(pk: UUID) -> bool:
    deadline = AnswerDeadline.objects.filter(pk=pk).first()
    if deadline is None:
        return False
    run = Run.objects.filter(pk=deadline.run_id).select_related("version").first()
    if run is None:
        AnswerDeadline.objects.filter(pk=pk).delete()
        return False
    plans = {run.pk: run.version.plan} if run.version else {}
    run_counters = counters.lock([run.pk], plans, skip_locked=True).get(run.pk)
    if run_counters is None:  # something else has locked it
        return False
    deadline = AnswerDeadline.objects.filter(pk=pk, at__lte=sql.clock()).first()
    if deadline is None:  # the state has asked again meanwhile
        return False
    state = State.objects.filter(run=run, pk=pk).first()
    if state is None or not waits(state):
        deadline.delete()
        return False
    terms: JsonObject = state.waiting_for
    if "unanswered" not in terms:
        deadline.delete()
        return False
    if terms["unanswered"] == "escalate":
        AnswerDeadline.objects.filter(pk=pk).update(at=None)
        _escalate(run, state, run_counters)
    else:
        _close(run, state, run_counters, terms)
    return True


def _escalate(run: Run, state: State, run_counters: RunCounters) -> None:
    """Say that the answer is overdue. The state goes on waiting."""
    message = f"The answer to {state.identifier} is overdue: {_within(state.waiting_for)}"
    LogLine.objects.create(
        run=run, state=state.pk, identifier=state.identifier, level="warning", message=message
    )
    AuditEntry.objects.record(SYSTEM, "overdue", run, state.identifier)
    run_counters.log_count += 1
    counters.store([run_counters])


def _close(run: Run, state: State, run_counters: RunCounters, terms: JsonObject) -> None:
    """Let the state run again, with its default or to fail."""
    value: Json = terms.get("default")
    answer = {"value": value, "by": NOBODY, "unanswered": terms["unanswered"]}
    message = f"{state.identifier} was not answered: {_within(terms)}"
    AuditEntry.objects.record(SYSTEM, "overdue", run, state.identifier)
    store_answer(run, state, run_counters, answer, message, level="warning")


def _within(terms: JsonObject) -> str:
    return f"nobody answered within {terms['answer_by']:g} s"
