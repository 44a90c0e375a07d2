"""Recurring reruns over REST. `POST /rerun/{thread_id}` with a schedule makes them."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.pagination import AfterPagination
from graphs.api.schema import REFUSALS
from graphs.api.serializers import AnyJson
from graphs.api.viewsets import ViewSet
from graphs.definition import errors
from graphs.definition.names import parse_id
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from graphs.models.querysets import InNamespaces
from runs.actions import recurring as verbs
from runs.api.lookups import without_nul
from runs.models import RecurringRerun


class RecurringRerunSerializer(serializers.Serializer):
    """A run that is rerun on a schedule. Without `inputs` it is rerun with its own.

    `next_at` is null while it is paused. `missed` counts the due times that passed while nothing
    could start runs; they are not made up for.
    """

    id = serializers.CharField()
    thread_id = serializers.CharField()
    namespace = serializers.CharField()
    schedule = serializers.CharField()
    time_zone = serializers.CharField()
    enabled = serializers.BooleanField()
    version = serializers.ChoiceField(("original", "newest"))
    inputs = AnyJson()
    author = serializers.CharField()
    next_at = serializers.DateTimeField(allow_null=True)
    last_fired_at = serializers.DateTimeField(allow_null=True)
    missed = serializers.IntegerField()
    error = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()

    def to_representation(self, row: RecurringRerun) -> JsonObject:
        """The context holds the caller."""
        verbs.hide_payloads(row, self.context["caller"])
        return {
            "id": str(row.pk),
            "thread_id": row.run.run_id,
            "namespace": row.namespace.name,
            "schedule": row.expression,
            "time_zone": row.time_zone,
            "enabled": row.enabled,
            "version": "newest" if row.newest else "original",
            "inputs": row.inputs,
            "author": row.author,
            "next_at": when(row.next_at) if row.enabled else None,
            "last_fired_at": when(row.last_fired_at),
            "missed": row.missed,
            "error": row.error or None,
            "created_at": when(row.created_at),
        }


class RecurringRerunsSerializer(serializers.Serializer):
    recurring_reruns = RecurringRerunSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class RecurringRerunChangeSerializer(serializers.Serializer):
    """Members that are left out keep their values. `enabled` false pauses the reruns."""

    enabled = serializers.BooleanField(required=False)
    schedule = serializers.CharField(max_length=200, required=False)
    time_zone = serializers.CharField(max_length=60, required=False)


class RecurringRerunViewSet(ViewSet):
    lookup_url_kwarg = "recurring"
    pagination_class = AfterPagination
    scopes = {"list": "read", "retrieve": "read", "partial_update": "rerun", "destroy": "rerun"}
    bodies = ("partial_update",)
    queries = {"list": ("thread_id", "namespace")}

    def get_queryset(self) -> InNamespaces:
        rows = RecurringRerun.objects.visible_to(self.caller)
        return rows.select_related("run", "namespace")

    def get_object(self) -> RecurringRerun:
        text = self.kwargs["recurring"]
        row = self.get_queryset().filter(pk=parse_id(text) or 0).first()
        if row is None:
            raise errors.NotFound(f"There is no recurring rerun {text[:50]!r}.")
        return row

    @extend_schema(
        operation_id="recurring_reruns_list",
        parameters=[
            OpenApiParameter("thread_id", str, description="Those of the runs with this id."),
            OpenApiParameter("namespace", str, description="Those of this namespace."),
        ],
        responses={200: RecurringRerunsSerializer, **REFUSALS},
    )
    def list(self, request: Request) -> Response:
        """The runs that are rerun on a schedule, paused ones included."""
        rows = self.get_queryset()
        columns = {"thread_id": "run__run_id", "namespace": "namespace__name"}
        for name, column in columns.items():
            if request.query_params.get(name):
                rows = rows.filter(**{column: without_nul(request.query_params[name])})
        data = RecurringRerunSerializer(self.page(rows), many=True, context=self._context()).data
        return self.get_paginated_response({"recurring_reruns": data})

    @extend_schema(
        operation_id="recurring_reruns_read",
        responses={200: RecurringRerunSerializer, **REFUSALS},
    )
    def retrieve(self, request: Request, recurring: str) -> Response:
        """One recurring rerun."""
        return self._answer(self.get_object())

    @extend_schema(
        operation_id="recurring_reruns_change",
        request=RecurringRerunChangeSerializer,
        responses={200: RecurringRerunSerializer, **REFUSALS},
    )
    def partial_update(self, request: Request, recurring: str) -> Response:
        """Pause a recurring rerun, let it go on, or change its schedule.

        What became due while it was paused is not made up for.
        """
        data = self.validated(RecurringRerunChangeSerializer)
        changed = verbs.change(
            self.get_object(),
            self.caller,
            data.get("enabled"),
            data.get("schedule"),
            data.get("time_zone"),
        )
        return self._answer(changed)

    @extend_schema(operation_id="recurring_reruns_delete", responses={204: None, **REFUSALS})
    def destroy(self, request: Request, recurring: str) -> Response:
        """Rerun the run no more. The reruns that there are stay."""
        verbs.remove(self.get_object(), self.caller)
        return Response(status=204)

    def _answer(self, row: RecurringRerun) -> Response:
        return Response(RecurringRerunSerializer(row, context=self._context()).data)

    def _context(self) -> JsonObject:
        return {"caller": self.caller}
