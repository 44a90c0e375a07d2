"""The Run Manager's list over REST: for admins only, over all runs that they may see."""

from collections.abc import Iterable

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.permissions import AdminPermission, ScopePermission
from graphs.api.schema import REFUSALS
from graphs.api.viewsets import ViewSet
from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from runs.actions.delete import DELETE_RIGHT, delete_run
from runs.api.filters import ManagerFilterBackend
from runs.api.lookups import NAMESPACE, without_nul
from runs.api.pagination import RunPagination, RunRow
from runs.core import statuses
from runs.health import doctor
from runs.health.probes import Finding
from runs.models import Run
from runs.queries import lists
from runs.queries.filters import ManagerFilter

MAX_IDS = 200


class RowSerializer(serializers.Serializer):
    id = serializers.CharField()
    name = serializers.CharField()
    result = serializers.ChoiceField(tuple(statuses.RUN_RESULTS.values()))
    time = serializers.DateTimeField()
    username = serializers.CharField()
    workspace = serializers.CharField(allow_null=True)

    def to_representation(self, row: RunRow) -> JsonObject:
        run_id, name, status, created_at, username, workspace = row
        return {
            "id": run_id,
            "name": name or run_id,
            "result": statuses.RUN_RESULTS[status],
            "time": when(created_at),
            "username": username,
            "workspace": workspace or None,
        }


class RowsSerializer(serializers.Serializer):
    runs = RowSerializer(many=True)
    total = serializers.IntegerField(allow_null=True)
    page = serializers.IntegerField()
    page_size = serializers.IntegerField()
    notices = serializers.ListField(
        child=serializers.CharField(),
        help_text="The parts of the search that were not understood and were searched as text.",
    )


class IdsSerializer(serializers.Serializer):
    thread_ids = serializers.ListField(
        child=serializers.CharField(max_length=200), min_length=1, max_length=MAX_IDS
    )
    active = serializers.ChoiceField(
        ("keep", "delete"),
        default="keep",
        help_text="delete: active runs are cancelled and deleted. keep: they are refused.",
    )


class FailedSerializer(serializers.Serializer):
    thread_id = serializers.CharField()
    error = serializers.CharField()


class DeletedSerializer(serializers.Serializer):
    deleted_count = serializers.IntegerField()
    failed = FailedSerializer(many=True)
    missing = serializers.ListField(child=serializers.CharField())


class UsernamesSerializer(serializers.Serializer):
    usernames = serializers.ListField(child=serializers.CharField())


class WorkspacesSerializer(serializers.Serializer):
    workspaces = serializers.ListField(child=serializers.CharField())


class FindingSerializer(serializers.Serializer):
    """`level` is error (work has stopped or is in danger) or warning."""

    level = serializers.ChoiceField(("error", "warning"))
    said = serializers.CharField()
    fix = serializers.CharField()

    def to_representation(self, finding: Finding) -> JsonObject:
        return finding.to_dict()


class DoctorSerializer(serializers.Serializer):
    findings = FindingSerializer(many=True)


class RunManagerViewSet(ViewSet):
    """`/admin/run-manager/...`; each path is an action, because there is no single resource."""

    permission_classes = [AdminPermission]
    pagination_class = None
    filter_backends = [ManagerFilterBackend]
    filterset_class = ManagerFilter
    scopes = {
        "runs": "read",
        "delete_runs": DELETE_RIGHT,
        "bulk_delete": DELETE_RIGHT,
        "usernames": "read",
        "workspaces": "read",
        "doctor": "admin",
    }
    bodies = ("delete_runs", "bulk_delete")
    queries = {"delete_runs": ("namespace",), "bulk_delete": ("namespace",)}

    def get_queryset(self) -> QuerySet[Run]:
        return Run.objects.visible_to(self.caller)

    @extend_schema(operation_id="run_manager_list", responses={200: RowsSerializer, **REFUSALS})
    @action(detail=False, pagination_class=RunPagination)
    def runs(self, request: Request) -> Response:
        """All runs that the caller may see, newest first or in the order of `ordering`."""
        rows = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(RowSerializer(rows, many=True).data)

    @extend_schema(
        operation_id="run_manager_delete",
        parameters=[NAMESPACE],
        request=IdsSerializer,
        responses={200: DeletedSerializer, **REFUSALS},
    )
    @runs.mapping.delete
    def delete_runs(self, request: Request) -> Response:
        """Delete runs with everything that belongs to them.

        A run that can't be deleted is named with the reason, and the others are deleted.
        """
        data = self.validated(IdsSerializer)
        namespace = request.query_params.get("namespace", "")
        even_active = data["active"] == "delete"
        return Response(_delete(self.caller, data["thread_ids"], namespace, even_active))

    @extend_schema(
        operation_id="run_manager_bulk_delete",
        parameters=[NAMESPACE],
        request=IdsSerializer,
        responses={200: DeletedSerializer, **REFUSALS},
    )
    @action(detail=False, methods=["post"], url_path="runs/bulk-delete")
    def bulk_delete(self, request: Request) -> Response:
        """The same as DELETE on the list, for proxies that drop the body of a DELETE."""
        return self.delete_runs(request)

    @extend_schema(
        operation_id="run_manager_usernames", responses={200: UsernamesSerializer, **REFUSALS}
    )
    @action(detail=False)
    def usernames(self, request: Request) -> Response:
        """The users that have runs, sorted."""
        return Response({"usernames": lists.distinct(self.caller, "username")})

    @extend_schema(
        operation_id="run_manager_workspaces", responses={200: WorkspacesSerializer, **REFUSALS}
    )
    @action(detail=False)
    def workspaces(self, request: Request) -> Response:
        """The workspaces that have runs, sorted."""
        return Response({"workspaces": lists.distinct(self.caller, "workspace")})

    @extend_schema(operation_id="doctor", responses={200: DoctorSerializer, **REFUSALS})
    @action(detail=False, permission_classes=[ScopePermission])
    def doctor(self, request: Request) -> Response:
        """What is wrong with the installation, and how to fix it.

        For callers that see all namespaces, because findings name runs and nodes of any.
        """
        if self.caller.namespaces is not None:
            raise errors.Forbidden("The health report is for callers that see all namespaces.")
        findings = FindingSerializer(list(doctor.examine()), many=True)
        return Response({"findings": findings.data})


def runs_by_id(
    runs: QuerySet[Run], run_ids: Iterable[str], namespace: str = ""
) -> dict[str, list[Run]]:
    """Those of the runs that have these ids, by id, in one namespace or in all of them."""
    matches: dict[str, list[Run]] = {run_id: [] for run_id in run_ids}
    named = runs.filter(run_id__in=[without_nul(run_id) for run_id in matches])
    if namespace:
        named = named.filter(namespace__name=without_nul(namespace))
    for run in named:
        matches.setdefault(run.run_id, []).append(run)
    return matches


def _delete(
    caller: Caller, thread_ids: Iterable[str], namespace: str, even_active: bool
) -> JsonObject:
    """Delete these runs, each in its own transaction."""
    visible = Run.objects.visible_to(caller).select_related("namespace")
    runs = runs_by_id(visible, thread_ids, namespace)
    deleted_count = 0
    failed = []
    for thread_id, matches in runs.items():
        try:
            if len(matches) > 1:
                raise _ambiguous(matches)
            for run in matches:
                delete_run(run, caller, even_active)
                deleted_count += 1
        except errors.StateManagerError as error:
            failed.append({"thread_id": thread_id, "error": str(error)})
    missing = [thread_id for thread_id, matches in runs.items() if not matches]
    return {"deleted_count": deleted_count, "failed": failed, "missing": missing}


def _ambiguous(runs: list[Run]) -> errors.Conflict:
    namespaces = ", ".join(sorted(run.namespace.name for run in runs))
    return errors.Conflict(
        f"Several namespaces have a run of this id: {namespaces}. Choose one with ?namespace=."
    )
