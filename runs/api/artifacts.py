"""The files that a run made, over REST."""

from django.http import FileResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.schema import REFUSALS
from graphs.definition import errors, names
from graphs.definition.names import parse_id
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from runs.api.lookups import NAMESPACE
from runs.api.serializers import artifact_url
from runs.api.viewsets import OfRunViewSet
from runs.models import Artifact, AuditEntry
from statemanager.file_storage import file_storage


class ArtifactSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    name = serializers.CharField()
    node = serializers.CharField()
    kind = serializers.CharField()
    size = serializers.IntegerField()
    checksum = serializers.CharField()
    url = serializers.CharField()
    created_at = serializers.DateTimeField()

    def to_representation(self, artifact: Artifact) -> JsonObject:
        """The run comes from the context, which saves reading it for each artifact."""
        return {
            "id": artifact.pk,
            "name": artifact.name,
            "node": artifact.identifier,
            "kind": artifact.kind,
            "size": artifact.size,
            "checksum": artifact.checksum,
            "url": artifact_url(self.context["run"], artifact),
            "created_at": when(artifact.created_at),
        }


class ArtifactsSerializer(serializers.Serializer):
    artifacts = ArtifactSerializer(many=True)


class ArtifactViewSet(OfRunViewSet):
    lookup_url_kwarg = "artifact"
    scopes = {"list": "read", "retrieve": "read"}

    @extend_schema(
        operation_id="runs_artifacts",
        parameters=[NAMESPACE],
        responses={200: ArtifactsSerializer, **REFUSALS},
    )
    def list(self, request: Request, run_id: str) -> Response:
        """The files that a run made."""
        run = self.run()
        artifacts = ArtifactSerializer(run.artifacts.all(), many=True, context={"run": run})
        return Response({"artifacts": artifacts.data})

    @extend_schema(
        operation_id="runs_artifact",
        parameters=[NAMESPACE],
        responses={(200, "application/octet-stream"): bytes, **REFUSALS},
    )
    def retrieve(self, request: Request, run_id: str, artifact: str) -> FileResponse:
        """Download one file. This needs the right to see payloads."""
        run = self.run()
        self.caller.require("payloads", run.namespace_id)
        file = run.artifacts.filter(pk=parse_id(artifact) or 0).first()
        if file is None or not file_storage.exists(file.file):
            raise errors.NotFound(f"The run has no artifact {artifact[:50]!r}.")
        AuditEntry.objects.record(self.caller, "download", run, file.name)
        return FileResponse(
            file_storage.open(file.file, "rb"),
            as_attachment=True,
            filename=names.file_name(file.name),
            content_type="application/octet-stream",
        )
