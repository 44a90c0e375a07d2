"""The states of a run over REST."""

import uuid
from collections.abc import Iterable, Sequence
from itertools import accumulate, takewhile
from operator import add

from django.db.models import TextField
from django.db.models.functions import Cast, Coalesce, Length
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from graphs.api import strict as serializers
from graphs.api.pagination import AfterPagination, read_limit
from graphs.api.schema import REFUSALS
from graphs.api.serializers import AnyJson
from graphs.definition import errors, payloads, redaction
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from runs.api.lookups import NAMESPACE, state_id
from runs.api.viewsets import OfRunViewSet
from runs.core import statuses
from runs.engine.answer import answer_state
from runs.engine.steps import key_of
from runs.models import Run, State
from runs.models.querysets import StateQuerySet
from runs.queries import attempts, questions

FIRST = uuid.UUID(int=0)
MAX_PAGE_BYTES = 8 * 2**20
_SIZE = sum(
    (Coalesce(Length(Cast(name, TextField())), 0) for name in ("outputs", "answer", "waiting_for")),
    start=Coalesce(Length(Cast("inputs", TextField())), 0),
)


class StateSerializer(serializers.Serializer):
    """One execution of a node.

    `parent` is the state whose outputs created it, `waiting_for` the question to a person. All
    attempts and retries share the `idempotency_key`. The run comes from the context.
    """

    id = serializers.CharField()
    identifier = serializers.CharField()
    node_name = serializers.CharField()
    status = serializers.ChoiceField(statuses.STATE_STATUSES)
    path = serializers.CharField()
    parent = serializers.CharField(allow_null=True)  # type: ignore[assignment]
    attempt = serializers.IntegerField()
    retry_count = serializers.IntegerField()
    idempotency_key = serializers.CharField()
    inputs = AnyJson()
    outputs = AnyJson()
    error = serializers.CharField(allow_null=True)
    waiting_for = AnyJson()
    answer_by = serializers.DateTimeField(allow_null=True)
    answer = AnyJson()
    progress = serializers.FloatField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)

    def to_representation(self, state: State) -> JsonObject:
        return {
            "id": str(state.pk),
            "identifier": state.identifier,
            "node_name": state.node,
            "status": state.status,
            "path": state.path,
            "parent": str(state.parent) if state.parent else None,
            "attempt": state.attempt,
            "retry_count": state.retry_count,
            "idempotency_key": key_of(self.context["run"], state),
            "inputs": state.inputs,
            "outputs": state.outputs,
            "error": state.error or None,
            "waiting_for": state.waiting_for,
            "answer_by": when(self.context["answer_by"].get(state.pk)),
            "answer": state.answer,
            "progress": state.progress,
            "created_at": when(state.created_at),
            "started_at": when(state.started_at),
            "finished_at": when(state.finished_at),
        }


class AttemptSerializer(serializers.Serializer):
    """An attempt. `status` is that of its state, or LOST if another attempt followed in it."""

    state_id = serializers.CharField()
    retry_count = serializers.IntegerField()
    attempt = serializers.IntegerField()
    status = serializers.ChoiceField((*statuses.STATE_STATUSES, attempts.LOST))
    worker = serializers.CharField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    error = serializers.CharField(allow_null=True)

    def to_representation(self, attempt: attempts.Attempt) -> JsonObject:
        return {
            "state_id": str(attempt.state),
            "retry_count": attempt.retry_count,
            "attempt": attempt.number,
            "status": attempt.status,
            "worker": attempt.worker or None,
            "started_at": when(attempt.started_at),
            "finished_at": when(attempt.finished_at),
            "error": attempt.error or None,
        }


class AttemptsSerializer(serializers.Serializer):
    attempts = AttemptSerializer(many=True)


class StatePageSerializer(serializers.Serializer):
    states = StateSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class StatePagination(AfterPagination):
    """A page ends before its states have more than MAX_PAGE_BYTES of inputs and outputs together.

    It has at least one state.
    """

    def paginate_queryset(  # type: ignore[override]
        self, queryset: StateQuerySet, request: Request, view: APIView | None = None
    ) -> list[State]:
        limit = read_limit(request, self.default_limit)
        after = request.query_params.get("after")
        if after is not None:
            queryset = queryset.filter(pk__gt=self.read_after(after))
        queryset = queryset.order_by("pk")
        sizes = dict(queryset.annotate(size=_SIZE).values_list("pk", "size")[:limit])
        fitting = _first_fitting(sizes.values())
        states = list(queryset[:fitting])
        State.objects.fill_inputs(states)
        inputs = payloads.sizes(state.inputs for state in states)
        outputs = payloads.sizes(state.outputs for state in states)
        page = states[: _first_fitting(map(add, inputs, outputs))]
        is_last = len(sizes) < limit and len(page) == len(sizes)
        self.next = None if is_last or not page else str(page[-1].pk)
        return page

    def read_after(self, after: str) -> uuid.UUID:
        return state_id(after) if after else FIRST


def _first_fitting(sizes: Iterable[int]) -> int:
    """How many of the rows with these sizes fit into a page: at least one."""
    totals = accumulate(sizes)
    return max(1, sum(1 for _ in takewhile(lambda total: total <= MAX_PAGE_BYTES, totals)))


class StateViewSet(OfRunViewSet):
    lookup_url_kwarg = "state"
    pagination_class = StatePagination
    scopes = {"list": "read", "attempts": "read", "answer": "run"}
    bodies = ("answer",)

    @extend_schema(
        operation_id="runs_states",
        parameters=[NAMESPACE],
        responses={200: StatePageSerializer, **REFUSALS},
    )
    def list(self, request: Request, run_id: str) -> Response:
        """The states of a run in the order in which they were created."""
        run = self.run()
        states = self.page(run.states.all())
        redaction.hide(states, self.sees_payloads(run))
        return self.get_paginated_response({"states": self._json(run, states, many=True)})

    @extend_schema(
        operation_id="runs_answer",
        parameters=[NAMESPACE],
        request=OpenApiTypes.ANY,
        responses={200: StateSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def answer(self, request: Request, run_id: str, state: str) -> Response:
        """Answer a state that waits for a person; the body is the answer."""
        run = self.run()
        answered = answer_state(run, state_id(state), request.data, self.caller)
        redaction.hide([answered], self.sees_payloads(run))
        return Response(self._json(run, answered))

    def _json(self, run: Run, states: State | Sequence[State], many: bool = False) -> JsonObject:
        rows = states if isinstance(states, Sequence) else [states]
        context = {"run": run, "answer_by": questions.answer_by(rows)}
        return StateSerializer(states, many=many, context=context).data

    @extend_schema(
        operation_id="runs_attempts",
        parameters=[NAMESPACE],
        responses={200: AttemptsSerializer, **REFUSALS},
    )
    @action(detail=True)
    def attempts(self, request: Request, run_id: str, state: str) -> Response:
        """All attempts of the state's step, the retries of the state among them."""
        run = self.run()
        found = run.states.filter(pk=state_id(state)).first()
        if found is None:
            raise errors.NotFound(f"The run has no state {state[:50]!r}.")
        rows = attempts.attempts_of(run, found)
        redaction.hide(rows, self.sees_payloads(run))
        return Response({"attempts": AttemptSerializer(rows, many=True).data})
