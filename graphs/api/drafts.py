"""Drafts over REST, and graphs as pictures and as Mermaid text.

Who changes a draft says which revision was looked at (`If-Match`), so that nobody overwrites what somebody else did meanwhile.
"""

from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.base import View
from graphs.api.lookups import graph_of
from graphs.api.problem_details import PROBLEM
from graphs.api.serializers import DefinitionShape, GraphShape, ProblemShape, graph_shape
from graphs.api.views import REFUSALS
from graphs.definition import edits, errors
from graphs.definition.payloads import when
from graphs.definition.types import Definition, Json
from graphs.models import Graph
from graphs.rendering import mermaid, svg
from graphs.services import drafts

IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="the ETag of the draft that was looked at"
)
STALE: dict[Any, Any] = {**REFUSALS, (412, PROBLEM): ProblemShape, (428, PROBLEM): ProblemShape}


class DraftShape(DefinitionShape):
    """A graph as somebody draws it. `revision` counts its changes; 0 is the published version, unchanged. `differs` from that or not."""

    revision = serializers.IntegerField()
    differs = serializers.BooleanField()
    said = serializers.CharField(help_text="What the last change was.")
    changed_by = serializers.CharField(allow_null=True)
    changed_at = serializers.DateTimeField(allow_null=True)


class PublishShape(serializers.Serializer):
    note = serializers.CharField(max_length=500, required=False, allow_blank=True)


class DraftView(View):
    scopes = {"GET": "read", "PUT": "run"}

    @extend_schema(operation_id="graphs_draft_read", responses={200: DraftShape, **REFUSALS})
    def get(self, request: Request, graph_id: str) -> Response:
        """The draft of a graph. Its ETag is what a change must name."""
        graph = graph_of(self.caller, graph_id)
        return _answer(graph, drafts.draft_of(graph))

    @extend_schema(
        operation_id="graphs_draft_update",
        parameters=[IF_MATCH],
        request=DefinitionShape,
        responses={200: DraftShape, **STALE},
    )
    def put(self, request: Request, graph_id: str) -> Response:
        """Replace the draft. What can't run may be stored, what can't be drawn may not. 412 when it was changed since, 428 without If-Match."""
        graph = graph_of(self.caller, graph_id)
        asked = DefinitionShape(data=request.data)
        asked.is_valid(raise_exception=True)
        definition: Json = {
            key: value for key, value in asked.validated_data.items() if value is not None
        }
        edit = edits.Edit(definition, "Replace over the API")
        draft = drafts.replace(graph, _base(request, graph), edit, self.caller)
        return _answer(graph, draft)


class PublishDraftView(View):
    scopes = {"POST": "run"}

    @extend_schema(
        operation_id="graphs_draft_publish",
        parameters=[IF_MATCH],
        request=PublishShape,
        responses={200: GraphShape, **STALE},
    )
    def post(self, request: Request, graph_id: str) -> Response:
        """Make the draft the graph's next version. 400 with all problems when it can't run."""
        graph = graph_of(self.caller, graph_id)
        asked = PublishShape(data=request.data)
        asked.is_valid(raise_exception=True)
        published = drafts.publish(
            graph, _base(request, graph), self.caller, asked.validated_data.get("note", "")
        )
        return Response(graph_shape(published))


class MermaidView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="graphs_mermaid", responses={(200, "text/plain"): OpenApiTypes.STR, **REFUSALS}
    )
    def get(self, request: Request, graph_id: str) -> HttpResponse:
        """The published graph as Mermaid text."""
        return HttpResponse(
            mermaid.mermaid(_published(graph_of(self.caller, graph_id))),
            content_type="text/plain; charset=utf-8",
        )


class GraphPictureView(View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="graphs_picture",
        responses={(200, "image/svg+xml"): OpenApiTypes.STR, **REFUSALS},
    )
    def get(self, request: Request, graph_id: str) -> HttpResponse:
        """The published graph as SVG."""
        graph = graph_of(self.caller, graph_id)
        return HttpResponse(
            svg.of_definition(_published(graph), graph.name), content_type="image/svg+xml"
        )


def _published(graph: Graph) -> Definition:
    if graph.current is None:
        raise errors.NotFound(f"The graph {graph.name!r} was not published yet.")
    return graph.current.definition


def _tag(draft: drafts.Draft) -> str:
    return f'"{draft.base}"'


def _base(request: Request, graph: Graph) -> drafts.Base:
    """The draft that If-Match names, if it is the current one."""
    given = request.headers.get("If-Match", "").removeprefix("W/")
    if not given:
        raise errors.PreconditionRequired(
            "Send the ETag of the draft that you looked at as If-Match."
        )
    draft = drafts.draft_of(graph)
    if given not in (_tag(draft), "*"):
        raise errors.PreconditionFailed(
            f"The draft is at revision {draft.revision} now: {draft.change.message if draft.change else 'a version was published'}."
        )
    return draft.base


def _answer(graph: Graph, draft: drafts.Draft) -> Response:
    change = draft.change
    members = {
        key: draft.definition.get(key)
        for key in ("nodes", "edges", "inputs", "settings", "metadata")
    }
    body = {
        **members, "revision": draft.revision, "differs": drafts.differs(graph, draft), "said": change.message if change else "",
        "changed_by": change.made_by if change else None, "changed_at": when(change.made_at) if change else None,
    }  # fmt: skip
    return Response(body, headers={"ETag": _tag(draft), "Cache-Control": "private, no-cache"})
