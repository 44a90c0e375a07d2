"""The inbox over REST: the states that wait for a person, and answers to several of them."""

import uuid

from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.pagination import AfterPagination
from graphs.api.schema import REFUSALS
from graphs.api.serializers import AnyJson
from graphs.api.viewsets import ViewSet
from graphs.definition import errors
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from runs.actions.answers import MAX_ANSWERS, answer_each
from runs.api.bulk_operations import FALSE_WORDS, TRUE_WORDS
from runs.queries import inbox

MINE = OpenApiParameter(
    "mine", bool, description="Only what is assigned to the user or to one of the user's groups."
)


class QuestionSerializer(serializers.Serializer):
    """A state that waits for a person.

    `waiting_for` has the question and the JSON Schema of its answer. `asked_at` is when the attempt
    that asks was begun; `assignee` is a username, or `group:` and the name of a group.
    """

    state_id = serializers.UUIDField()
    run_id = serializers.CharField()
    namespace = serializers.CharField()
    graph = serializers.CharField(allow_null=True)
    identifier = serializers.CharField()
    waiting_for = AnyJson()
    assignee = serializers.CharField(allow_null=True)
    asked_at = serializers.DateTimeField(allow_null=True)
    answer_by = serializers.DateTimeField(allow_null=True)

    def to_representation(self, row: JsonObject) -> JsonObject:
        state, run = row["state"], row["run"]
        return {
            "state_id": str(state.pk),
            "run_id": run.run_id,
            "namespace": run.namespace.name,
            "graph": run.graph.name if run.graph else None,
            "identifier": state.identifier,
            "waiting_for": row["waiting_for"],
            "assignee": row["assignee"] or None,
            "asked_at": when(row["asked_at"]),
            "answer_by": when(row["answer_by"]),
        }


class InboxSerializer(serializers.Serializer):
    questions = QuestionSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class AnswerSerializer(serializers.Serializer):
    state_id = serializers.UUIDField()
    answer = AnyJson()


class AnswersSerializer(serializers.Serializer):
    """Answers to different states. Each must fit the schema of its question."""

    answers = serializers.ListField(child=AnswerSerializer(), min_length=1, max_length=MAX_ANSWERS)


class AnsweredSerializer(serializers.Serializer):
    """`error` says why a state was not answered; it is null for those that were."""

    state_id = serializers.UUIDField()
    error = serializers.CharField(allow_null=True)


class AnsweredStatesSerializer(serializers.Serializer):
    results = AnsweredSerializer(many=True)


class InboxPagination(AfterPagination):
    """A cursor is the id of a state, which stays good when the state is answered."""

    def read_after(self, after: str) -> uuid.UUID:
        try:
            return uuid.UUID(after)
        except ValueError:
            raise errors.Malformed("after must be the `next` of a previous page.") from None


class InboxViewSet(ViewSet):
    pagination_class = InboxPagination
    filter_backends = [DjangoFilterBackend]  # documents the filters, which `list` applies
    filterset_class = inbox.InboxFilter
    scopes = {"list": "read", "answers": "run"}
    bodies = ("answers",)
    queries = {"list": ("mine",)}

    @extend_schema(
        operation_id="inbox_list",
        parameters=[MINE],
        responses={200: InboxSerializer, **REFUSALS},
    )
    def list(self, request: Request) -> Response:
        """The states that wait for a person, over all runs, those of the oldest states first."""
        query = request.query_params
        filters = {name: query[name] for name in inbox.InboxFilter.base_filters if name in query}
        states = inbox.waiting(self.caller, filters)
        if self._only_mine(query.get("mine", "")):
            states = inbox.mine(states, self.caller)
        rows = inbox.shown(self.page(states), self.caller)
        data = QuestionSerializer(rows, many=True).data
        return self.get_paginated_response({"questions": data})

    def _only_mine(self, text: str) -> bool:
        """Raises Malformed for a value that can't be read, or if the caller is no user."""
        if text.lower() not in (*TRUE_WORDS, *FALSE_WORDS):
            raise errors.Malformed("mine must be true or false.")
        if text.lower() not in TRUE_WORDS:
            return False
        if self.caller.user is None:
            raise errors.Malformed("An API key has no questions of its own: use assignee.")
        return True

    @extend_schema(
        operation_id="inbox_answers",
        request=AnswersSerializer,
        responses={200: AnsweredStatesSerializer, **REFUSALS},
    )
    @action(detail=False, methods=["post"])
    def answers(self, request: Request) -> Response:
        """Answer several states. One that is refused doesn't keep back the others."""
        given = self.validated(AnswersSerializer)["answers"]
        answers = {one["state_id"]: one["answer"] for one in given}
        if len(answers) < len(given):
            raise errors.Malformed("Give each state one answer.")
        refusals = answer_each(answers, self.caller)
        results = [{"state_id": str(pk), "error": refusals.get(pk)} for pk in answers]
        return Response({"results": results})
