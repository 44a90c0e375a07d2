"""Runs by thread id: starting, rerunning and approving them, their metadata and last lines."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.lookups import namespace_for
from graphs.api.pagination import MAX_LIMIT, read_limit
from graphs.api.schema import REFUSALS
from graphs.api.viewsets import ViewSet
from graphs.definition import errors, redaction
from graphs.definition.types import JsonObject
from graphs.models import Graph, Namespace
from runs.actions.partial_rerun import CopiedFiles
from runs.actions.recurring import Recurrence, repeat
from runs.actions.rerun import RerunOptions, files_for, rerun
from runs.api.lookups import NAMESPACE, run_of
from runs.api.recurring_reruns import RecurringRerunSerializer
from runs.api.serializers import LogLineSerializer
from runs.api.thread_serializers import (
    ApprovedSerializer,
    MetadataSerializer,
    RerunAskedSerializer,
    RerunSerializer,
    StartedThreadSerializer,
    StartThreadSerializer,
    ThreadLogsSerializer,
)
from runs.engine import concurrency
from runs.engine.answer import WAITS, answer_state
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.models import LogLine, Run, State


class ThreadViewSet(ViewSet):
    lookup_url_kwarg = "thread_id"
    scopes = {
        "start": "run",
        "rerun": "run",
        "approve": "run",
        "metadata": "read",
        "logs": "read",
    }
    bodies = ("start", "rerun", "approve")
    queries = {
        "rerun": ("namespace",),
        "approve": ("namespace",),
        "metadata": ("namespace",),
        "logs": ("namespace", "limit"),
    }

    files: CopiedFiles | None = None

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Copy the files that a rerun takes over."""
        if self.action != "rerun":
            yield
            return
        options = _rerun_options(self.validated(RerunAskedSerializer, may_be_empty=True))
        with files_for(self.get_object(), self.caller, options) as self.files:
            yield

    def get_object(self) -> Run:
        return run_of(self.caller, self.request, self.kwargs["thread_id"])

    @extend_schema(
        operation_id="start",
        request=StartThreadSerializer,
        responses={200: StartedThreadSerializer, **REFUSALS},
    )
    def start(self, request: Request) -> Response:
        """Start a run by thread id.

        Sending the same body with the same id again returns the same run; another body is a 409.
        """
        data = self.validated(StartThreadSerializer)
        with transaction.atomic():  # a run that is refused creates no namespace
            run = self._start(data)
        return Response(
            {"status": _started(run), "thread_id": run.run_id, "run_name": run.name or run.run_id}
        )

    def _start(self, data: JsonObject) -> Run:
        namespace_name, _, graph_name = data.get("graph", "").rpartition("/")
        namespace = namespace_for(self.caller, namespace_name or data.get("namespace"))
        options = RunOptions(
            run_id=data.get("thread_id", ""),
            name=data.get("run_name", ""),
            sop=data["sop"],
            inputs=data["initial_data"],
            workspace=data.get("workspace", ""),
            metadata=data.get("metadata", {}),
            priority=data.get("priority"),
            delay=data["delay_seconds"],
            enqueue=data["enqueue"],
        )
        if "graph" in data:
            return start_run(_graph(namespace, graph_name), options, caller=self.caller)
        return start_outside(namespace, options, self.caller)

    @extend_schema(
        operation_id="rerun",
        parameters=[NAMESPACE],
        request=RerunAskedSerializer,
        responses={200: RerunSerializer, 201: RecurringRerunSerializer, **REFUSALS},
    )
    def rerun(self, request: Request, thread_id: str) -> Response:
        """Run a run again, with the same inputs unless the body has others.

        With a `schedule` it is rerun again and again, from the first due time on: a 201 with the
        recurring rerun.
        """
        data = self.validated(RerunAskedSerializer, may_be_empty=True)
        original = self.get_object()
        if "schedule" in data:
            return self._repeat(original, data)
        run = rerun(original, self.caller, _rerun_options(data), self.files)
        return Response(
            {
                "status": _started(run),
                "thread_id": run.run_id,
                "run_name": run.name,
                "parent_thread_id": (run.parent or original).run_id,
                "rerun_count": int(run.run_id.rpartition("_")[2]),
            }
        )

    def _repeat(self, original: Run, data: JsonObject) -> Response:
        recurrence = Recurrence(
            data["schedule"],
            data.get("time_zone", "UTC"),
            data.get("inputs"),
            data["version"] == "newest",
        )
        recurring = repeat(original, self.caller, recurrence)
        context = {"caller": self.caller}
        return Response(RecurringRerunSerializer(recurring, context=context).data, 201)

    @extend_schema(
        operation_id="approve",
        parameters=[NAMESPACE],
        request=OpenApiTypes.ANY,
        responses={200: ApprovedSerializer, **REFUSALS},
    )
    def approve(self, request: Request, thread_id: str) -> Response:
        """Answer the state that the run waits for. The body is the answer; without one it is true.

        409 if no state or several states wait.
        """
        run = self.get_object()
        answer = True if request.data in (None, {}) else request.data
        answer_state(run, _waiting_state(run).pk, answer, self.caller)
        return Response({"status": "resumed"})

    @extend_schema(
        operation_id="run_metadata",
        parameters=[NAMESPACE],
        responses={200: MetadataSerializer, **REFUSALS},
    )
    @action(detail=True)
    def metadata(self, request: Request, thread_id: str) -> Response:
        """What a run was started with and what became of it."""
        runs = Run.objects.for_wire().select_related("parent")
        run = run_of(self.caller, request, thread_id, runs)
        redaction.hide([run], self.caller.can("payloads", run.namespace_id))
        return Response(MetadataSerializer(run).data)

    @extend_schema(
        operation_id="run_thread_logs",
        parameters=[
            NAMESPACE,
            OpenApiParameter("limit", int, description=f"1–{MAX_LIMIT}, default 100"),
        ],
        responses={200: ThreadLogsSerializer, **REFUSALS},
    )
    @action(detail=True)
    def logs(self, request: Request, thread_id: str) -> Response:
        """The last lines of a run, oldest first, and the number of all its lines."""
        run = self.get_object()
        lines = LogLine.objects.tails([run.pk], read_limit(request, 100))[run.pk]
        redaction.hide(lines, self.caller.can("payloads", run.namespace_id))
        return Response({"logs": LogLineSerializer(lines, many=True).data, "count": run.log_count})


def _started(run: Run) -> str:
    """What became of a start: "started", or "cancelled" for a run that was skipped."""
    return run.status if concurrency.is_skipped(run) else "started"


def _rerun_options(data: JsonObject) -> RerunOptions:
    return RerunOptions(
        newest=data["version"] == "newest",
        inputs=data.get("inputs"),
        failed=data["from"] == "failed",
        node=data.get("node", ""),
        delay=data["delay_seconds"],
    )


def _graph(namespace: Namespace, name: str) -> Graph:
    graph = Graph.objects.with_version().filter(namespace=namespace, name=name).first()
    if graph is None:
        raise errors.NotFound(f"There is no graph {name[:100]!r} in namespace {namespace.name!r}.")
    return graph


def _waiting_state(run: Run) -> State:
    """The one state of the run that waits for an answer. Raises Conflict otherwise."""
    waiting = State.objects.filter(WAITS, run=run).order_by("pk")[:2]
    if not waiting:
        raise errors.Conflict("The run waits for no answer.", allowed=[])
    if len(waiting) > 1:
        raise errors.Conflict(
            "The run waits for several answers; answer its states one by one.", allowed=["answer"]
        )
    return waiting[0]
