"""Starting and rerunning by thread id, and what is known of a run (seed 002)."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.base import View
from graphs.api.lookups import namespace_for
from graphs.api.serializers import AnyJson
from graphs.api.views import REFUSALS
from graphs.definition import errors, redaction
from graphs.definition.payloads import when
from graphs.models import Graph
from runs.actions.rerun import RerunOptions, rerun
from runs.api.lookups import run_of
from runs.api.runs import NAMESPACE
from runs.api.serializers import LogLineShape, log_line_shape
from runs.core.node_counts import BAD
from runs.engine.answer import WAITS, answer_state
from runs.engine.start import RunOptions, start_outside, start_run
from runs.models import LogLine, Run, State

MAX_LINES = 1000


class StartThreadShape(serializers.Serializer):
    """Without `graph` ("namespace/name", or a name in the namespace) the run is driven from outside: noted, listed, never executed here."""

    thread_id = serializers.CharField(max_length=200, required=False, allow_blank=False)
    sop = serializers.CharField(max_length=1_000_000, allow_blank=True)
    initial_data = serializers.DictField(child=AnyJson())
    run_name = serializers.CharField(max_length=500, required=False, allow_blank=True)
    graph = serializers.CharField(max_length=301, required=False)
    namespace = serializers.CharField(max_length=100, required=False)
    workspace = serializers.CharField(max_length=200, required=False, allow_blank=True)
    metadata = serializers.DictField(child=AnyJson(), required=False)


class StartedThreadShape(serializers.Serializer):
    status = serializers.CharField()
    thread_id = serializers.CharField()
    run_name = serializers.CharField()


class RerunShape(StartedThreadShape):
    parent_thread_id = serializers.CharField()
    rerun_count = serializers.IntegerField()


class RerunAskedShape(serializers.Serializer):
    """`version`: the one that the run had, or the graph's newest one. `inputs`: instead of those that the run had. `from`: `start`, `failed` (what failed
    and what comes after it; the rest is taken over), or `node` (from the node that `node` names). `start_delay` is in milliseconds."""

    inputs = serializers.DictField(child=AnyJson(), required=False)
    version = serializers.ChoiceField(("original", "newest"), required=False, default="original")
    node = serializers.CharField(max_length=200, required=False)
    start_delay = serializers.IntegerField(
        min_value=0, max_value=315_360_000_000, required=False, default=0
    )

    def get_fields(self) -> Any:
        return {
            **super().get_fields(),
            "from": serializers.ChoiceField(
                ("start", "failed", "node"), required=False, default="start"
            ),
        }

    def again(self) -> RerunOptions:
        """Raises Malformed for a node without `from: node`, and the other way round."""
        asked = self.validated_data
        if (asked["from"] == "node") != bool(asked.get("node")):
            raise errors.Malformed("`from: node` names its `node`, and nothing else does.")
        return RerunOptions(
            asked["version"] == "newest",
            asked.get("inputs"),
            asked["from"] == "failed",
            asked.get("node", ""),
            asked["start_delay"] / 1000,
        )


class MetadataShape(serializers.Serializer):
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


class ThreadLogsShape(serializers.Serializer):
    logs = LogLineShape(many=True)
    count = serializers.IntegerField()


class ApprovedShape(serializers.Serializer):
    status = serializers.CharField()


class StartView(View):
    scopes = {"POST": "run"}

    @extend_schema(
        operation_id="start",
        request=StartThreadShape,
        responses={200: StartedThreadShape, **REFUSALS},
    )
    def post(self, request: Request) -> Response:
        """Start a run by thread id. The same id with the same body again gives the same run; with another body 409."""
        asked = StartThreadShape(data=request.data)
        asked.is_valid(raise_exception=True)
        values = dict(asked.validated_data)
        graph, named = values.pop("graph", None), values.pop("namespace", None)
        space, _, name = graph.rpartition("/") if graph else ("", "", "")
        namespace = namespace_for(self.caller, space or named)
        options = RunOptions(
            run_id=values.get("thread_id", ""), name=values.get("run_name", ""), sop=values["sop"], inputs=values["initial_data"],
            workspace=values.get("workspace", ""), metadata=values.get("metadata", {}),
        )  # fmt: skip
        run = (
            start_run(self._graph(namespace, name), options, caller=self.caller)
            if graph
            else start_outside(namespace, options, self.caller)
        )
        return Response(
            {"status": "started", "thread_id": run.run_id, "run_name": run.name or run.run_id}
        )

    @staticmethod
    def _graph(namespace: Any, name: str) -> Graph:
        found = Graph.objects.with_version().filter(namespace=namespace, name=name).first()
        if found is None:
            raise errors.NotFound(
                f"There is no graph {name[:100]!r} in namespace {namespace.name!r}."
            )
        return found


class RerunView(View):
    scopes = {"POST": "run"}

    @extend_schema(
        operation_id="rerun",
        parameters=[NAMESPACE],
        request=RerunAskedShape,
        responses={200: RerunShape, **REFUSALS},
    )
    def post(self, request: Request, thread_id: str) -> Response:
        """Run a run again, with the same inputs unless the body says otherwise."""
        asked = RerunAskedShape(data=request.data or {})
        asked.is_valid(raise_exception=True)
        original = run_of(self.caller, request, thread_id)
        made = rerun(original, self.caller, asked.again())
        number = int(made.run_id.rpartition("_")[2])
        answer = {
            "status": "started",
            "thread_id": made.run_id,
            "run_name": made.name,
            "parent_thread_id": original.run_id,
            "rerun_count": number,
        }
        return Response(answer)


class MetadataView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="run_metadata",
        parameters=[NAMESPACE],
        responses={200: MetadataShape, **REFUSALS},
    )
    def get(self, request: Request, thread_id: str) -> Response:
        """What a run was started with and what became of it."""
        run = run_of(
            self.caller, request, thread_id, Run.objects.for_wire().select_related("parent")
        )
        redaction.hide([run], self.caller.can("payloads", run.namespace_id))
        failed = [node for node, counts in run.node_counts.items() if counts[BAD]]
        return Response(
            {
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
        )


class ThreadLogsView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="run_thread_logs",
        parameters=[
            NAMESPACE,
            OpenApiParameter("limit", int, description=f"1–{MAX_LINES}, default 100"),
        ],
        responses={200: ThreadLogsShape, **REFUSALS},
    )
    def get(self, request: Request, thread_id: str) -> Response:
        """The last lines of a run, oldest first, and how many it has."""
        run = run_of(self.caller, request, thread_id)
        text = request.query_params.get("limit", "100")
        if not (
            text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MAX_LINES
        ):
            raise errors.Malformed(f"limit is a number from 1 to {MAX_LINES}.")
        lines = LogLine.objects.tails([run.pk], int(text))[run.pk]
        redaction.hide(lines, self.caller.can("payloads", run.namespace_id))
        return Response({"logs": [log_line_shape(line) for line in lines], "count": run.log_count})


class ApproveView(View):
    scopes = {"POST": "run"}

    @extend_schema(
        operation_id="approve",
        parameters=[NAMESPACE],
        request=OpenApiTypes.ANY,
        responses={200: ApprovedShape, **REFUSALS},
    )
    def post(self, request: Request, thread_id: str) -> Response:
        """Answer the state that the run waits for; the body, if there is one, is the answer."""
        run = run_of(self.caller, request, thread_id)
        waiting = list(State.objects.filter(WAITS, run=run).order_by("pk")[:2])
        if len(waiting) != 1:
            said = (
                "waits for no answer"
                if not waiting
                else "waits for several answers; answer its states one by one"
            )
            raise errors.Conflict(f"The run {said}.", allowed=[] if not waiting else ["answer"])
        answer_state(
            run,
            waiting[0].pk,
            request.data if request.data not in (None, {}) else True,
            self.caller,
        )
        return Response({"status": "resumed"})
