"""Runs by thread id: starting, rerunning and approving them, their metadata and last lines."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.fields import Field
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.lookups import namespace_for
from graphs.api.pagination import MAX_LIMIT, read_limit
from graphs.api.schema import REFUSALS
from graphs.api.serializers import AnyJson
from graphs.api.viewsets import ViewSet
from graphs.definition import errors, redaction
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from graphs.models import Graph, Namespace
from runs.actions.rerun import RerunOptions, rerun
from runs.api.lookups import NAMESPACE, run_of
from runs.api.serializers import MAX_START_DELAY, LogLineSerializer
from runs.core.node_counts import BAD
from runs.engine.answer import WAITS, answer_state
from runs.engine.start import RunOptions, start_outside, start_run
from runs.models import LogLine, Run, State


class StartThreadSerializer(serializers.Serializer):
    """`graph` is "namespace/name", or a name in the namespace.

    Without it an outside program executes the run: here it is only recorded and listed.
    """

    thread_id = serializers.CharField(max_length=200, required=False, allow_blank=False)
    sop = serializers.CharField(max_length=1_000_000, allow_blank=True)
    initial_data = serializers.DictField(child=AnyJson())
    run_name = serializers.CharField(max_length=500, required=False, allow_blank=True)
    graph = serializers.CharField(max_length=301, required=False)
    namespace = serializers.CharField(max_length=100, required=False)
    workspace = serializers.CharField(max_length=200, required=False, allow_blank=True)
    metadata = serializers.DictField(child=AnyJson(), required=False)


class StartedThreadSerializer(serializers.Serializer):
    status = serializers.CharField()
    thread_id = serializers.CharField()
    run_name = serializers.CharField()


class RerunSerializer(StartedThreadSerializer):
    parent_thread_id = serializers.CharField()
    rerun_count = serializers.IntegerField()


class RerunAskedSerializer(serializers.Serializer):
    """How to run a run again.

    `version` is the one that the run had or the graph's newest one. `inputs` replace those that the
    run had. `from` is `start`, `failed` (what failed and everything after it; the rest is taken
    over) or `node` (from the node that `node` names). `start_delay` is in milliseconds.
    """

    inputs = serializers.DictField(child=AnyJson(), required=False)
    version = serializers.ChoiceField(("original", "newest"), required=False, default="original")
    node = serializers.CharField(max_length=200, required=False)
    start_delay = serializers.IntegerField(
        min_value=0, max_value=MAX_START_DELAY, required=False, default=0
    )

    def get_fields(self) -> dict[str, Field]:
        """Adds `from`, which can't be the name of a class attribute."""
        choices = ("start", "failed", "node")
        start = serializers.ChoiceField(choices, required=False, default="start")
        return {**super().get_fields(), "from": start}

    def validate(self, attrs: JsonObject) -> JsonObject:
        """Raises Malformed for a node without `from: node`, and the other way round."""
        if (attrs["from"] == "node") != bool(attrs.get("node")):
            raise errors.Malformed("`node` is required with `from: node`, and only allowed there.")
        return attrs


class MetadataSerializer(serializers.Serializer):
    thread_id = serializers.CharField()
    run_name = serializers.CharField()
    sop = serializers.CharField()
    initial_data = AnyJson()
    created_at = serializers.DateTimeField()
    parent_thread_id = serializers.CharField(allow_null=True)
    rerun_count = serializers.IntegerField()
    metadata = AnyJson()
    status = serializers.CharField()
    error_message = serializers.CharField(allow_null=True)
    failed_skill = serializers.CharField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)

    def to_representation(self, run: Run) -> JsonObject:
        failed = [node for node, counts in run.node_counts.items() if counts[BAD]]
        return {
            "thread_id": run.run_id,
            "run_name": run.name or run.run_id,
            "sop": run.sop,
            "initial_data": run.initial_data,
            "created_at": when(run.created_at),
            "parent_thread_id": run.parent.run_id if run.parent else None,
            "rerun_count": run.rerun_count,
            "metadata": run.metadata,
            "status": run.status,
            "error_message": run.error_message or None,
            "failed_skill": failed[0] if failed else None,
            "completed_at": when(run.finished_at),
        }


class ThreadLogsSerializer(serializers.Serializer):
    logs = LogLineSerializer(many=True)
    count = serializers.IntegerField()


class ApprovedSerializer(serializers.Serializer):
    status = serializers.CharField()


class ThreadViewSet(ViewSet):
    lookup_url_kwarg = "thread_id"
    scopes = {
        "start": "run",
        "rerun": "run",
        "approve": "run",
        "metadata": "read",
        "logs": "read",
    }

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
        namespace_name, _, graph_name = data.get("graph", "").rpartition("/")
        namespace = namespace_for(self.caller, namespace_name or data.get("namespace"))
        options = RunOptions(
            run_id=data.get("thread_id", ""),
            name=data.get("run_name", ""),
            sop=data["sop"],
            inputs=data["initial_data"],
            workspace=data.get("workspace", ""),
            metadata=data.get("metadata", {}),
        )
        if "graph" in data:
            run = start_run(_graph(namespace, graph_name), options, caller=self.caller)
        else:
            run = start_outside(namespace, options, self.caller)
        return Response(
            {"status": "started", "thread_id": run.run_id, "run_name": run.name or run.run_id}
        )

    @extend_schema(
        operation_id="rerun",
        parameters=[NAMESPACE],
        request=RerunAskedSerializer,
        responses={200: RerunSerializer, **REFUSALS},
    )
    def rerun(self, request: Request, thread_id: str) -> Response:
        """Run a run again, with the same inputs unless the body has others."""
        data = self.validated(RerunAskedSerializer, may_be_empty=True)
        original = self.get_object()
        options = RerunOptions(
            newest=data["version"] == "newest",
            inputs=data.get("inputs"),
            failed=data["from"] == "failed",
            node=data.get("node", ""),
            delay=data["start_delay"] / 1000,
        )
        run = rerun(original, self.caller, options)
        return Response(
            {
                "status": "started",
                "thread_id": run.run_id,
                "run_name": run.name,
                "parent_thread_id": original.run_id,
                "rerun_count": int(run.run_id.rpartition("_")[2]),
            }
        )

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
