"""The questions that states ask people."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from graphs.web.formats import exact
from runs.engine import answer
from runs.models import AnswerDeadline, State

FATES = {"fail": "it fails", "default": "a default is taken", "escalate": "that is overdue"}


def answer_by(states: Iterable[State]) -> dict[UUID, datetime]:
    """The deadlines of those states that wait for an answer and have one."""
    waiting = [state.pk for state in states if answer.waits(state)]
    if not waiting:
        return {}
    rows = AnswerDeadline.objects.filter(pk__in=waiting)
    return {row.pk: row.at for row in rows if row.at}


def fate(state: State, at: datetime | None) -> str:
    """A sentence about what happens if nobody answers the state; "" without a limit."""
    terms = state.waiting_for if isinstance(state.waiting_for, dict) else {}
    unanswered = terms.get("unanswered")
    if unanswered not in FATES:
        return ""
    if at is None:
        return "The answer is overdue." if unanswered == "escalate" else ""
    return f"If nobody answers by {exact(at)}, {FATES[unanswered]}."
