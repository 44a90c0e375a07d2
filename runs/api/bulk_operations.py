"""Bulk operations and saved views over REST, for admins: what the Run Manager's pages do, for programs."""

from typing import Any

from django.db import IntegrityError
from django.db.models import Q
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.serializers import AnyJson
from graphs.api.views import REFUSALS
from graphs.definition import errors
from graphs.definition.names import parse_id
from graphs.definition.payloads import when
from runs.actions import bulk
from runs.api.run_manager import AdminView
from runs.api.runs import AFTER, LIMIT, limit_of
from runs.models import BulkOperation, SavedView

NEWEST = 100


class AskShape(serializers.Serializer):
    """`ids` are run ids, of `namespace` if several have them; or `filter` holds the list's filters. `params` are the action's: `version` and `from` of
    rerun, `add` and `remove` of label, `status` of set_status, `format` of export, `active: delete` of delete. `asked` makes a repeated call harmless."""

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


class PreviewShape(serializers.Serializer):
    """What would be touched: how many runs, of which status, how many can't be asked this in their status, and what goes with them."""

    total = serializers.IntegerField()
    by_status = serializers.DictField(child=serializers.IntegerField())
    unfit = serializers.IntegerField()
    traces = serializers.DictField(child=serializers.IntegerField())
    missing = serializers.ListField(child=serializers.CharField())


class OperationShape(serializers.Serializer):
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
    missing = serializers.ListField(child=serializers.CharField())


class OperationsShape(serializers.Serializer):
    operations = OperationShape(many=True)


class ResultShape(serializers.Serializer):
    id = serializers.CharField()
    done = serializers.BooleanField()
    code = serializers.CharField()
    reason = serializers.CharField()
    made = serializers.CharField(allow_null=True)


class ResultsShape(serializers.Serializer):
    results = ResultShape(many=True)
    next = serializers.CharField(allow_null=True)


class ViewShape(serializers.Serializer):
    """`query` is the query string of the list."""

    id = serializers.IntegerField(read_only=True)
    name = serializers.CharField(max_length=100)
    query = serializers.CharField(max_length=4000, allow_blank=True)
    shared = serializers.BooleanField(default=False)


class ViewsShape(serializers.Serializer):
    views = ViewShape(many=True)


def _shape(operation: BulkOperation, missing: list[str] | None = None) -> dict[str, Any]:
    names = ("action", "status", "total", "done", "failed", "reason", "actor")
    times = {name: when(getattr(operation, name)) for name in ("created_at", "finished_at")}
    return {
        "id": operation.pk,
        **{name: getattr(operation, name) for name in names},
        **times,
        "missing": missing or [],
    }


class OperationsView(AdminView):
    scopes = {"GET": "read", "POST": "read"}  # what the action needs is for the operation to say

    @extend_schema(
        operation_id="bulk_operations_list", responses={200: OperationsShape, **REFUSALS}
    )
    def get(self, request: Request) -> Response:
        """One's own operations, newest first."""
        return Response(
            {
                "operations": [
                    _shape(each) for each in bulk.seen_by(self.caller).order_by("-pk")[:NEWEST]
                ]
            }
        )

    @extend_schema(
        operation_id="bulk_operations_ask",
        request=AskShape,
        responses={200: PreviewShape, 202: OperationShape, **REFUSALS},
    )
    def post(self, request: Request) -> Response:
        """Do one thing to many runs, in the background; or, with `dry_run`, say what it would touch."""
        shape = AskShape(data=request.data)
        shape.is_valid(raise_exception=True)
        asked = shape.validated_data
        if ("ids" in asked) == ("filter" in asked):
            raise errors.Malformed("Give either ids or a filter; an empty filter means all runs.")
        query: dict[str, Any]
        if "ids" in asked:
            query, missing = self._chosen(asked["ids"], asked.get("namespace", ""))
        else:
            query, missing = bulk.filter_query(asked["filter"]), []
        if asked["dry_run"]:
            seen = bulk.preview(asked["action"], query, self.caller)
            return Response(
                {
                    "total": seen.total,
                    "by_status": seen.by_status,
                    "unfit": seen.unfit,
                    "traces": seen.traces,
                    "missing": missing,
                }
            )
        operation = bulk.ask(
            asked["action"],
            query,
            self.caller,
            asked.get("params"),
            asked["reason"],
            asked.get("asked"),
        )
        return Response(
            _shape(operation, missing),
            status=202,
            headers={"Location": f"/admin/run-manager/bulk-operations/{operation.pk}"},
        )

    def _chosen(self, ids: list[str], namespace: str) -> tuple[dict[str, Any], list[str]]:
        found: dict[str, list[int]] = {run_id: [] for run_id in ids}
        runs = self.runs().filter(run_id__in=[run_id.replace("\x00", "") for run_id in ids])
        for pk, run_id in (
            runs.filter(namespace__name=namespace) if namespace else runs
        ).values_list("pk", "run_id"):
            found.setdefault(run_id, []).append(pk)
        if several := [run_id for run_id, pks in found.items() if len(pks) > 1]:
            raise errors.Conflict(
                f"Several namespaces have a run {several[0]!r}; add the namespace."
            )
        return {"pk": [pk for pks in found.values() for pk in pks]}, [
            run_id for run_id, pks in found.items() if not pks
        ]


class OneOperationView(AdminView):
    """What the views of one operation share."""

    scopes = {"GET": "read", "POST": "read"}

    def operation(self, text: str) -> BulkOperation:
        found = bulk.seen_by(self.caller).filter(pk=parse_id(text) or 0).first()
        if found is None:
            raise errors.NotFound(f"There is no operation {text[:50]!r}.")
        return found


class OperationView(OneOperationView):
    @extend_schema(operation_id="bulk_operations_read", responses={200: OperationShape, **REFUSALS})
    def get(self, request: Request, operation: str) -> Response:
        """How far an operation is."""
        return Response(_shape(self.operation(operation)))


class StopOperationView(OneOperationView):
    @extend_schema(
        operation_id="bulk_operations_stop",
        request=None,
        responses={200: OperationShape, **REFUSALS},
    )
    def post(self, request: Request, operation: str) -> Response:
        """Leave the runs alone that it has not reached yet."""
        found = self.operation(operation)
        bulk.stop(found, self.caller)
        return Response(_shape(found))


class RetryOperationView(OneOperationView):
    @extend_schema(
        operation_id="bulk_operations_retry",
        request=None,
        responses={202: OperationShape, **REFUSALS},
    )
    def post(self, request: Request, operation: str) -> Response:
        """A new operation on the runs that failed."""
        return Response(_shape(bulk.retry(self.operation(operation), self.caller)), status=202)


class ResultsView(OneOperationView):
    @extend_schema(
        operation_id="bulk_operations_results",
        parameters=[
            LIMIT,
            AFTER,
            OpenApiParameter("failed", bool, description="only those that failed"),
        ],
        responses={200: ResultsShape, **REFUSALS},
    )
    def get(self, request: Request, operation: str) -> Response:
        """What became of each run."""
        limit, after = limit_of(request, 100), parse_id(request.query_params.get("after", "0"))
        if after is None:
            raise errors.Malformed("after is the `next` of a former page.")
        found = self.operation(operation).results.filter(pk__gt=after).order_by("pk")
        if request.query_params.get("failed", "").lower() in ("1", "true", "yes"):
            found = found.filter(done=False)
        page = list(found[:limit])
        rows = [
            {
                "id": row.run_id,
                "done": row.done,
                "code": row.code,
                "reason": row.reason,
                "made": row.created_run_id or None,
            }
            for row in page
        ]
        return Response({"results": rows, "next": str(page[-1].pk) if len(page) == limit else None})


class SavedViewsView(AdminView):
    scopes = {"GET": "read", "POST": "read"}

    @extend_schema(operation_id="saved_views_list", responses={200: ViewsShape, **REFUSALS})
    def get(self, request: Request) -> Response:
        """One's own views and those that are shared."""
        found = SavedView.objects.filter(
            Q(shared=True) | Q(owner=self.caller.user) if self.caller.user else Q(shared=True)
        )
        return Response({"views": [_view(each) for each in found]})

    @extend_schema(
        operation_id="saved_views_save", request=ViewShape, responses={200: ViewShape, **REFUSALS}
    )
    def post(self, request: Request) -> Response:
        """Keep a query under a name; the same name again replaces it. Views belong to users: an API key has none."""
        shape = ViewShape(data=request.data)
        shape.is_valid(raise_exception=True)
        if self.caller.user is None:
            raise errors.Forbidden("Views belong to users; an API key has none.")
        asked = shape.validated_data
        values = {"query": asked["query"].lstrip("?"), "shared": asked["shared"]}
        try:
            view, _ = SavedView.objects.update_or_create(
                owner=self.caller.user, name=asked["name"], defaults=values
            )
        except IntegrityError:
            raise errors.Conflict("The view was saved at this moment.") from None
        return Response(_view(view))


class SavedViewView(AdminView):
    scopes = {"DELETE": "read"}

    @extend_schema(operation_id="saved_views_delete", responses={204: None, **REFUSALS})
    def delete(self, request: Request, view: str) -> Response:
        """Forget a view of one's own; who may do everything may forget any."""
        own = (
            Q()
            if self.caller.may("admin") and self.caller.namespaces is None
            else Q(owner=self.caller.user)
        )
        if not SavedView.objects.filter(own, pk=parse_id(view) or 0).delete()[0]:
            raise errors.NotFound(f"There is no view {view[:50]!r}.")
        return Response(status=204)


def _view(view: SavedView) -> dict[str, Any]:
    return {"id": view.pk, "name": view.name, "query": view.query, "shared": view.shared}
