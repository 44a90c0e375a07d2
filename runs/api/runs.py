"""Runs over REST: reading, deleting, cancelling, pausing, resuming and retrying them."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.pagination import AfterPagination
from graphs.api.schema import REFUSALS
from graphs.definition import errors, redaction
from graphs.definition.names import parse_id
from runs.actions.delete import DELETE_RIGHT, delete_run
from runs.api.filters import ManagerFilterBackend
from runs.api.lookups import NAMESPACE, is_unchanged, not_modified, revision_tag, tagged
from runs.api.pagination import CURSOR_PARAMETERS, RunCursorPagination
from runs.api.serializers import (
    NOT_SHOWN,
    LogLineSerializer,
    LogPageSerializer,
    RunPageSerializer,
    RunSerializer,
)
from runs.api.viewsets import OfRunViewSet
from runs.core import statuses
from runs.engine import control, retry
from runs.models import LogLine, Run
from runs.models.querysets import RunQuerySet
from runs.queries.filters import ManagerFilter
from runs.queries.run_watch import MAX_SECONDS, TooManyWaiters, watch

WAIT_PARAMETERS = (
    OpenApiParameter("until", str, description="Statuses, or groups of them. Default: ended."),
    OpenApiParameter("timeout", int, description=f"Seconds, 0–{MAX_SECONDS}, default 30."),
)

ACTIVE = OpenApiParameter(
    "active",
    enum=("keep", "delete"),
    description="delete: cancel and delete the run if it is active. keep, the default: refuse it.",
)


class RunViewSet(OfRunViewSet):
    lookup_url_kwarg = "run_id"
    pagination_class = RunCursorPagination
    filter_backends = [ManagerFilterBackend]
    filterset_class = ManagerFilter
    other_parameters = CURSOR_PARAMETERS
    scopes = {
        "list": "read",
        "retrieve": "read",
        "destroy": DELETE_RIGHT,
        "cancel": "run",
        "pause": "run",
        "resume": "run",
        "retry": "run",
        "logs": "read",
        "wait": "read",
    }
    queries = {"destroy": ("active",), "wait": ("until", "timeout")}

    def get_queryset(self) -> RunQuerySet:
        return Run.objects.visible_to(self.caller).for_wire().defer(*NOT_SHOWN)

    @extend_schema(operation_id="runs_list", responses={200: RunPageSerializer, **REFUSALS})
    def list(self, request: Request) -> Response:
        """The runs that the caller may see, newest first unless `ordering` says otherwise.

        The filters are those of the Run Manager's list. Archived runs are left out unless
        `archived` asks for them.
        """
        runs = self.page(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.runs_json(runs).data)

    @extend_schema(
        operation_id="runs_read",
        parameters=[NAMESPACE],
        responses={200: RunSerializer, 304: None, **REFUSALS},
    )
    def retrieve(self, request: Request, run_id: str) -> Response:
        """One run; 304 while it has not changed."""
        if request.headers.get("If-None-Match"):
            light = self.run(Run.objects.only("pk", "revision"))
            tag = revision_tag([(light.pk, light.revision)])
            if is_unchanged(request, tag):
                return not_modified(tag)
        run = self.run()
        return tagged(self.run_json(run).data, revision_tag([(run.pk, run.revision)]))

    @extend_schema(
        operation_id="runs_wait",
        parameters=[NAMESPACE, *WAIT_PARAMETERS],
        responses={200: RunSerializer, **REFUSALS},
    )
    @action(detail=True)
    def wait(self, request: Request, run_id: str) -> Response:
        """The run, as soon as it has a status of `until` or has ended, or when the time is over.

        Its `status` says which. 429 while too many requests wait.
        """
        wanted, seconds = _wait_of(request)
        run = self.run()
        if run.status not in wanted:
            try:
                watch.wait(run.pk, wanted, seconds)
            except TooManyWaiters:
                raise Throttled(1, "Too many requests wait for runs. Ask again later.") from None
            run = self.run()
        return Response(self.run_json(run).data)

    @extend_schema(
        operation_id="runs_delete",
        parameters=[NAMESPACE, ACTIVE],
        responses={204: None, **REFUSALS},
    )
    def destroy(self, request: Request, run_id: str) -> Response:
        """Delete a run that has ended, with its states, logs and files.

        An active run is a 409, unless `active=delete` says that it is cancelled and deleted.
        """
        active = request.query_params.get("active", "keep")
        if active not in ("keep", "delete"):
            raise errors.Malformed("active is keep or delete.")
        delete_run(self.run(), self.caller, even_active=active == "delete")
        return Response(status=204)

    @extend_schema(
        operation_id="runs_cancel_create",
        parameters=[NAMESPACE],
        request=None,
        responses={200: RunSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, run_id: str) -> Response:
        """Cancel the run. 409 names what the run's status allows."""
        return Response(self.run_json(control.cancel_run(self.run(), self.caller)).data)

    @extend_schema(
        operation_id="runs_pause_create",
        parameters=[NAMESPACE],
        request=None,
        responses={200: RunSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, run_id: str) -> Response:
        """Pause the run. 409 names what the run's status allows."""
        return Response(self.run_json(control.pause_run(self.run(), self.caller)).data)

    @extend_schema(
        operation_id="runs_resume_create",
        parameters=[NAMESPACE],
        request=None,
        responses={200: RunSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, run_id: str) -> Response:
        """Resume a paused run. 409 names what the run's status allows."""
        return Response(self.run_json(control.resume_run(self.run(), self.caller)).data)

    @extend_schema(
        operation_id="runs_retry_create",
        parameters=[NAMESPACE],
        request=None,
        responses={200: RunSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, run_id: str) -> Response:
        """Try every state again that failed for good or was cancelled."""
        run = self.run()
        retry.retry_failed(run, self.caller)
        run.refresh_from_db()
        return Response(self.run_json(run).data)

    @extend_schema(
        operation_id="runs_logs",
        parameters=[NAMESPACE],
        responses={200: LogPageSerializer, **REFUSALS},
    )
    @action(detail=True, pagination_class=AfterPagination, filter_backends=[])
    def logs(self, request: Request, run_id: str) -> Response:
        """All lines of a run, oldest first.

        Until the run ends, `next` isn't null: it leads to the lines that are yet to come.
        """
        run = self.run()
        lines = self.page(LogLine.objects.filter(run=run))
        redaction.hide(lines, self.sees_payloads(run))
        response = self.get_paginated_response({"logs": LogLineSerializer(lines, many=True).data})
        if not run.ended and response.data["next"] is None:
            after = request.query_params.get("after", "0")
            response.data["next"] = str(lines[-1].pk) if lines else after
        return response


def _wait_of(request: Request) -> tuple[set[str], int]:
    """The statuses that the query waits for, those of ended runs among them, and the seconds."""
    wanted = set(statuses.ENDED_RUNS)
    for word in request.query_params.get("until", "ended").lower().split(","):
        if word not in statuses.RUN_WORDS:
            raise errors.Malformed(f"until is one of {', '.join(statuses.RUN_WORDS)}.")
        wanted.update(statuses.RUN_WORDS[word])
    seconds = parse_id(request.query_params.get("timeout", "30"))
    if seconds is None or seconds > MAX_SECONDS:
        raise errors.Malformed(f"timeout is a number of seconds from 0 to {MAX_SECONDS}.")
    return wanted, seconds
