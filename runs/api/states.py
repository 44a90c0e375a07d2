"""The states of a run over REST."""

import uuid

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.pagination import AfterPagination
from graphs.api.schema import REFUSALS
from graphs.definition import redaction
from runs.api.lookups import NAMESPACE, state_id
from runs.api.serializers import StatePageSerializer, StateSerializer
from runs.api.viewsets import OfRunViewSet
from runs.engine.answer import answer_state
from runs.models import State

FIRST = uuid.UUID(int=0)


class StatePagination(AfterPagination):
    def read_after(self, after: str) -> uuid.UUID:
        return state_id(after) if after else FIRST


class StateViewSet(OfRunViewSet):
    lookup_url_kwarg = "state"
    pagination_class = StatePagination
    scopes = {"list": "read", "answer": "run"}

    @extend_schema(
        operation_id="runs_states",
        parameters=[NAMESPACE],
        responses={200: StatePageSerializer, **REFUSALS},
    )
    def list(self, request: Request, run_id: str) -> Response:
        """The states of a run in the order in which they were created."""
        run = self.run()
        states = self.paginate_queryset(run.states.all())
        State.objects.fill_inputs(states)
        redaction.hide(states, self.sees_payloads(run))
        return self.get_paginated_response({"states": StateSerializer(states, many=True).data})

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
        return Response(StateSerializer(answered).data)
