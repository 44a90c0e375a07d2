"""Runs over REST: reading, deleting, cancelling, pausing, resuming and retrying them."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.pagination import AfterPagination
from graphs.api.schema import REFUSALS
from graphs.definition import errors, redaction
from runs.actions.delete import DELETE_RIGHT, delete_run
from runs.api.lookups import NAMESPACE, is_unchanged, not_modified, revision_tag, tagged
from runs.api.serializers import LogLineSerializer, LogPageSerializer, RunSerializer
from runs.api.viewsets import OfRunViewSet
from runs.engine import control, retry
from runs.models import LogLine, Run

ACTIVE = OpenApiParameter(
    "active",
    enum=("keep", "delete"),
    description="delete: cancel and delete the run if it is active. keep, the default: refuse it.",
)


class RunViewSet(OfRunViewSet):
    lookup_url_kwarg = "run_id"
    scopes = {
        "retrieve": "read",
        "destroy": DELETE_RIGHT,
        "cancel": "run",
        "pause": "run",
        "resume": "run",
        "retry": "run",
        "logs": "read",
    }

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
    @action(detail=True, pagination_class=AfterPagination)
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
