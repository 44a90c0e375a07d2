"""The schedules of graphs over REST. Those of templates and of reruns are with these."""

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.lookups import graph_of
from graphs.api.pagination import AfterPagination
from graphs.api.schema import REFUSALS
from graphs.api.viewsets import ViewSet
from graphs.definition import errors, redaction
from graphs.definition.names import parse_id
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from graphs.models import CronTrigger
from runs.actions import graph_schedules
from runs.api.lookups import without_nul
from runs.api.serializers import StartedSerializer
from runs.queries.schedules import schedules_of


class ScheduleSerializer(serializers.Serializer):
    """A schedule on which a graph is started.

    `next_at` is null while it is paused. `missed` counts the due times that passed while nothing
    could start runs; they are not made up for. `error` is why the last run could not start.
    """

    id = serializers.CharField()
    graph_id = serializers.CharField()
    graph = serializers.CharField()
    namespace = serializers.CharField()
    schedule = serializers.CharField()
    time_zone = serializers.CharField()
    enabled = serializers.BooleanField()
    next_at = serializers.DateTimeField(allow_null=True)
    last_fired_at = serializers.DateTimeField(allow_null=True)
    missed = serializers.IntegerField()
    error = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()

    def to_representation(self, row: CronTrigger) -> JsonObject:
        """The context holds the caller."""
        sees_payloads = self.context["caller"].can("payloads", row.graph.namespace_id)
        return {
            "id": str(row.pk),
            "graph_id": str(row.graph_id),
            "graph": row.graph.name,
            "namespace": row.graph.namespace.name,
            "schedule": row.expression,
            "time_zone": row.time_zone,
            "enabled": row.enabled,
            "next_at": when(row.next_at) if row.enabled else None,
            "last_fired_at": when(row.last_fired_at),
            "missed": row.missed,
            "error": redaction.shown(row.error, sees_payloads) if row.error else None,
            "created_at": when(row.created_at),
        }


class SchedulesSerializer(serializers.Serializer):
    schedules = ScheduleSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class NewScheduleSerializer(serializers.Serializer):
    """`schedule` is a cron expression: minute, hour, day of month, month, day of week."""

    graph_id = serializers.IdField()
    schedule = serializers.CharField(max_length=200)
    time_zone = serializers.CharField(max_length=60, required=False)
    enabled = serializers.BooleanField(required=False)


class ScheduleChangeSerializer(serializers.Serializer):
    """Members that are left out keep their values. `enabled` false pauses the schedule."""

    enabled = serializers.BooleanField(required=False)
    schedule = serializers.CharField(max_length=200, required=False)
    time_zone = serializers.CharField(max_length=60, required=False)


class ScheduleViewSet(ViewSet):
    lookup_url_kwarg = "schedule"
    pagination_class = AfterPagination
    scopes = {
        "list": "read",
        "retrieve": "read",
        "create": "start",
        "partial_update": "start",
        "destroy": "start",
        "run": "start",
    }
    bodies = ("create", "partial_update")
    queries = {"list": ("graph_id", "namespace")}

    def get_queryset(self) -> QuerySet[CronTrigger]:
        return schedules_of(self.caller)

    def get_object(self) -> CronTrigger:
        text = self.kwargs["schedule"]
        row = self.get_queryset().filter(pk=parse_id(text) or 0).first()
        if row is None:
            raise errors.NotFound(f"There is no schedule {text[:50]!r}.")
        return row

    @extend_schema(
        operation_id="schedules_list",
        parameters=[
            OpenApiParameter("graph_id", str, description="Those of this graph."),
            OpenApiParameter("namespace", str, description="Those of this namespace."),
        ],
        responses={200: SchedulesSerializer, **REFUSALS},
    )
    def list(self, request: Request) -> Response:
        """The schedules of graphs, paused ones included."""
        rows, query = self.get_queryset(), request.query_params
        if query.get("graph_id"):
            rows = rows.filter(graph=graph_of(self.caller, query["graph_id"]))
        if query.get("namespace"):
            rows = rows.filter(graph__namespace__name=without_nul(query["namespace"]))
        data = ScheduleSerializer(self.page(rows), many=True, context=self._context()).data
        return self.get_paginated_response({"schedules": data})

    @extend_schema(
        operation_id="schedules_create",
        request=NewScheduleSerializer,
        responses={201: ScheduleSerializer, **REFUSALS},
    )
    def create(self, request: Request) -> Response:
        """Start a graph at each due time. 409 if it has this schedule already."""
        data = self.validated(NewScheduleSerializer)
        schedule = graph_schedules.add(
            graph_of(self.caller, data["graph_id"]),
            self.caller,
            data["schedule"],
            data.get("time_zone", "UTC"),
            data.get("enabled", True),
        )
        return self._answer(schedule, 201)

    @extend_schema(
        operation_id="schedules_read",
        responses={200: ScheduleSerializer, **REFUSALS},
    )
    def retrieve(self, request: Request, schedule: str) -> Response:
        """One schedule."""
        return self._answer(self.get_object())

    @extend_schema(
        operation_id="schedules_change",
        request=ScheduleChangeSerializer,
        responses={200: ScheduleSerializer, **REFUSALS},
    )
    def partial_update(self, request: Request, schedule: str) -> Response:
        """Pause a schedule, let it go on, or change its times.

        What became due while it was paused is not made up for.
        """
        data = self.validated(ScheduleChangeSerializer)
        changed = graph_schedules.change(
            self.get_object(),
            self.caller,
            data.get("enabled"),
            data.get("schedule"),
            data.get("time_zone"),
        )
        return self._answer(changed)

    @extend_schema(operation_id="schedules_delete", responses={204: None, **REFUSALS})
    def destroy(self, request: Request, schedule: str) -> Response:
        """Start the graph no more on this schedule. The runs that there are stay."""
        graph_schedules.remove(self.get_object(), self.caller)
        return Response(status=204)

    @extend_schema(
        operation_id="schedules_run", request=None, responses={200: StartedSerializer, **REFUSALS}
    )
    @action(detail=True, methods=["post"])
    def run(self, request: Request, schedule: str) -> Response:
        """Start a run now, as the schedule does. Its next time stays what it is."""
        run = graph_schedules.start_now(self.get_object(), self.caller)
        return Response(StartedSerializer(run).data)

    def _answer(self, schedule: CronTrigger, status: int = 200) -> Response:
        return Response(ScheduleSerializer(schedule, context=self._context()).data, status=status)

    def _context(self) -> JsonObject:
        return {"caller": self.caller}
