"""Bulk operations over REST, for admins."""

from django.db.models import QuerySet
from django.http import FileResponse
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.pagination import AfterPagination
from graphs.api.permissions import AdminPermission
from graphs.api.schema import REFUSALS
from graphs.api.serializers import AnyJson
from graphs.api.viewsets import ViewSet
from graphs.definition import errors
from graphs.definition.names import parse_id
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from runs.actions import bulk, bulk_runner
from runs.api.run_manager import runs_by_id
from runs.models import BulkOperation, BulkResult, Run

Selection = tuple[JsonObject, list[str]]  # the query of an operation, and the unknown run ids
MAX_LISTED = 100
TRUE_WORDS = ("1", "true", "yes")
FALSE_WORDS = ("", "0", "false", "no")
OPERATION_MEMBERS = ("action", "status", "total", "done", "failed", "reason", "actor")


class AskSerializer(serializers.Serializer):
    """One action on many runs.

    Send `ids`, the run ids (with `namespace` if several namespaces have them), or `filter`, the
    filters of the list. `params` are those of the action: `version`, `from` and `inputs` (merged
    over those of each run) of rerun, `add` and `remove` of label, `status` of set_status, `format`
    (csv, jsonl or json), `columns` and `ordering` of export, which are those of the list,
    `active: delete` of delete.
    Repeating a request with the same `asked` returns the first operation.
    """

    action = serializers.ChoiceField(tuple(bulk.ACTIONS))
    ids = serializers.ListField(
        child=serializers.CharField(max_length=200),
        min_length=1,
        max_length=bulk.MAX_CHOSEN,
        required=False,
    )
    namespace = serializers.CharField(max_length=100, required=False)
    filter = serializers.DictField(child=serializers.CharField(max_length=1000), required=False)
    params = serializers.DictField(child=AnyJson(), required=False)
    reason = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")
    dry_run = serializers.BooleanField(required=False, default=False)
    asked = serializers.UUIDField(required=False)


class PreviewSerializer(serializers.Serializer):
    """What an operation would touch.

    `total` counts the runs, `by_status` counts them by status, `unfit` counts those whose status
    doesn't allow the action, and `traces` counts what would be deleted with them.
    """

    total = serializers.IntegerField()
    by_status = serializers.DictField(child=serializers.IntegerField())
    unfit = serializers.IntegerField()
    traces = serializers.DictField(child=serializers.IntegerField())
    missing = serializers.ListField(child=serializers.CharField())


class OperationSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    action = serializers.CharField()
    status = serializers.CharField()
    total = serializers.IntegerField()
    done = serializers.IntegerField()
    failed = serializers.IntegerField()
    reason = serializers.CharField()
    actor = serializers.CharField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    file = serializers.CharField(
        allow_null=True, help_text="Where the file of an export is, for a day."
    )
    missing = serializers.ListField(child=serializers.CharField())

    def to_representation(self, operation: BulkOperation) -> JsonObject:
        return {
            "id": operation.pk,
            **{name: getattr(operation, name) for name in OPERATION_MEMBERS},
            "created_at": when(operation.created_at),
            "finished_at": when(operation.finished_at),
            "file": f"{_address(operation)}/file" if operation.file else None,
            "missing": self.context.get("missing", []),
        }


def _address(operation: BulkOperation) -> str:
    return reverse("bulk-operation-detail", args=[operation.pk])


class OperationsSerializer(serializers.Serializer):
    operations = OperationSerializer(many=True)


class ResultSerializer(serializers.Serializer):
    id = serializers.CharField()
    done = serializers.BooleanField()
    code = serializers.CharField()
    reason = serializers.CharField()
    made = serializers.CharField(allow_null=True)

    def to_representation(self, result: BulkResult) -> JsonObject:
        return {
            "id": result.run_id,
            "done": result.done,
            "code": result.code,
            "reason": result.reason,
            "made": result.created_run_id or None,
        }


class ResultsSerializer(serializers.Serializer):
    results = ResultSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class BulkOperationViewSet(ViewSet):
    permission_classes = [AdminPermission]
    lookup_url_kwarg = "operation"
    # Asking needs only "read" here: `bulk.ask` checks the right that the action needs.
    scopes = {
        "list": "read",
        "create": "read",
        "retrieve": "read",
        "stop": "read",
        "retry": "read",
        "results": "read",
        "file": "export",
    }
    bodies = ("create",)
    queries = {"results": ("failed",)}

    def get_queryset(self) -> QuerySet[BulkOperation]:
        return bulk.seen_by(self.caller)

    def get_object(self) -> BulkOperation:
        operation_id = self.kwargs["operation"]
        operation = self.get_queryset().filter(pk=parse_id(operation_id) or 0).first()
        if operation is None:
            raise errors.NotFound(f"There is no operation {operation_id[:50]!r}.")
        return operation

    @extend_schema(
        operation_id="bulk_operations_list", responses={200: OperationsSerializer, **REFUSALS}
    )
    def list(self, request: Request) -> Response:
        """The caller's own operations, newest first."""
        operations = self.get_queryset().order_by("-pk")[:MAX_LISTED]
        return Response({"operations": OperationSerializer(operations, many=True).data})

    @extend_schema(
        operation_id="bulk_operations_ask",
        request=AskSerializer,
        responses={200: PreviewSerializer, 202: OperationSerializer, **REFUSALS},
    )
    def create(self, request: Request) -> Response:
        """Start one action on many runs in the background.

        With `dry_run` nothing is changed: the answer says what would be touched.
        """
        data = self.validated(AskSerializer)
        query, missing = self._query(data)
        if data["dry_run"]:
            params = data.get("params", {})
            preview = bulk.checked_preview(
                data["action"], query, self.caller, params, data["reason"]
            )
            return Response(
                {
                    "total": preview.total,
                    "by_status": preview.by_status,
                    "unfit": preview.unfit,
                    "traces": preview.traces,
                    "missing": missing,
                }
            )
        operation = bulk.ask(
            data["action"],
            query,
            self.caller,
            data.get("params"),
            data["reason"],
            data.get("asked"),
        )
        location = _address(operation)
        body = OperationSerializer(operation, context={"missing": missing}).data
        return Response(body, status=202, headers={"Location": location})

    @extend_schema(
        operation_id="bulk_operations_read", responses={200: OperationSerializer, **REFUSALS}
    )
    def retrieve(self, request: Request, operation: str) -> Response:
        """One operation with its progress."""
        return Response(OperationSerializer(self.get_object()).data)

    @extend_schema(
        operation_id="bulk_operations_stop",
        request=None,
        responses={200: OperationSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, operation: str) -> Response:
        """Stop an operation: the runs that it hasn't reached yet stay as they are."""
        stopped = self.get_object()
        bulk.stop(stopped, self.caller)
        return Response(OperationSerializer(stopped).data)

    @extend_schema(
        operation_id="bulk_operations_retry",
        request=None,
        responses={202: OperationSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, operation: str) -> Response:
        """Start a new operation on the runs for which this one failed."""
        new_operation = bulk.retry(self.get_object(), self.caller)
        return Response(OperationSerializer(new_operation).data, status=202)

    @extend_schema(
        operation_id="bulk_operations_results",
        parameters=[OpenApiParameter("failed", bool, description="Only those that failed.")],
        responses={200: ResultsSerializer, **REFUSALS},
    )
    @action(detail=True, pagination_class=AfterPagination)
    def results(self, request: Request, operation: str) -> Response:
        """The result for each run."""
        results = self.get_object().results.all()
        if _is_true(request.query_params.get("failed", "false")):
            results = results.filter(done=False)
        page = self.page(results)
        return self.get_paginated_response({"results": ResultSerializer(page, many=True).data})

    @extend_schema(
        operation_id="bulk_operations_file",
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, **REFUSALS},
    )
    @action(detail=True)
    def file(self, request: Request, operation: str) -> FileResponse:
        """The file that an export wrote. It is deleted after a day."""
        stored = self.get_object()
        file = bulk_runner.exported_file(stored, self.caller)
        return FileResponse(file, as_attachment=True, filename=stored.file.rpartition("/")[2])

    def _query(self, data: JsonObject) -> Selection:
        """The query of the runs that a request names, and the run ids that don't exist.

        Raises Conflict if several namespaces have a run of one id.
        """
        if ("ids" in data) == ("filter" in data):
            raise errors.Malformed("Send either ids or a filter; an empty filter matches all runs.")
        if "filter" in data:
            return bulk.filter_query(data["filter"]), []

        visible = Run.objects.visible_to(self.caller).only("run_id")
        runs = runs_by_id(visible, data["ids"], data.get("namespace", ""))
        for run_id, matches in runs.items():
            if len(matches) > 1:
                raise errors.Conflict(
                    f"Several namespaces have a run {run_id!r}; add the namespace."
                )
        pks = [run.pk for matches in runs.values() for run in matches]
        return {"pk": pks}, [run_id for run_id, matches in runs.items() if not matches]


def _is_true(text: str) -> bool:
    """Raises Malformed if a filter of results is neither true nor false."""
    if text.lower() not in (*TRUE_WORDS, *FALSE_WORDS):
        raise errors.Malformed(
            [{"loc": ["query", "failed"], "msg": "It is true or false.", "type": "value_error"}]
        )
    return text.lower() in TRUE_WORDS
