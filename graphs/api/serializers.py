"""The JSON of graphs and datasets."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework.exceptions import ValidationError

from graphs.api import strict as serializers
from graphs.definition import errors, labels, redaction
from graphs.definition.types import Json, JsonObject
from graphs.models import Graph
from graphs.services import dialects


@extend_schema_field(OpenApiTypes.ANY)
class AnyJson(serializers.JSONField):
    """JSON of any type, including null; the OpenAPI schema says so, too."""

    def run_validation(self, data: Json = serializers.empty) -> Json:
        return None if data is None else super().run_validation(data)


class LabelsField(serializers.DictField):
    """Labels by key; values are short texts."""

    def __init__(self, **options: Any) -> None:
        value = serializers.CharField(max_length=labels.MAX_VALUE, allow_blank=True)
        super().__init__(child=value, **options)

    def to_internal_value(self, data: Any) -> Any:
        values = super().to_internal_value(data)
        try:
            labels.check(values)
        except errors.Malformed as error:
            raise ValidationError(str(error)) from None
        return values


class ProblemSerializer(serializers.Serializer):
    """Every refusal, with the members of RFC 9457.

    `detail` is a sentence or, with 422, the list of the fields that are wrong.
    """

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = AnyJson()


class DefinitionSerializer(serializers.Serializer):
    """The parts of a graph.

    A node is {id, kind, label?, data?, position?}, an edge {id?, from, to, kind?, data?}.
    """

    nodes = serializers.ListField(child=AnyJson())
    edges = serializers.ListField(child=AnyJson())
    metadata = AnyJson(required=False)
    inputs = AnyJson(required=False)
    settings = AnyJson(required=False)


class NewGraphSerializer(DefinitionSerializer):
    name = serializers.CharField(max_length=200)
    namespace = serializers.CharField(max_length=100, required=False)


class GraphChangeSerializer(DefinitionSerializer):
    """What changes of a graph.

    `id`, `namespace` and `version` may be sent back as they were read; they can't be changed.
    """

    id = serializers.CharField(required=False)
    namespace = serializers.CharField(required=False)
    version = serializers.IntegerField(required=False)
    nodes = serializers.ListField(child=AnyJson(), required=False)
    edges = serializers.ListField(child=AnyJson(), required=False)
    name = serializers.CharField(max_length=200, required=False)


class GraphSerializer(DefinitionSerializer):
    id = serializers.CharField()
    name = serializers.CharField()
    namespace = serializers.CharField()
    version = serializers.IntegerField()

    def to_representation(self, graph: Graph) -> JsonObject:
        """The context holds the caller, who may not see secrets in definitions without payloads."""
        definition = graph.current.definition if graph.current else {"nodes": [], "edges": []}
        may_see = self.context["caller"].can("payloads", graph.namespace_id)
        definition = redaction.definition_shown(definition, may_see)
        return {
            "id": str(graph.pk),
            "name": graph.name,
            "namespace": graph.namespace.name,
            "version": graph.current.number if graph.current else 0,
            "nodes": definition["nodes"],
            "edges": definition["edges"],
            "metadata": definition.get("metadata") or {},
            "inputs": definition.get("inputs"),
            "settings": definition.get("settings") or {},
        }


class GraphProblemSerializer(serializers.Serializer):
    nodeId = serializers.CharField(allow_null=True)
    edgeId = serializers.CharField(allow_null=True)
    type = serializers.CharField()
    message = serializers.CharField()
    path = serializers.CharField()


class ValidationSerializer(serializers.Serializer):
    valid = serializers.BooleanField()
    errors = GraphProblemSerializer(many=True)  # type: ignore[assignment]
    warnings = GraphProblemSerializer(many=True)


class TableSerializer(serializers.Serializer):
    name = serializers.CharField()
    format = serializers.CharField()
    columns = serializers.JSONField()
    rows = serializers.IntegerField()
    size = serializers.IntegerField()
    checksum = serializers.CharField()


class DatasetSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    name = serializers.CharField()
    namespace = serializers.CharField(source="namespace.name")
    tables = TableSerializer(many=True)


class UploadSerializer(serializers.Serializer):
    """Files (.csv, .jsonl, .ndjson or a .zip of them) in one or several fields named `files`."""

    name = serializers.CharField(max_length=200)
    namespace = serializers.CharField(max_length=100, required=False)
    encoding = serializers.CharField(max_length=40, required=False, default="utf-8")
    delimiter = serializers.ChoiceField(
        list(dialects.BY_NAME),
        required=False,
        default=dialects.AUTO,
        help_text="What separates the columns of CSV files; `auto` looks at each file.",
    )
    preview = serializers.BooleanField(
        required=False,
        default=False,
        help_text="Only say what the files would become: nothing is stored.",
    )
    files = serializers.ListField(child=serializers.FileField(), min_length=1)


class TablePreviewSerializer(serializers.Serializer):
    """The first rows of a file, and why it would be refused, as far as they show it."""

    file = serializers.CharField()
    delimiter = serializers.CharField(help_text="Of a CSV file; empty for JSON Lines.")
    choices = serializers.ListField(
        child=serializers.CharField(), help_text="The delimiters, if only people can know."
    )
    columns = serializers.ListField(child=serializers.CharField())
    rows = serializers.ListField(child=serializers.ListField(child=AnyJson()))
    problem = serializers.CharField()


class UploadPreviewSerializer(serializers.Serializer):
    tables = TablePreviewSerializer(many=True)
