"""A run as one document over REST: what a program needs to go on with it (seed 003), and the reports of programs that drive runs themselves."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.base import View
from graphs.api.serializers import AnyJson
from graphs.api.views import REFUSALS
from graphs.definition import errors
from runs.api.lookups import revision_of, run_of, tagged
from runs.api.runs import NAMESPACE
from runs.external import documents, updates
from runs.external.run_state import KEPT_ACTIONS, VERSION, RunState, RunStatus

AT = OpenApiParameter(
    "at",
    str,
    description="the id of one of the run's checkpoints in `:run-state`; without it, as the run is now",
)


class NodeStateShape(serializers.Serializer):
    """Times are seconds since 1970, 0 for never."""

    node_id = serializers.CharField(required=False)
    status = serializers.CharField(default="pending")
    input_data = serializers.DictField(default=dict)
    output_data = serializers.DictField(default=dict)
    started_at = serializers.FloatField(default=0)
    finished_at = serializers.FloatField(default=0)
    error = serializers.CharField(allow_null=True, default=None)
    attempts = serializers.IntegerField(default=0)
    idempotency_key = serializers.CharField(default="")


class RunStateShape(serializers.Serializer):
    """A run's document. Siblings of a fan-out have keys of their own in `node_states`; the last 50 actions are kept."""

    run_id = serializers.CharField(required=False)
    session_id = serializers.CharField(default="")
    status = serializers.ChoiceField([status.value for status in RunStatus], default="pending")
    purpose = serializers.CharField(default="")
    current_node = serializers.CharField(default="")
    current_step = serializers.IntegerField(default=0)
    max_steps = serializers.IntegerField(default=20)
    data = serializers.DictField(default=dict)  # type: ignore[assignment]
    node_states = serializers.DictField(child=NodeStateShape(), default=dict)
    completed_nodes = serializers.ListField(child=serializers.CharField(), default=list)
    action_history = serializers.ListField(
        child=serializers.DictField(), default=list, help_text=f"the last {KEPT_ACTIONS}"
    )
    started_at = serializers.FloatField(default=0)
    updated_at = serializers.FloatField(default=0)
    finished_at = serializers.FloatField(default=0)
    tool_results_cache = serializers.DictField(default=dict)
    heuristic_count_at_checkpoint = serializers.IntegerField(default=0)
    experience_count_at_checkpoint = serializers.IntegerField(default=0)
    metadata = serializers.DictField(default=dict)
    pending_actions = serializers.ListField(child=serializers.DictField(), default=list)
    memory_snapshots = serializers.ListField(child=AnyJson(), default=list)
    version = serializers.IntegerField(default=1, max_value=VERSION)


class MarkShape(serializers.Serializer):
    node = serializers.CharField(max_length=updates.MAX_NAME, trim_whitespace=False)
    event = serializers.ChoiceField(("started", "completed", "failed"))
    output = serializers.DictField(default=dict)
    error = serializers.CharField(default="", allow_blank=True)


class CheckpointView(View):
    scopes = {"GET": "read", "PUT": "run"}

    @extend_schema(
        operation_id="runs_checkpoint",
        parameters=[NAMESPACE, AT],
        responses={200: RunStateShape, **REFUSALS},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """The run as one document, for every run; it holds payloads, so it needs the right to see them."""
        run = run_of(self.caller, request, run_id)
        self.caller.require("payloads", run.namespace_id)
        return tagged(
            documents.run_state(run, request.query_params.get("at", "")).to_dict(),
            revision_of([(run.pk, run.revision)]),
        )

    @extend_schema(
        operation_id="runs_checkpoint_put",
        parameters=[NAMESPACE],
        request=RunStateShape,
        responses={200: RunStateShape, **REFUSALS},
    )
    def put(self, request: Request, run_id: str) -> Response:
        """Note where an outside program is with its run; 409 for a run with a graph. The document comes back as it is stored."""
        run = run_of(self.caller, request, run_id)
        if not isinstance(request.data, dict):
            raise errors.Malformed("The document is an object.")
        return Response(
            updates.put_run_state(run, RunState.from_dict(request.data), self.caller).to_dict()
        )


class MarkView(View):
    scopes = {"POST": "run"}

    @extend_schema(
        operation_id="runs_mark",
        parameters=[NAMESPACE],
        request=MarkShape,
        responses={200: RunStateShape, **REFUSALS},
    )
    def post(self, request: Request, run_id: str) -> Response:
        """Report one node of a run that an outside program drives."""
        asked = MarkShape(data=request.data)
        asked.is_valid(raise_exception=True)
        run = run_of(self.caller, request, run_id)
        return Response(updates.mark(run, caller=self.caller, **asked.validated_data).to_dict())
