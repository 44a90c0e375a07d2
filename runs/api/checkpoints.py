"""The checkpoints of LangGraph threads over REST."""

from django.db.models import QuerySet
from django.db.models.functions import Length
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.pagination import AfterPagination
from graphs.api.schema import REFUSALS
from graphs.api.serializers import AnyJson
from graphs.definition import errors, redaction
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from runs.actions.delete import DELETE_RIGHT
from runs.api.inspection import DifferenceSerializer
from runs.api.lookups import NAMESPACE, without_nul
from runs.api.serializers import RunSerializer
from runs.api.viewsets import OfRunViewSet
from runs.langgraph import edits, viewer
from runs.models import Checkpoint, Run

CHECKPOINT_NAMESPACE = OpenApiParameter(
    "ns", str, description="The checkpoint namespace, if several have a checkpoint of this id."
)


class CheckpointSerializer(serializers.Serializer):
    """A checkpoint of a thread, without its values. `size` is in bytes."""

    checkpoint_id = serializers.CharField()
    ns = serializers.CharField()
    parent_checkpoint_id = serializers.CharField(allow_null=True)
    type = serializers.CharField()
    metadata = AnyJson()
    size = serializers.IntegerField()
    created_at = serializers.DateTimeField()

    def to_representation(self, checkpoint: Checkpoint) -> JsonObject:
        return {
            "checkpoint_id": checkpoint.checkpoint_id,
            "ns": checkpoint.ns,
            "type": checkpoint.type,
            "size": checkpoint.size,  # type: ignore[attr-defined]  # see `_with_size`
            "metadata": redaction.shown(checkpoint.metadata, self.context["payloads"]),
            "parent_checkpoint_id": checkpoint.parent_checkpoint_id or None,
            "created_at": when(checkpoint.created_at),
        }


class InsideSerializer(CheckpointSerializer):
    """`values` by channel. Objects are shown as {"type", "value"}, and none is instantiated.

    `pending` names the nodes that run next. `changes` are the first differences from the values of
    the parent checkpoint.
    """

    values = AnyJson()
    writes = AnyJson()
    pending = serializers.CharField()
    changes = DifferenceSerializer(many=True)

    def to_representation(self, checkpoint: Checkpoint) -> JsonObject:
        inside = {
            name: redaction.shown(value, self.context["payloads"])
            for name, value in viewer.inspected(checkpoint).items()
        }
        return {
            **super().to_representation(checkpoint),
            **inside,
            "pending": checkpoint.pending,
            "changes": DifferenceSerializer(
                edits.changes(checkpoint, self.context["payloads"]), many=True
            ).data,
        }


class ForkSerializer(serializers.Serializer):
    thread_id = serializers.CharField(max_length=200, required=False)


class CheckpointsSerializer(serializers.Serializer):
    checkpoints = CheckpointSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class CheckpointViewSet(OfRunViewSet):
    lookup_url_kwarg = "checkpoint_id"
    pagination_class = AfterPagination
    scopes = {"list": "read", "retrieve": "read", "destroy": DELETE_RIGHT, "fork": "run"}
    bodies = ("fork",)
    queries = {"retrieve": ("ns",), "destroy": ("ns",), "fork": ("ns",)}

    @extend_schema(
        operation_id="runs_checkpoints",
        parameters=[NAMESPACE],
        responses={200: CheckpointsSerializer, **REFUSALS},
    )
    def list(self, request: Request, run_id: str) -> Response:
        """The checkpoints of a thread in the order in which they were stored."""
        run = self.run()
        page = self.page(_with_size(run).defer("body"))
        serializer = CheckpointSerializer(page, many=True, context=self._context_of(run))
        return self.get_paginated_response({"checkpoints": serializer.data})

    @extend_schema(
        operation_id="runs_checkpoint_inside",
        parameters=[NAMESPACE, CHECKPOINT_NAMESPACE],
        responses={200: InsideSerializer, **REFUSALS},
    )
    def retrieve(self, request: Request, run_id: str, checkpoint_id: str) -> Response:
        """One checkpoint with its values, and what changed since its parent."""
        run = self.run()
        checkpoint = self._checkpoint(run)
        return Response(InsideSerializer(checkpoint, context=self._context_of(run)).data)

    @extend_schema(
        operation_id="runs_checkpoint_delete",
        parameters=[NAMESPACE, CHECKPOINT_NAMESPACE],
        responses={204: None, **REFUSALS},
    )
    def destroy(self, request: Request, run_id: str, checkpoint_id: str) -> Response:
        """Delete a checkpoint of a thread. The ones after it follow the one before it."""
        run = self.run()
        edits.delete_checkpoint(run, self._checkpoint(run), self.caller)
        return Response(status=204)

    @extend_schema(
        operation_id="runs_checkpoint_fork",
        parameters=[NAMESPACE, CHECKPOINT_NAMESPACE],
        request=ForkSerializer,
        responses={201: RunSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def fork(self, request: Request, run_id: str, checkpoint_id: str) -> Response:
        """Resume from here: a new thread that goes on from this checkpoint.

        The thread's program takes it up when it is invoked with the new id and without input.
        """
        values = self.validated(ForkSerializer, may_be_empty=True)
        run = self.run()
        thread_id = values.get("thread_id", "")
        forked = edits.fork(run, self._checkpoint(run), self.caller, thread_id)
        return Response(self.run_json(Run.objects.for_wire().get(pk=forked.pk)).data, 201)

    def _checkpoint(self, run: Run) -> Checkpoint:
        checkpoint_id = self.kwargs["checkpoint_id"]
        checkpoints = _with_size(run).filter(checkpoint_id=without_nul(checkpoint_id))
        ns = self.request.query_params.get("ns")
        if ns is not None:
            checkpoints = checkpoints.filter(ns=without_nul(ns))
        checkpoint = checkpoints.order_by("ns").first()
        if checkpoint is None:
            raise errors.NotFound(f"The run has no checkpoint {checkpoint_id[:100]!r}.")
        return checkpoint

    def _context_of(self, run: Run) -> JsonObject:
        return {"payloads": self.sees_payloads(run)}


def _with_size(run: Run) -> QuerySet[Checkpoint]:
    return Checkpoint.objects.filter(run=run).annotate(size=Length("body"))
