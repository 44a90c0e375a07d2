"""The Run Manager's JSON API (seed 001): for admins only, over all that they may see."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.base import View
from graphs.api.permissions import AdminOnly
from graphs.api.views import REFUSALS
from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition.names import parse_id
from graphs.definition.payloads import when
from runs.actions.delete import delete_run
from runs.api.runs import NAMESPACE
from runs.core import statuses
from runs.models import Run
from runs.queries import filters, lists, search
from runs.queries.filters import ManagerFilter

MAX_SIZE, MAX_IDS = 200, 200
COLUMNS = ("run_id", "name", "status", "created_at", "username", "workspace")


class RowShape(serializers.Serializer):
    id = serializers.CharField()
    name = serializers.CharField()
    result = serializers.ChoiceField(tuple(statuses.RUN_RESULTS.values()))
    time = serializers.DateTimeField()
    username = serializers.CharField()
    workspace = serializers.CharField(allow_null=True)


class RowsShape(serializers.Serializer):
    runs = RowShape(many=True)
    total = serializers.IntegerField(allow_null=True)
    page = serializers.IntegerField()
    page_size = serializers.IntegerField()
    notices = serializers.ListField(
        child=serializers.CharField(),
        help_text="What of the search was not understood, and searched as text.",
    )


class IdsShape(serializers.Serializer):
    thread_ids = serializers.ListField(
        child=serializers.CharField(max_length=200), min_length=1, max_length=MAX_IDS
    )


class FailedShape(serializers.Serializer):
    thread_id = serializers.CharField()
    error = serializers.CharField()


class DeletedShape(serializers.Serializer):
    deleted_count = serializers.IntegerField()
    failed = FailedShape(many=True)
    missing = serializers.ListField(child=serializers.CharField())


class UsernamesShape(serializers.Serializer):
    usernames = serializers.ListField(child=serializers.CharField())


class WorkspacesShape(serializers.Serializer):
    workspaces = serializers.ListField(child=serializers.CharField())


class AdminView(View):
    permission_classes = [AdminOnly]
    scopes = {"GET": "read", "DELETE": "delete", "POST": "delete"}

    def runs(self) -> Any:
        return Run.objects.visible_to(self.caller)


PAGES = [
    OpenApiParameter(
        "count", str, enum=["none"], description="none: don't count the total; it is null then"
    ),
    OpenApiParameter("page", int, description="from 1"),
    OpenApiParameter("page_size", int, description="1–200, default 50"),
]
FILTERS = [
    OpenApiParameter(name, str, description=each.extra.get("help_text", ""))
    for name, each in ManagerFilter.base_filters.items()
]


class ManagerRunsView(AdminView):
    @extend_schema(
        operation_id="run_manager_list",
        parameters=[*PAGES, *FILTERS],
        responses={200: RowsShape, **REFUSALS},
    )
    def get(self, request: Request) -> Response:
        """All runs that the caller may see, newest first."""
        page, size = (
            parse_id(request.query_params.get("page", "1")),
            parse_id(request.query_params.get("page_size", "50")),
        )
        if page is None or not 1 <= page <= 10**9 or size is None or not 1 <= size <= MAX_SIZE:
            raise errors.Malformed(f"page is a number from 1, page_size one from 1 to {MAX_SIZE}.")
        if (
            unknown := request.query_params.keys()
            - ManagerFilter.base_filters.keys()
            - {"page", "page_size", "count"}
        ):
            raise errors.Malformed(
                [
                    {
                        "loc": ["query", name],
                        "msg": "There is no such filter.",
                        "type": "value_error",
                    }
                    for name in sorted(unknown)
                ]
            )
        runs = filters.found(request.query_params, self.runs())
        rows = lists.run_page(runs, (page - 1) * size, size).values_list(*COLUMNS)
        total = None if request.query_params.get("count") == "none" else self._total(runs, request)
        notices = search.parse(request.query_params.get("search", "")).notices
        return Response(
            {
                "runs": [_row(*row) for row in rows],
                "total": total,
                "page": page,
                "page_size": size,
                "notices": notices,
            }
        )

    def _total(self, runs: Any, request: Request) -> int:
        asked = sorted(
            each
            for each in request.query_params.lists()
            if each[0] not in ("page", "page_size", "count")
        )
        return lists.total(runs, f"manager {self.caller.namespaces} {asked}")

    @extend_schema(
        operation_id="run_manager_delete",
        parameters=[NAMESPACE],
        request=IdsShape,
        responses={200: DeletedShape, **REFUSALS},
    )
    def delete(self, request: Request) -> Response:
        """Delete runs with all that they left. One that can't be deleted is named with its reason, and the others go."""
        asked = IdsShape(data=request.data)
        asked.is_valid(raise_exception=True)
        return Response(
            deleted(
                self.caller,
                asked.validated_data["thread_ids"],
                request.query_params.get("namespace", ""),
            )
        )


class BulkDeleteView(AdminView):
    scopes = {"POST": "delete"}

    @extend_schema(
        operation_id="run_manager_bulk_delete",
        parameters=[NAMESPACE],
        request=IdsShape,
        responses={200: DeletedShape, **REFUSALS},
    )
    def post(self, request: Request) -> Response:
        """The same, for proxies that drop the body of a DELETE."""
        asked = IdsShape(data=request.data)
        asked.is_valid(raise_exception=True)
        return Response(
            deleted(
                self.caller,
                asked.validated_data["thread_ids"],
                request.query_params.get("namespace", ""),
            )
        )


def deleted(caller: Caller, thread_ids: list[str], namespace: str = "") -> dict[str, Any]:
    """Delete these runs, each in a transaction of its own."""
    found: dict[str, list[Run]] = {thread: [] for thread in dict.fromkeys(thread_ids)}
    wanted = Run.objects.visible_to(caller).filter(
        run_id__in=[thread.replace("\x00", "") for thread in found]
    )
    for run in (
        wanted.filter(namespace__name=namespace.replace("\x00", "")) if namespace else wanted
    ).select_related("namespace"):
        found.setdefault(run.run_id, []).append(run)
    count, failed = 0, []
    for thread, named in found.items():
        try:
            if len(named) > 1:
                spaces = ", ".join(sorted(run.namespace.name for run in named))
                raise errors.Conflict(
                    f"Several namespaces have a run of this id: {spaces}. Add ?namespace= with one of them."
                )
            for run in named:
                delete_run(run, caller)
                count += 1
        except errors.StateManagerError as error:
            failed.append({"thread_id": thread, "error": str(error)})
    return {
        "deleted_count": count,
        "failed": failed,
        "missing": [thread for thread, named in found.items() if not named],
    }


def _row(
    run_id: str, name: str, status: str, created_at: Any, username: str, workspace: str
) -> dict[str, Any]:
    return {
        "id": run_id,
        "name": name or run_id,
        "result": statuses.RUN_RESULTS[status],
        "time": when(created_at),
        "username": username,
        "workspace": workspace or None,
    }


class UsernamesView(AdminView):
    @extend_schema(
        operation_id="run_manager_usernames", responses={200: UsernamesShape, **REFUSALS}
    )
    def get(self, request: Request) -> Response:
        """The users that have runs, sorted."""
        return Response({"usernames": lists.distinct(self.caller, "username")})


class WorkspacesView(AdminView):
    @extend_schema(
        operation_id="run_manager_workspaces", responses={200: WorkspacesShape, **REFUSALS}
    )
    def get(self, request: Request) -> Response:
        """The workspaces that have runs, sorted."""
        return Response({"workspaces": lists.distinct(self.caller, "workspace")})
