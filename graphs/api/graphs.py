"""Graphs over REST. `runs.api.graphs` adds what needs runs: starting, listing and deleting them."""

import hashlib
from collections.abc import Collection

from django.db import IntegrityError, transaction
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict
from graphs.api.drafts import DraftActions
from graphs.api.lookups import graph_of, namespace_for
from graphs.api.pagination import OffsetPagination
from graphs.api.problem_details import PROBLEM
from graphs.api.schema import REFUSALS
from graphs.api.serializers import (
    DefinitionSerializer,
    GraphChangeSerializer,
    GraphSerializer,
    NewGraphSerializer,
    ProblemSerializer,
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

IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The ETag of the graph that the change is based on.",
)


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
        return self._tagged(self.get_object())

    def _tagged(self, graph: Graph) -> Response:
        headers = {"ETag": _tag(graph), "Cache-Control": "private, no-cache"}
        return Response(self.graph_json(graph), headers=headers)

    @extend_schema(
        operation_id="graphs_update",
        parameters=[IF_MATCH],
        request=GraphChangeSerializer,
        responses={200: GraphSerializer, **REFUSALS, (412, PROBLEM): ProblemSerializer},
    )
    def update(self, request: Request, graph_id: str) -> Response:
        """Publish a new version. Members that are left out keep their values.

        Publishing the current definition again doesn't create a version. 412 if If-Match names
        another version than the current one.
        """
        graph = self.get_object()
        self.caller.require("start", graph.namespace_id)
        changes = self.validated(GraphChangeSerializer)
        _check_unchanged(graph, changes)
        with transaction.atomic():  # a definition that is refused doesn't rename the graph either
            graph = publish.lock_graph(graph)
            _check_match(request, graph)
            name = changes.pop("name", graph.name)
            current = graph.current.definition if graph.current else {"nodes": [], "edges": []}
            definition = redaction.definition_restored({**current, **changes}, current)
            if name != graph.name:
                _rename(graph, name, self.caller)
            published = publish.publish_graph(graph.namespace, graph.name, definition, self.caller)
        return self._tagged(published)

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


def _tag(graph: Graph) -> str:
    """The entity tag of what a PUT changes: the name and the current version."""
    name = hashlib.sha256(graph.name.encode()).hexdigest()[:12]
    return f'"{graph.current.number if graph.current else 0}-{name}"'


def _check_match(request: Request, graph: Graph) -> None:
    """Raises PreconditionFailed if If-Match names neither the locked graph's state nor any."""
    sent = request.headers.get("If-Match")
    tags = [tag.strip().removeprefix("W/") for tag in (sent or "*").split(",")]
    if not {"*", _tag(graph)} & set(tags):
        raise errors.PreconditionFailed(
            f"The graph has changed since: it is now {graph} at version"
            f" {graph.current.number if graph.current else 0}. Read it again."
        )


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
