"""Graphs and datasets over REST (seed 004). Starting runs is in `runs.api`."""

from typing import Any

from django.db import IntegrityError
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.base import View
from graphs.api.lookups import dataset_of, graph_of, namespace_for
from graphs.api.problem_details import PROBLEM
from graphs.api.serializers import (
    DatasetShape,
    DefinitionShape,
    GraphChangeShape,
    GraphShape,
    NewGraphShape,
    ProblemShape,
    UploadShape,
    ValidationShape,
    dataset_shape,
    graph_shape,
)
from graphs.definition import errors, lint, validation
from graphs.definition.names import parse_id
from graphs.models import Dataset, Graph
from graphs.services import datasets, publish
from graphs.services.datasets import Source

MAX_LIST = 200
LIMITS = [
    OpenApiParameter("limit", int, description="1–200, default 50"),
    OpenApiParameter("offset", int, description="from 0"),
]
REFUSALS: dict[Any, Any] = dict.fromkeys(
    ((code, PROBLEM) for code in (400, 401, 403, 404, 405, 409, 410, 411, 413, 415, 422, 429, 503)),
    ProblemShape,
)


def window(request: Request) -> slice:
    """`limit` and `offset` as a slice. Raises Malformed when out of range."""
    limit, offset = (
        parse_id(request.query_params.get("limit", "50")),
        parse_id(request.query_params.get("offset", "0")),
    )
    if limit is None or offset is None or not 1 <= limit <= MAX_LIST:
        raise errors.Malformed(f"limit is a number from 1 to {MAX_LIST}, offset one from 0.")
    return slice(offset, offset + limit)


class GraphsView(View):
    scopes = {"GET": "read", "POST": "run"}

    @extend_schema(
        operation_id="graphs_list",
        parameters=LIMITS,
        responses={200: GraphShape(many=True), **REFUSALS},
    )
    def get(self, request: Request) -> Response:
        """The graphs that the caller sees."""
        graphs = Graph.objects.visible_to(self.caller).with_version()[window(request)]
        return Response([graph_shape(graph) for graph in graphs])

    @extend_schema(
        operation_id="graphs_create", request=NewGraphShape, responses={201: GraphShape, **REFUSALS}
    )
    def post(self, request: Request) -> Response:
        """Make a graph with its first version."""
        asked = NewGraphShape(data=request.data)
        asked.is_valid(raise_exception=True)
        namespace = namespace_for(self.caller, asked.validated_data.get("namespace"))
        if Graph.objects.filter(namespace=namespace, name=asked.validated_data["name"]).exists():
            raise errors.Conflict(
                f"The namespace {namespace} has a graph {asked.validated_data['name']!r} already; PUT changes it."
            )
        graph = publish.publish_graph(
            namespace, asked.validated_data["name"], asked.validated_data, self.caller
        )
        return Response(graph_shape(graph), 201)


class GraphView(View):
    scopes = {"GET": "read", "PUT": "run", "DELETE": "admin"}

    @extend_schema(operation_id="graphs_read", responses={200: GraphShape, **REFUSALS})
    def get(self, request: Request, graph_id: str) -> Response:
        """One graph with its current definition."""
        return Response(graph_shape(graph_of(self.caller, graph_id)))

    @extend_schema(
        operation_id="graphs_update",
        request=GraphChangeShape,
        responses={200: GraphShape, **REFUSALS},
    )
    def put(self, request: Request, graph_id: str) -> Response:
        """Publish a new version; members that are left out stay. The same content again makes no new version."""
        graph = graph_of(self.caller, graph_id)
        asked = GraphChangeShape(data=request.data)
        asked.is_valid(raise_exception=True)
        change = dict(asked.validated_data)
        if (name := change.pop("name", graph.name)) != graph.name:
            _rename(graph, name)
        definition = {
            **(graph.current.definition if graph.current else {"nodes": [], "edges": []}),
            **change,
        }
        return Response(
            graph_shape(publish.publish_graph(graph.namespace, graph.name, definition, self.caller))
        )


def _rename(graph: Graph, name: str) -> None:
    try:
        Graph.objects.filter(pk=graph.pk).update(name=name)
    except IntegrityError:
        raise errors.Conflict(
            f"The namespace {graph.namespace} has a graph {name!r} already."
        ) from None
    graph.name = name


class ValidateView(View):
    scopes = {"POST": "read"}

    @extend_schema(
        operation_id="graphs_validate",
        request=DefinitionShape,
        responses={200: ValidationShape, **REFUSALS},
    )
    def post(self, request: Request, graph_id: str) -> Response:
        """Every problem of the definition in the body, or of the graph's current one without a body."""
        graph = graph_of(self.caller, graph_id)
        definition: Any = request.data or (graph.current and graph.current.definition)
        found = publish.check(graph.namespace.name, definition, self.caller)
        warnings = [] if validation.shape_problems(definition) else lint.warnings(definition)
        return Response(
            {
                "valid": not found,
                "errors": [problem.as_json() for problem in found],
                "warnings": [problem.as_json() for problem in warnings],
            }
        )


class DatasetsView(View):
    scopes = {"GET": "read", "POST": "run"}
    parser_classes = [MultiPartParser]

    @extend_schema(
        operation_id="datasets_list",
        parameters=LIMITS,
        responses={200: DatasetShape(many=True), **REFUSALS},
    )
    def get(self, request: Request) -> Response:
        """The datasets that the caller sees."""
        return Response(
            [
                dataset_shape(dataset)
                for dataset in Dataset.objects.visible_to(self.caller).with_tables()[
                    window(request)
                ]
            ]
        )

    @extend_schema(
        operation_id="datasets_upload",
        request=UploadShape,
        responses={201: DatasetShape, **REFUSALS},
    )
    def post(self, request: Request) -> Response:
        """Upload a dataset; one of the same name gets these tables instead of its own. All of it is stored, or nothing."""
        asked = UploadShape(data=request.data)
        asked.is_valid(raise_exception=True)
        namespace = namespace_for(self.caller, asked.validated_data.get("namespace"))
        sources = [Source(file.name, file) for file in asked.validated_data["files"]]
        dataset = datasets.load(
            namespace,
            asked.validated_data["name"],
            sources,
            asked.validated_data["encoding"],
            f"uploaded by {self.caller.label}",
        )
        return Response(dataset_shape(dataset), 201)


class DatasetView(View):
    scopes = {"GET": "read", "DELETE": "run"}

    @extend_schema(operation_id="datasets_read", responses={200: DatasetShape, **REFUSALS})
    def get(self, request: Request, dataset_id: str) -> Response:
        """One dataset with its tables."""
        return Response(dataset_shape(dataset_of(self.caller, dataset_id)))

    @extend_schema(operation_id="datasets_delete", responses={204: None, **REFUSALS})
    def delete(self, request: Request, dataset_id: str) -> Response:
        """Delete a dataset with its files. Runs that used it stay."""
        dataset = dataset_of(self.caller, dataset_id)
        self.caller.require("start", dataset.namespace_id)
        datasets.delete(dataset)
        return Response(status=204)
