"""Looking closer at runs over REST: the picture, the checkpoints, everything as one document, and two runs side by side."""

from typing import Any

from django.db.models.functions import Length
from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.base import View
from graphs.api.serializers import AnyJson
from graphs.api.views import REFUSALS
from graphs.definition import errors, redaction
from graphs.definition.names import parse_id
from graphs.definition.payloads import when
from runs.api.lookups import run_of
from runs.api.runs import AFTER, LIMIT, NAMESPACE, limit_of
from runs.health import doctor
from runs.langgraph import viewer
from runs.models import Checkpoint, Run
from runs.queries import bundle, compare, diagram, lineage, wait_reasons

NS = OpenApiParameter(
    "ns", str, description="the checkpoint namespace, where several have a checkpoint of this id"
)


class CheckpointShape(serializers.Serializer):
    """A checkpoint of a thread; `size` in bytes. Its value is not decoded."""

    checkpoint_id = serializers.CharField()
    ns = serializers.CharField()
    parent_checkpoint_id = serializers.CharField(allow_null=True)
    type = serializers.CharField()
    metadata = AnyJson()
    size = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class InsideShape(CheckpointShape):
    """`values` by channel; objects are {"type", "value"}, nothing is brought to life. `pending`: the nodes that run next."""

    values = AnyJson()
    writes = AnyJson()
    pending = serializers.CharField()


class CheckpointsShape(serializers.Serializer):
    checkpoints = CheckpointShape(many=True)
    next = serializers.CharField(allow_null=True)


class DifferenceShape(serializers.Serializer):
    """`sign`: + only the second has it, - only the first, ~ both have other values."""

    path = serializers.CharField()
    sign = serializers.ChoiceField(("+", "-", "~"))
    a = AnyJson()
    b = AnyJson()


class NodePairShape(serializers.Serializer):
    node = serializers.CharField()
    a = serializers.CharField()
    b = serializers.CharField()
    same_outputs = serializers.BooleanField()
    same = serializers.BooleanField()


class ComparisonShape(serializers.Serializer):
    summary = serializers.ListField(child=serializers.CharField())
    inputs = DifferenceShape(many=True)
    definition = DifferenceShape(many=True)
    nodes = NodePairShape(many=True)
    divergence = serializers.CharField(allow_null=True)


class BranchShape(serializers.Serializer):
    run_id = serializers.CharField()
    status = serializers.CharField()
    depth = serializers.IntegerField()
    how = serializers.CharField(allow_null=True)


class LineageShape(serializers.Serializer):
    runs = BranchShape(many=True)
    recovered_by = serializers.CharField(allow_null=True)


class WhyShape(serializers.Serializer):
    why = serializers.ListField(child=serializers.CharField())


class FindingShape(serializers.Serializer):
    """`level`: error (work stands still or is in danger) or warning."""

    level = serializers.ChoiceField(("error", "warning"))
    said = serializers.CharField()
    fix = serializers.CharField()


class DoctorShape(serializers.Serializer):
    findings = FindingShape(many=True)


class DoctorView(View):
    scopes = {"GET": "admin"}

    @extend_schema(operation_id="doctor", responses={200: DoctorShape, **REFUSALS})
    def get(self, request: Request) -> Response:
        """What is wrong with the installation, and what to do about it."""
        return Response({"findings": [finding.to_dict() for finding in doctor.examine()]})


class PictureView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="runs_picture",
        parameters=[NAMESPACE],
        responses={(200, "image/svg+xml"): OpenApiTypes.STR, **REFUSALS},
    )
    def get(self, request: Request, run_id: str) -> HttpResponse:
        """The graph of a run as SVG, each node with its state and counts."""
        run = run_of(self.caller, request, run_id)
        if run.version is None:
            raise errors.NotFound("The run has no graph; there is no picture of it.")
        return HttpResponse(diagram.run_svg(run), content_type="image/svg+xml")


class CheckpointsView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="runs_checkpoints",
        parameters=[NAMESPACE, LIMIT, AFTER],
        responses={200: CheckpointsShape, **REFUSALS},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """The checkpoints of a thread in the order in which they were put."""
        run, limit = run_of(self.caller, request, run_id), limit_of(request, 100)
        after = parse_id(request.query_params.get("after", "0"))
        if after is None:
            raise errors.Malformed("after is the `next` of a former page.")
        found = list(
            Checkpoint.objects.filter(run=run, pk__gt=after)
            .annotate(size=Length("body"))
            .defer("body")
            .order_by("pk")[:limit]
        )
        return Response(
            {
                "checkpoints": [
                    _checkpoint(each, self.caller.can("payloads", run.namespace_id))
                    for each in found
                ],
                "next": str(found[-1].pk) if len(found) == limit else None,
            }
        )


class InsideView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="runs_checkpoint_inside",
        parameters=[NAMESPACE, NS],
        responses={200: InsideShape, **REFUSALS},
    )
    def get(self, request: Request, run_id: str, checkpoint_id: str) -> Response:
        """What a checkpoint holds."""
        run = run_of(self.caller, request, run_id)
        found = Checkpoint.objects.filter(
            run=run, checkpoint_id=checkpoint_id.replace("\x00", "")
        ).annotate(size=Length("body"))
        ns = request.query_params.get("ns")
        row = (
            (found if ns is None else found.filter(ns=ns.replace("\x00", "")))
            .order_by("ns")
            .first()
        )
        if row is None:
            raise errors.NotFound(f"The run has no checkpoint {checkpoint_id[:100]!r}.")
        allowed = self.caller.can("payloads", run.namespace_id)
        inside = {
            name: redaction.shown(value, allowed) for name, value in viewer.inspected(row).items()
        }
        return Response({**_checkpoint(row, allowed), **inside, "pending": row.pending})


def _checkpoint(each: Any, allowed: bool) -> dict[str, Any]:
    names = ("checkpoint_id", "ns", "type", "size")
    kept = {name: getattr(each, name) for name in names}
    parent = each.parent_checkpoint_id or None
    return {
        **kept,
        "metadata": redaction.shown(each.metadata, allowed),
        "parent_checkpoint_id": parent,
        "created_at": when(each.created_at),
    }


class BundleView(View):
    scopes = {"GET": "export"}

    @extend_schema(
        operation_id="runs_bundle",
        parameters=[NAMESPACE],
        responses={200: OpenApiTypes.OBJECT, **REFUSALS},
    )
    def get(self, request: Request, run_id: str) -> StreamingHttpResponse:
        """The run with its states, lines, files, checkpoints and audit as one JSON document."""
        run = run_of(self.caller, request, run_id, Run.objects.for_wire().select_related("parent"))
        self.caller.require("export", run.namespace_id)
        return StreamingHttpResponse(
            bundle.bundle(run, self.caller), content_type="application/json"
        )


class CompareView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="runs_compare",
        parameters=[NAMESPACE, OpenApiParameter("with", str, required=True)],
        responses={200: ComparisonShape, **REFUSALS},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """Two runs side by side: what they were given, what each node did, and where they part."""
        if not (other := request.query_params.get("with")):
            raise errors.Malformed("`with` names the run to compare with.")
        runs = Run.objects.select_related(
            "graph__namespace", "version", "dataset__namespace", "namespace"
        )
        a, b = run_of(self.caller, request, run_id, runs), run_of(self.caller, request, other, runs)
        found = compare.compare(
            a, b, all(self.caller.can("payloads", run.namespace_id) for run in (a, b))
        )
        pairs = [
            {
                "node": pair.node,
                "a": pair.a.verdict,
                "b": pair.b.verdict,
                "same_outputs": pair.same_outputs,
                "same": pair.same,
            }
            for pair in found.nodes
        ]
        return Response(
            {
                "summary": found.summary, "inputs": [vars(each) for each in found.inputs], "definition": [vars(each) for each in found.definition],
                "nodes": pairs, "divergence": found.divergence.node if found.divergence else None,
            }
        )  # fmt: skip


class LineageView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="runs_lineage",
        parameters=[NAMESPACE],
        responses={200: LineageShape, **REFUSALS},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """The tree of reruns that the run belongs to, parents before their reruns."""
        run = run_of(self.caller, request, run_id)
        rows = [
            {
                "run_id": each.run.run_id,
                "status": each.run.status,
                "depth": each.depth,
                "how": (each.run.origin or {}).get("how"),
            }
            for each in lineage.tree_of(run, self.caller)
        ]
        recovered = lineage.recovered_by(run)
        return Response({"runs": rows, "recovered_by": recovered.run_id if recovered else None})


class WhyView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="runs_why", parameters=[NAMESPACE], responses={200: WhyShape, **REFUSALS}
    )
    def get(self, request: Request, run_id: str) -> Response:
        """What an active run waits for, in sentences; none for one that has ended."""
        return Response({"why": wait_reasons.why_waiting(run_of(self.caller, request, run_id))})
