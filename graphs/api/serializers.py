"""The JSON of graphs and datasets (contract of seed 004), as serializers that read and document them."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from graphs.models import Dataset, Graph


@extend_schema_field(OpenApiTypes.ANY)
class AnyJson(serializers.JSONField):
    """JSON of any type, null included; for the schema, too."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        return None if data is None else super().run_validation(data)


class ProblemShape(serializers.Serializer):
    """Every refusal: RFC 9457's members; `detail` is a sentence, or the list of wrong fields with 422."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = AnyJson()


class DefinitionShape(serializers.Serializer):
    """What a graph consists of. Nodes are {id, kind, label?, data?, position?}, edges {id?, from, to, kind?, data?}."""

    nodes = serializers.ListField(child=AnyJson())
    edges = serializers.ListField(child=AnyJson())
    metadata = AnyJson(required=False)
    inputs = AnyJson(required=False)
    settings = AnyJson(required=False)


class NewGraphShape(DefinitionShape):
    name = serializers.CharField(max_length=200)
    namespace = serializers.CharField(max_length=100, required=False)


class GraphChangeShape(DefinitionShape):
    nodes = serializers.ListField(child=AnyJson(), required=False)
    edges = serializers.ListField(child=AnyJson(), required=False)
    name = serializers.CharField(max_length=200, required=False)


class GraphShape(DefinitionShape):
    id = serializers.CharField()
    name = serializers.CharField()
    namespace = serializers.CharField()
    version = serializers.IntegerField()


class GraphProblemShape(serializers.Serializer):
    nodeId = serializers.CharField(allow_null=True)
    edgeId = serializers.CharField(allow_null=True)
    type = serializers.CharField()
    message = serializers.CharField()
    path = serializers.CharField()


class ValidationShape(serializers.Serializer):
    valid = serializers.BooleanField()
    errors = GraphProblemShape(many=True)  # type: ignore[assignment]
    warnings = GraphProblemShape(many=True)


class TableShape(serializers.Serializer):
    name = serializers.CharField()
    format = serializers.CharField()
    columns = serializers.JSONField()
    rows = serializers.IntegerField()
    size = serializers.IntegerField()
    checksum = serializers.CharField()


class DatasetShape(serializers.Serializer):
    id = serializers.IntegerField()
    name = serializers.CharField()
    namespace = serializers.CharField()
    tables = TableShape(many=True)


class UploadShape(serializers.Serializer):
    """Files (.csv, .jsonl, .ndjson or a .zip of them), under the name `files`, once or several times."""

    name = serializers.CharField(max_length=200)
    namespace = serializers.CharField(max_length=100, required=False)
    encoding = serializers.CharField(max_length=40, required=False, default="utf-8")
    files = serializers.ListField(child=serializers.FileField(), min_length=1)


def graph_shape(graph: Graph) -> dict[str, Any]:
    definition = graph.current.definition if graph.current else {"nodes": [], "edges": []}
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


def dataset_shape(dataset: Dataset) -> dict[str, Any]:
    tables = [TableShape(table).data for table in dataset.tables.all()]
    return {
        "id": dataset.pk,
        "name": dataset.name,
        "namespace": dataset.namespace.name,
        "tables": tables,
    }
