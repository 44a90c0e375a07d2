"""A run as one document over REST, and the reports of outside programs about their own runs."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.schema import REFUSALS
from graphs.api.serializers import AnyJson
from graphs.definition import errors
from graphs.definition.names import parse_id
from runs.api.lookups import NAMESPACE, revision_tag, tagged
from runs.api.viewsets import OfRunViewSet
from runs.external import documents, updates
from runs.external.run_state import KEPT_ACTIONS, VERSION, RunState, RunStatus

AT = OpenApiParameter(
    "at",
    str,
    description=(
        "The id of one of the run's checkpoints in `:run-state`; without it, "
        "the document describes the run as it is now."
    ),
)

CLAIM = OpenApiParameter(
    "claim",
    int,
    description=(
        "The claim by which the program holds the run, if it took it from the queue; "
        "409 once another program does."
    ),
)


class NodeStateSerializer(serializers.Serializer):
    """Times are seconds since 1970; 0 means never."""

    node_id = serializers.CharField(required=False)
    status = serializers.CharField(default="pending")
    input_data = serializers.DictField(default=dict)
    output_data = serializers.DictField(default=dict)
    started_at = serializers.FloatField(default=0)
    finished_at = serializers.FloatField(default=0)
    error = serializers.CharField(allow_null=True, default=None)
    attempts = serializers.IntegerField(default=0)
    idempotency_key = serializers.CharField(default="")


class RunStateSerializer(serializers.Serializer):
    """A run's document.

    Siblings of a fan-out have keys of their own in `node_states`; the last 50 actions are kept.
    """

    run_id = serializers.CharField(required=False)
    session_id = serializers.CharField(default="")
    status = serializers.ChoiceField([status.value for status in RunStatus], default="pending")
    purpose = serializers.CharField(default="")
    current_node = serializers.CharField(default="")
    current_step = serializers.IntegerField(default=0)
    max_steps = serializers.IntegerField(default=20)
    data = serializers.DictField(default=dict)  # type: ignore[assignment]
    node_states = serializers.DictField(child=NodeStateSerializer(), default=dict)
    completed_nodes = serializers.ListField(child=serializers.CharField(), default=list)
    action_history = serializers.ListField(
        child=serializers.DictField(), default=list, help_text=f"The last {KEPT_ACTIONS}."
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


class MarkSerializer(serializers.Serializer):
    node = serializers.CharField(max_length=updates.MAX_NAME)
    event = serializers.ChoiceField(("started", "completed", "failed"))
    output = serializers.DictField(required=False)
    error = serializers.CharField(default="", allow_blank=True)


class RunDocumentViewSet(OfRunViewSet):
    lookup_url_kwarg = "run_id"
    # Reports need the right to start runs, or the claim of a worker, as `updates` checks.
    scopes = {"checkpoint": "read", "put_checkpoint": "read", "mark": "read"}
    bodies = ("put_checkpoint", "mark")
    queries = {"checkpoint": ("at",), "put_checkpoint": ("claim",), "mark": ("claim",)}

    @extend_schema(
        operation_id="runs_checkpoint",
        parameters=[NAMESPACE, AT],
        responses={200: RunStateSerializer, **REFUSALS},
    )
    @action(detail=True)
    def checkpoint(self, request: Request, run_id: str) -> Response:
        """Any run as one document. It contains payloads, so it needs the right to see them."""
        run = self.run()
        self.caller.require("payloads", run.namespace_id)
        document = documents.run_state(run, request.query_params.get("at", ""))
        return tagged(document.to_dict(), revision_tag([(run.pk, run.revision)]))

    @extend_schema(
        operation_id="runs_checkpoint_put",
        parameters=[NAMESPACE, CLAIM],
        request=RunStateSerializer,
        responses={200: RunStateSerializer, **REFUSALS},
    )
    @checkpoint.mapping.put
    def put_checkpoint(self, request: Request, run_id: str) -> Response:
        """Store how far an outside program is with its run, and return the stored document.

        409 for a run with a graph, and for one that another program holds.
        """
        run = self.run()
        if not isinstance(request.data, dict):
            raise errors.Malformed("The document must be an object.")
        state = RunState.from_dict(request.data)
        document = updates.put_run_state(run, state, self.caller, _claim_of(request))
        return Response(document.to_dict())

    @extend_schema(
        operation_id="runs_mark",
        parameters=[NAMESPACE, CLAIM],
        request=MarkSerializer,
        responses={200: RunStateSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def mark(self, request: Request, run_id: str) -> Response:
        """Report one node of a run that an outside program executes."""
        report = self.validated(MarkSerializer)
        document = updates.mark(self.run(), caller=self.caller, claim=_claim_of(request), **report)
        return Response(document.to_dict())


def _claim_of(request: Request) -> int | None:
    """The number of the claim in the query; None without one."""
    text = request.query_params.get("claim")
    if text is None:
        return None
    number = parse_id(text)
    if number is None:
        raise errors.Malformed("claim is the number with which the run was claimed.")
    return number
