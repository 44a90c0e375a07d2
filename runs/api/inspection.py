"""A closer look at runs over REST: the diagram, the bundle, comparison, lineage, wait reasons."""

from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.schema import REFUSALS
from graphs.api.serializers import AnyJson
from graphs.definition import errors
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from runs.api.lookups import NAMESPACE, run_of, state_id
from runs.api.metrics import RunMetricsSerializer
from runs.api.viewsets import OfRunViewSet
from runs.models import AuditEntry, Run
from runs.queries import bundle, compare, diagram, events, lineage, metrics, wait_reasons


class DifferenceSerializer(serializers.Serializer):
    """`sign`: + only the second run has it, - only the first, ~ both, with different values."""

    path = serializers.CharField()
    sign = serializers.ChoiceField(("+", "-", "~"))
    a = AnyJson()
    b = AnyJson()


class NodePairSerializer(serializers.Serializer):
    node = serializers.CharField()
    a = serializers.CharField()
    b = serializers.CharField()
    same_outputs = serializers.BooleanField()
    same = serializers.BooleanField()

    def to_representation(self, pair: compare.NodePair) -> JsonObject:
        return {
            "node": pair.node,
            "a": pair.a.verdict,
            "b": pair.b.verdict,
            "same_outputs": pair.same_outputs,
            "same": pair.same,
        }


class ComparisonSerializer(serializers.Serializer):
    summary = serializers.ListField(child=serializers.CharField())
    inputs = DifferenceSerializer(many=True)
    definition = DifferenceSerializer(many=True)
    nodes = NodePairSerializer(many=True)
    divergence = serializers.CharField(allow_null=True)

    def to_representation(self, comparison: compare.Comparison) -> JsonObject:
        divergence = comparison.divergence
        return {
            "summary": comparison.summary,
            "inputs": DifferenceSerializer(comparison.inputs, many=True).data,
            "definition": DifferenceSerializer(comparison.definition, many=True).data,
            "nodes": NodePairSerializer(comparison.nodes, many=True).data,
            "divergence": divergence.node if divergence else None,
        }


class BranchSerializer(serializers.Serializer):
    run_id = serializers.CharField()
    status = serializers.CharField()
    depth = serializers.IntegerField()
    how = serializers.CharField(allow_null=True)

    def to_representation(self, branch: lineage.Branch) -> JsonObject:
        return {
            "run_id": branch.run.run_id,
            "status": branch.run.status,
            "depth": branch.depth,
            "how": (branch.run.origin or {}).get("how"),
        }


class LineageSerializer(serializers.Serializer):
    runs = BranchSerializer(many=True)
    recovered_by = serializers.CharField(allow_null=True)


class WhySerializer(serializers.Serializer):
    why = serializers.ListField(child=serializers.CharField())


class EventSerializer(serializers.Serializer):
    """What happened. Without a state, it happened to the whole run."""

    at = serializers.DateTimeField()
    what = serializers.CharField()
    state_id = serializers.CharField(allow_null=True)
    identifier = serializers.CharField(allow_null=True)
    path = serializers.CharField(allow_null=True)

    def to_representation(self, event: events.Event) -> JsonObject:
        state = event.state
        return {
            "at": when(event.at),
            "what": event.what,
            "state_id": str(state.pk) if state else None,
            "identifier": state.identifier if state else None,
            "path": state.path if state else None,
        }


class EventsSerializer(serializers.Serializer):
    events = EventSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class RunInspectionViewSet(OfRunViewSet):
    lookup_url_kwarg = "run_id"
    scopes = {
        "picture": "read",
        "bundle": "export",
        "compare": "read",
        "lineage": "read",
        "why": "read",
        "metrics": "read",
        "events": "read",
    }
    queries = {"compare": ("with",), "events": ("after",)}

    @extend_schema(
        operation_id="runs_metrics",
        parameters=[NAMESPACE],
        responses={200: RunMetricsSerializer, **REFUSALS},
    )
    @action(detail=True)
    def metrics(self, request: Request, run_id: str) -> Response:
        """How long the run and each of its nodes took, and how often they failed."""
        return Response(RunMetricsSerializer(metrics.of_run(self.run())).data)

    @extend_schema(
        operation_id="runs_picture",
        parameters=[NAMESPACE],
        responses={(200, "image/svg+xml"): OpenApiTypes.STR, **REFUSALS},
    )
    @action(detail=True, url_path="graph.svg")
    def picture(self, request: Request, run_id: str) -> HttpResponse:
        """The graph of a run as SVG, each node with its state and counts."""
        run = self.run()
        if run.version is None:
            raise errors.NotFound("The run has no graph, so there is no picture of it.")
        return HttpResponse(diagram.run_svg(run), content_type="image/svg+xml")

    @extend_schema(
        operation_id="runs_bundle",
        parameters=[NAMESPACE],
        responses={200: OpenApiTypes.OBJECT, **REFUSALS},
    )
    @action(detail=True)
    def bundle(self, request: Request, run_id: str) -> StreamingHttpResponse:
        """A run with its states, log lines, files, checkpoints and audit as one JSON document."""
        run = self.run(Run.objects.for_wire().select_related("parent"))
        self.caller.require("export", run.namespace_id)
        document = bundle.bundle(run, self.caller)
        AuditEntry.objects.record(self.caller, "download", run, "bundle")
        return StreamingHttpResponse(document, content_type="application/json")

    @extend_schema(
        operation_id="runs_compare",
        parameters=[NAMESPACE, OpenApiParameter("with", str, required=True)],
        responses={200: ComparisonSerializer, **REFUSALS},
    )
    @action(detail=True)
    def compare(self, request: Request, run_id: str) -> Response:
        """Two runs side by side: their inputs, what each node did, and where they diverge."""
        other_id = request.query_params.get("with")
        if not other_id:
            raise errors.Malformed("Name the run to compare with as `with`.")
        runs = Run.objects.select_related(
            "graph__namespace", "version", "dataset__namespace", "namespace"
        )
        run = self.run(runs)
        other = run_of(self.caller, request, other_id, runs)
        sees_payloads = self.sees_payloads(run) and self.sees_payloads(other)
        comparison = compare.compare(run, other, sees_payloads)
        return Response(ComparisonSerializer(comparison).data)

    @extend_schema(
        operation_id="runs_lineage",
        parameters=[NAMESPACE],
        responses={200: LineageSerializer, **REFUSALS},
    )
    @action(detail=True)
    def lineage(self, request: Request, run_id: str) -> Response:
        """The tree of reruns that a run belongs to, parents before their reruns."""
        run = self.run()
        tree = BranchSerializer(lineage.tree_of(run, self.caller), many=True)
        recovered = lineage.recovered_by(run)
        return Response(
            {"runs": tree.data, "recovered_by": recovered.run_id if recovered else None}
        )

    @extend_schema(
        operation_id="runs_why", parameters=[NAMESPACE], responses={200: WhySerializer, **REFUSALS}
    )
    @action(detail=True)
    def why(self, request: Request, run_id: str) -> Response:
        """What an active run waits for, as sentences; none if it has ended."""
        run = self.run()
        return Response({"why": wait_reasons.why_waiting(run, self.sees_payloads(run))})

    @extend_schema(
        operation_id="runs_events",
        parameters=[NAMESPACE, OpenApiParameter("after", str)],
        responses={200: EventsSerializer, **REFUSALS},
    )
    @action(detail=True)
    def events(self, request: Request, run_id: str) -> Response:
        """What the engine did with a run, oldest first, for a page of its states.

        `next` is the `after` of the next page. What happened to the whole run is on the first.
        """
        run = self.run()
        after = request.query_params.get("after")
        rows, last = events.events_of(run, state_id(after) if after else None)
        following = str(last) if last else None
        return Response({"events": EventSerializer(rows, many=True).data, "next": following})
