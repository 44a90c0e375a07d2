"""The inbox: the states that wait for a person, over all runs."""

from collections.abc import Mapping, Sequence

import django_filters
from django.http import QueryDict

from graphs.auth.callers import Caller
from graphs.definition import redaction
from graphs.definition.types import JsonObject
from graphs.nodes.base import GROUP
from runs.engine import answer
from runs.models import State
from runs.models.querysets import StateQuerySet
from runs.queries import questions
from runs.queries.filters import ExactFilter, InvalidFilters

MAX_COUNTED = 100
# Only the first sibling of a fan-out has its inputs, and a list needs neither.
PAYLOADS = ("inputs", "outputs", "chosen", "answer")


class InboxFilter(django_filters.FilterSet):
    """Questions by their namespace, graph, node, run and assignee."""

    namespace = ExactFilter(field_name="run__namespace__name", help_text="its namespace")
    graph = ExactFilter(field_name="run__graph__name", help_text="its graph")
    identifier = ExactFilter(help_text="its node in the graph")
    run_id = ExactFilter(field_name="run__run_id", help_text="its whole run id")
    assignee = ExactFilter(
        field_name="waiting_for__assignee", help_text="a username, or group: and a group"
    )

    class Meta:
        model = State
        fields: list[str] = []


def waiting(caller: Caller, filters: Mapping[str, str] | None = None) -> StateQuerySet:
    """The states that wait for a person in the namespaces that the caller sees, oldest first.

    Raises InvalidFilters for values that can't be read.
    """
    states = _in_namespaces(caller.namespaces)
    query = QueryDict(mutable=True)
    query.update({name: value for name, value in (filters or {}).items() if value})
    filterset = InboxFilter(query, queryset=states)
    if not filterset.is_valid():
        raise InvalidFilters({name: " ".join(texts) for name, texts in filterset.errors.items()})
    found: StateQuerySet = filterset.qs
    return found.select_related("run__namespace", "run__graph").defer(*PAYLOADS).order_by("pk")


def _in_namespaces(namespaces: frozenset[int] | None) -> StateQuerySet:
    states = State.objects.filter(answer.WAITS)
    if namespaces is None:
        return states
    # The keys are in the index; a state that an old version stored beside this one has key 0.
    return states.filter(namespace_key__in={0, *namespaces}, run__namespace__in=namespaces)


def mine(states: StateQuerySet, caller: Caller) -> StateQuerySet:
    """Those that are assigned to the caller's user or to one of the user's groups."""
    if caller.user is None:
        return states.none()
    groups = caller.user.groups.values_list("name", flat=True)
    assignees = [caller.user.get_username(), *(f"{GROUP}{name}" for name in groups)]
    return states.filter(waiting_for__assignee__in=assignees)


def count(caller: Caller) -> int:
    """How many states wait in the namespaces in which the caller may answer, up to MAX_COUNTED."""
    if not caller.may("cancel"):
        return 0
    states = _in_namespaces(caller.namespaces_with("cancel"))
    return states.order_by()[:MAX_COUNTED].count()


def alike(state: State, caller: Caller, most: int) -> list[State]:
    """The first states of the same node of the same version that take the same kind of answer."""
    states = waiting(caller).filter(run__version=state.run.version_id, identifier=state.identifier)
    schema = _schema(state)
    return [other for other in states[:most] if _schema(other) == schema]


def answered_alike(states: Sequence[State]) -> bool:
    """Whether one answer can be given to all of these states."""
    return all(_schema(state) == _schema(states[0]) for state in states)


def _schema(state: State) -> JsonObject:
    schema: JsonObject = state.waiting_for.get("schema") or {}
    return schema


def shown(states: Sequence[State], caller: Caller) -> list[JsonObject]:
    """What a list shows of each state. `question` is hidden from callers who see no payloads."""
    times = questions.answer_by(states)
    rows = []
    for state in states:
        namespace = state.run.namespace_id
        terms = state.waiting_for if isinstance(state.waiting_for, dict) else {}
        question = redaction.shown(terms, caller.can("payloads", namespace))
        rows.append(
            {
                "state": state,
                "run": state.run,
                "waiting_for": question,
                "question": question.get("question") if isinstance(question, dict) else question,
                "assignee": terms.get("assignee") or "",
                "asked_at": state.started_at,
                "answer_by": times.get(state.pk),
                "may_answer": caller.can("cancel", namespace),
            }
        )
    return rows
