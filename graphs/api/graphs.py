"""Graphs over REST. `runs.api.graphs` adds what needs runs: starting, listing and deleting them."""

from collections.abc import Collection

from django.db import IntegrityError, transaction
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict
from graphs.api.drafts import DraftActions
from graphs.api.lookups import graph_of, namespace_for
from graphs.api.pagination import OffsetPagination
from graphs.api.schema import REFUSALS
from graphs.api.serializers import (
    DefinitionSerializer,
    GraphChangeSerializer,
    GraphSerializer,
    NewGraphSerializer,
    ValidationSerializer,
)
from graphs.auth import acts
from graphs.auth.callers import Caller
from graphs.definition import errors, lint, redaction, validation
from graphs.definition.types import Definition, Json, JsonObject
from graphs.models import Graph
from graphs.models.querysets import GraphQuerySet
from graphs.rendering import mermaid, svg
from graphs.services import publish


class GraphViewSet(DraftActions):
    lookup_url_kwarg = "graph_id"
    pagination_class = OffsetPagination
    scopes = {
        "list": "read",
        "create": "run",
        "retrieve": "read",
        "update": "run",
        "validate": "read",
        "mermaid": "read",
        "picture": "read",
        **DraftActions.scopes,
    }
    bodies: Collection[str] = ("create", "update", "validate", *DraftActions.bodies)

    def get_queryset(self) -> GraphQuerySet:
        return Graph.objects.visible_to(self.caller).with_version()

    def get_object(self) -> Graph:
        return graph_of(self.caller, self.kwargs["graph_id"])

    @extend_schema(
        operation_id="graphs_list", responses={200: GraphSerializer(many=True), **REFUSALS}
    )
    def list(self, request: Request) -> Response:
        """The graphs that the caller may see."""
        page = self.page(self.get_queryset())
        return self.get_paginated_response(self.graph_json(page, many=True))

    @extend_schema(
        operation_id="graphs_create",
        request=NewGraphSerializer,
        responses={201: GraphSerializer, **REFUSALS},
    )
    def create(self, request: Request) -> Response:
        """Create a graph with its first version."""
        data = self.validated(NewGraphSerializer)
        with transaction.atomic():  # a graph that is refused creates no namespace
            graph = self._publish_new(data)
        return Response(self.graph_json(graph), 201)

    def _publish_new(self, data: JsonObject) -> Graph:
        name = data["name"]
        namespace = namespace_for(self.caller, data.get("namespace"))
        if Graph.objects.filter(namespace=namespace, name=name).exists():
            raise errors.Conflict(
                f"The namespace {namespace} already has a graph {name!r}; change it with PUT."
            )
        return publish.publish_graph(namespace, name, data, self.caller)

    @extend_schema(operation_id="graphs_read", responses={200: GraphSerializer, **REFUSALS})
    def retrieve(self, request: Request, graph_id: str) -> Response:
        """One graph with its current definition."""
        return Response(self.graph_json(self.get_object()))

    @extend_schema(
        operation_id="graphs_update",
        request=GraphChangeSerializer,
        responses={200: GraphSerializer, **REFUSALS},
    )
    def update(self, request: Request, graph_id: str) -> Response:
        """Publish a new version. Members that are left out keep their values.

        Publishing the current definition again doesn't create a version.
        """
        graph = self.get_object()
        self.caller.require("start", graph.namespace_id)
        changes = self.validated(GraphChangeSerializer)
        _check_unchanged(graph, changes)
        name = changes.pop("name", graph.name)
        current = graph.current.definition if graph.current else {"nodes": [], "edges": []}
        definition = redaction.definition_restored({**current, **changes}, current)
        with transaction.atomic():  # a definition that is refused doesn't rename the graph either
            if name != graph.name:
                _rename(graph, name, self.caller)
            published = publish.publish_graph(graph.namespace, graph.name, definition, self.caller)
        return Response(self.graph_json(published))

    @extend_schema(
        operation_id="graphs_validate",
        request=DefinitionSerializer,
        responses={200: ValidationSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def validate(self, request: Request, graph_id: str) -> Response:
        """Every problem of the definition in the body or, without a body, of the current one."""
        graph = self.get_object()
        definition: Json = request.data or (graph.current and graph.current.definition)
        strict.refuse_unknown(GraphChangeSerializer(), definition)
        problems = publish.check(graph.namespace.name, definition, self.caller)
        has_shape = not validation.shape_problems(definition)
        warnings = lint.warnings(definition) if has_shape else []
        return Response(
            {
                "valid": not problems,
                "errors": [problem.as_json() for problem in problems],
                "warnings": [warning.as_json() for warning in warnings],
            }
        )

    @extend_schema(
        operation_id="graphs_mermaid", responses={(200, "text/plain"): OpenApiTypes.STR, **REFUSALS}
    )
    @action(detail=True, url_path="graph.mmd")
    def mermaid(self, request: Request, graph_id: str) -> HttpResponse:
        """The published graph as Mermaid text."""
        text = mermaid.mermaid(_published_definition(self.get_object()))
        return HttpResponse(text, content_type="text/plain; charset=utf-8")

    @extend_schema(
        operation_id="graphs_picture",
        responses={(200, "image/svg+xml"): OpenApiTypes.STR, **REFUSALS},
    )
    @action(detail=True, url_path="graph.svg")
    def picture(self, request: Request, graph_id: str) -> HttpResponse:
        """The published graph as SVG."""
        graph = self.get_object()
        picture = svg.of_definition(_published_definition(graph), graph.name)
        return HttpResponse(picture, content_type="image/svg+xml")


def _check_unchanged(graph: Graph, changes: JsonObject) -> None:
    """Take the members that can't be changed off the changes.

    Raises Malformed if one has another value, and Conflict for an older version.
    """
    version = graph.current.number if graph.current else 0
    if changes.pop("version", version) != version:
        raise errors.Conflict(f"The graph is at version {version} now. Read it again.")
    fixed = {"id": str(graph.pk), "namespace": graph.namespace.name}
    for name, value in fixed.items():
        if changes.pop(name, value) != value:
            problem = {"loc": ["body", name], "msg": f"It is {value!r} and can't be changed."}
            raise errors.Malformed([{**problem, "type": "value_error"}])


def _rename(graph: Graph, name: str, caller: Caller) -> None:
    try:
        with transaction.atomic():
            Graph.objects.filter(pk=graph.pk).update(name=name)
    except IntegrityError:
        raise errors.Conflict(
            f"The namespace {graph.namespace} already has a graph {name!r}."
        ) from None
    acts.record(caller, "rename_graph", graph.namespace_id, f"{graph} → {name}")
    graph.name = name


def _published_definition(graph: Graph) -> Definition:
    if graph.current is None:
        raise errors.NotFound(f"The graph {graph.name!r} has not been published yet.")
    return graph.current.definition
