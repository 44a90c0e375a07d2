"""Answering several states at once."""

from collections.abc import Mapping
from uuid import UUID

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition.types import Json
from graphs.web.messages import message_of
from runs.engine.answer import answer_state
from runs.models import Run, State

MAX_ANSWERS = 100


def answer_each(answers: Mapping[UUID, Json], caller: Caller) -> dict[UUID, str]:
    """Give each state its answer. Returns why, for those that could not be answered.

    Each answer is stored on its own: one that is refused doesn't keep back the others. Runs are
    locked in the order of their keys.
    """
    runs = Run.objects.visible_to(caller).select_related("namespace", "version")
    states = State.objects.filter(pk__in=answers, run__in=runs)
    run_of = dict(states.order_by("run", "pk").values_list("pk", "run"))
    loaded = runs.in_bulk(set(run_of.values()))
    refusals = {pk: f"There is no state {pk}." for pk in answers if pk not in run_of}
    for pk, run in run_of.items():
        if run not in loaded:  # it was deleted at this moment
            refusals[pk] = f"There is no state {pk}."
            continue
        try:
            answer_state(loaded[run], pk, answers[pk], caller)
        except errors.StateManagerError as error:
            refusals[pk] = message_of(error)
    return refusals
