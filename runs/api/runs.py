"""Starting, watching and steering runs over REST (seed 004)."""

from typing import Any

from django.core.files.storage import default_storage
from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.base import View
from graphs.api.lookups import dataset_of, graph_of
from graphs.api.views import REFUSALS, GraphView
from graphs.auth.callers import Caller
from graphs.definition import errors, redaction
from graphs.definition.names import parse_id
from runs.actions.delete import DELETE_RIGHT, delete_graph, delete_run
from runs.api import serializers
from runs.api.lookups import not_modified, revision_of, run_of, state_id, tagged, unchanged
from runs.engine import answer, control, retry
from runs.engine.start import RunOptions, start_run
from runs.models import LogLine, Run, State

MAX_PAGE = 1000
NAMESPACE = OpenApiParameter(
    "namespace", str, description="chooses when several namespaces have a run of this id"
)
LIMIT = OpenApiParameter("limit", int, description=f"1–{MAX_PAGE}, default 100")
AFTER = OpenApiParameter("after", str, description="the `next` of the page before")


class GraphWithRunsView(GraphView):
    @extend_schema(operation_id="graphs_delete", responses={204: None, **REFUSALS})
    def delete(self, request: Request, graph_id: str) -> Response:
        """Delete a graph with its versions and all its runs."""
        delete_graph(graph_of(self.caller, graph_id), self.caller)
        return Response(status=204)


class RunGraphView(View):
    scopes = {"POST": "run"}

    @extend_schema(
        operation_id="graphs_run",
        parameters=[OpenApiParameter("dataset_id", int)],
        request=serializers.StartShape,
        responses={200: serializers.StartedShape, **REFUSALS},
    )
    def post(self, request: Request, graph_id: str) -> Response:
        """Queue a run and return at once. The same run_id with the same body again gives the same run."""
        graph = graph_of(self.caller, graph_id)
        asked = serializers.StartShape(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = request.query_params.get("dataset_id")
        dataset = dataset_of(self.caller, wanted) if wanted else None
        if dataset and dataset.namespace_id != graph.namespace_id:
            raise errors.NotFound(f"The namespace {graph.namespace} has no dataset {wanted!r}.")
        values = dict(asked.validated_data)
        options = RunOptions(delay=values.pop("start_delay", 0) / 1000, **values)
        return Response(serializers.started_shape(start_run(graph, options, dataset, self.caller)))


class RunsOfGraphView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="graphs_runs",
        parameters=[LIMIT],
        responses={200: serializers.RunShape(many=True), 304: None, **REFUSALS},
    )
    def get(self, request: Request, graph_id: str) -> Response:
        """The newest runs of a graph, newest first; 304 while none of them has changed."""
        graph = graph_of(self.caller, graph_id)
        limit = limit_of(request, 50, 200)
        found = Run.objects.filter(graph=graph).order_by("-id")
        tag = revision_of(found.values_list("pk", "revision")[:limit])
        if unchanged(request, tag):
            return not_modified(tag)
        runs = list(found.for_wire()[:limit])
        tails = LogLine.objects.tails([run.pk for run in runs], serializers.TAIL_LINES)
        for lines in tails.values():
            redaction.hide(lines, self.caller.can("payloads", graph.namespace_id))
        return tagged([serializers.run_shape(run, tails[run.pk]) for run in runs], tag)


class RunView(View):
    scopes = {"GET": "read", "DELETE": DELETE_RIGHT}

    @extend_schema(
        operation_id="runs_read",
        parameters=[NAMESPACE],
        responses={200: serializers.RunShape, 304: None, **REFUSALS},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """One run; 304 while it has not changed."""
        if request.headers.get("If-None-Match"):
            light = run_of(self.caller, request, run_id, Run.objects.only("pk", "revision"))
            if unchanged(request, tag := revision_of([(light.pk, light.revision)])):
                return not_modified(tag)
        run = run_of(self.caller, request, run_id)
        tail = _tail(self.caller, run)
        return tagged(serializers.run_shape(run, tail), revision_of([(run.pk, run.revision)]))

    @extend_schema(
        operation_id="runs_delete", parameters=[NAMESPACE], responses={204: None, **REFUSALS}
    )
    def delete(self, request: Request, run_id: str) -> Response:
        """Delete a run that has ended, with its states, logs and files."""
        delete_run(run_of(self.caller, request, run_id), self.caller)
        return Response(status=204)


class SteerView(View):
    """POST one of the verbs that move a run."""

    scopes = {"POST": "run"}
    verb: Any = None

    @extend_schema(
        parameters=[NAMESPACE], request=None, responses={200: serializers.RunShape, **REFUSALS}
    )
    def post(self, request: Request, run_id: str) -> Response:
        """Move the run; 409 names what is allowed."""
        run = self.verb(run_of(self.caller, request, run_id), self.caller)
        return Response(serializers.run_shape(run, _tail(self.caller, run)))


class CancelView(SteerView):
    verb = staticmethod(control.cancel_run)


class PauseView(SteerView):
    verb = staticmethod(control.pause_run)


class ResumeView(SteerView):
    verb = staticmethod(control.resume_run)


class RetryView(SteerView):
    """POST to try again what failed for good or was cancelled."""

    @staticmethod
    def verb(run: Run, caller: Caller) -> Run:
        retry.retry_failed(run, caller)
        run.refresh_from_db()
        return run


class LogsView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="runs_logs",
        parameters=[NAMESPACE, LIMIT, AFTER],
        responses={200: serializers.LogPageShape, **REFUSALS},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """All lines of a run, oldest first. `next` leads on, also to lines that don't exist yet."""
        run, limit = run_of(self.caller, request, run_id), limit_of(request, 100)
        after = _after_line(request)
        lines = list(LogLine.objects.filter(run=run, pk__gt=after).order_by("pk")[:limit])
        redaction.hide(lines, self.caller.can("payloads", run.namespace_id))
        more = len(lines) == limit or not run.ended
        return Response(
            {
                "logs": [serializers.log_line_shape(line) for line in lines],
                "next": str(lines[-1].pk if lines else after) if more else None,
            }
        )


class StatesView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="runs_states",
        parameters=[NAMESPACE, LIMIT, AFTER],
        responses={200: serializers.StatePageShape, **REFUSALS},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """The states of a run in the order in which they were made."""
        run, limit = run_of(self.caller, request, run_id), limit_of(request, 100)
        states = run.states.order_by("pk")
        if after := request.query_params.get("after"):
            states = states.filter(pk__gt=state_id(after))
        page = list(states[:limit])
        State.objects.fill_inputs(page)
        redaction.hide(page, self.caller.can("payloads", run.namespace_id))
        return Response(
            {
                "states": [serializers.state_shape(state) for state in page],
                "next": str(page[-1].pk) if len(page) == limit else None,
            }
        )


class AnswerView(View):
    scopes = {"POST": "run"}

    @extend_schema(
        operation_id="runs_answer",
        parameters=[NAMESPACE],
        request=OpenApiTypes.ANY,
        responses={200: serializers.StateShape, **REFUSALS},
    )
    def post(self, request: Request, run_id: str, state: str) -> Response:
        """Answer a state that waits for a person; the body is the answer."""
        run = run_of(self.caller, request, run_id)
        answered = answer.answer_state(run, state_id(state), request.data, self.caller)
        redaction.hide([answered], self.caller.can("payloads", run.namespace_id))
        return Response(serializers.state_shape(answered))


class ArtifactsView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="runs_artifacts",
        parameters=[NAMESPACE],
        responses={200: serializers.ArtifactsShape, **REFUSALS},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """The files that a run made."""
        run = run_of(self.caller, request, run_id)
        return Response(
            {
                "artifacts": [
                    serializers.artifact_shape(run, artifact) for artifact in run.artifacts.all()
                ]
            }
        )


class ArtifactView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="runs_artifact",
        parameters=[NAMESPACE],
        responses={(200, "application/octet-stream"): bytes, **REFUSALS},
    )
    def get(self, request: Request, run_id: str, artifact: str) -> Any:
        """Download one file."""
        run = run_of(self.caller, request, run_id)
        self.caller.require("payloads", run.namespace_id)
        found = run.artifacts.filter(pk=parse_id(artifact) or 0).first()
        if found is None or not default_storage.exists(found.file):
            raise errors.NotFound(f"The run has no artifact {artifact[:50]!r}.")
        return FileResponse(
            default_storage.open(found.file, "rb"),
            as_attachment=True,
            filename=found.name,
            content_type="application/octet-stream",
        )


def _tail(caller: Caller, run: Run) -> list[LogLine]:
    lines = LogLine.objects.tails([run.pk], serializers.TAIL_LINES)[run.pk]
    redaction.hide(lines, caller.can("payloads", run.namespace_id))
    return lines


def limit_of(request: Request, default: int, most: int = MAX_PAGE) -> int:
    limit = parse_id(request.query_params.get("limit", str(default)))
    if limit is None or not 1 <= limit <= most:
        raise errors.Malformed(f"limit is a number from 1 to {most}.")
    return limit


def _after_line(request: Request) -> int:
    after = parse_id(request.query_params.get("after", "0"))
    if after is None:
        raise errors.Malformed("after is the `next` of a former page.")
    return after
