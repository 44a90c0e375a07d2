"""Drafts over REST.

A change names the revision that it is based on (`If-Match`), so that it can't overwrite a change
that was made in the meantime.
"""

from collections.abc import Collection, Sequence

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.problem_details import PROBLEM
from graphs.api.schema import REFUSALS, Responses
from graphs.api.serializers import DefinitionSerializer, GraphSerializer, ProblemSerializer
from graphs.api.viewsets import ViewSet
from graphs.definition import edits, errors, redaction
from graphs.definition.payloads import when
from graphs.definition.types import Json, JsonObject
from graphs.models import Graph
from graphs.services import drafts

DEFINITION_MEMBERS = ("nodes", "edges", "inputs", "settings", "metadata")
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The ETag of the draft that the change is based on.",
)
CHANGE_REFUSALS: Responses = {
    **REFUSALS,
    (412, PROBLEM): ProblemSerializer,
    (428, PROBLEM): ProblemSerializer,
}


class DraftSerializer(DefinitionSerializer):
    """A graph as it is being edited.

    `revision` counts the changes since the published version; 0 is that version. `differs` says
    whether the draft differs from it.
    """

    revision = serializers.IntegerField()
    differs = serializers.BooleanField()
    said = serializers.CharField(help_text="What the last change was.")
    changed_by = serializers.CharField(allow_null=True)
    changed_at = serializers.DateTimeField(allow_null=True)

    def to_representation(self, draft: drafts.Draft) -> JsonObject:
        change, graph = draft.change, self.context["graph"]
        may_see = self.context["caller"].can("payloads", graph.namespace_id)
        definition = redaction.definition_shown(draft.definition, may_see)
        return {
            **{name: definition.get(name) for name in DEFINITION_MEMBERS},
            "revision": draft.revision,
            "differs": drafts.differs(graph, draft),
            "said": change.message if change else "",
            "changed_by": change.made_by if change else None,
            "changed_at": when(change.made_at) if change else None,
        }


class PublishSerializer(serializers.Serializer):
    note = serializers.CharField(max_length=500, required=False, allow_blank=True)


class DraftActions(ViewSet):
    """The draft of a graph, for `GraphViewSet`."""

    scopes = {"draft": "read", "replace_draft": "run", "publish_draft": "run"}
    bodies: Collection[str] = ("replace_draft", "publish_draft")

    def graph_json(self, graphs: Graph | Sequence[Graph], many: bool = False) -> JsonObject:
        return GraphSerializer(graphs, many=many, context={"caller": self.caller}).data

    def _answer(self, graph: Graph, draft: drafts.Draft) -> Response:
        body = DraftSerializer(draft, context={"graph": graph, "caller": self.caller}).data
        return Response(body, headers={"ETag": _tag(draft), "Cache-Control": "private, no-cache"})

    @extend_schema(operation_id="graphs_draft_read", responses={200: DraftSerializer, **REFUSALS})
    @action(detail=True)
    def draft(self, request: Request, graph_id: str) -> Response:
        """The draft of a graph. Changes must name its ETag."""
        graph = self.get_object()
        return self._answer(graph, drafts.draft_of(graph))

    @extend_schema(
        operation_id="graphs_draft_update",
        parameters=[IF_MATCH],
        request=DefinitionSerializer,
        responses={200: DraftSerializer, **CHANGE_REFUSALS},
    )
    @draft.mapping.put
    def replace_draft(self, request: Request, graph_id: str) -> Response:
        """Replace the draft. It may be a graph that can't run yet, but not one that can't be drawn.

        412 when the draft has changed since, 428 without If-Match.
        """
        graph = self.get_object()
        members = self.validated(DefinitionSerializer)
        sent: Json = {name: value for name, value in members.items() if value is not None}
        definition = redaction.definition_restored(sent, drafts.draft_of(graph).definition)
        edit = edits.Edit(definition, "Replace over the API")
        draft = drafts.replace(graph, _base(request, graph), edit, self.caller)
        return self._answer(graph, draft)

    @extend_schema(
        operation_id="graphs_draft_publish",
        parameters=[IF_MATCH],
        request=PublishSerializer,
        responses={200: GraphSerializer, **CHANGE_REFUSALS},
    )
    @action(detail=True, methods=["post"], url_path="draft/publish")
    def publish_draft(self, request: Request, graph_id: str) -> Response:
        """Make the draft the graph's next version. 400 with all problems if it can't run."""
        graph = self.get_object()
        note = self.validated(PublishSerializer).get("note", "")
        published = drafts.publish(graph, _base(request, graph), self.caller, note)
        return Response(self.graph_json(published))


def _base(request: Request, graph: Graph) -> drafts.Base:
    """The current draft's base, if If-Match names it.

    Raises PreconditionRequired without If-Match and PreconditionFailed for another revision.
    """
    tag = request.headers.get("If-Match", "").removeprefix("W/")
    if not tag:
        raise errors.PreconditionRequired(
            "Send the ETag of the draft that your change is based on as If-Match."
        )
    draft = drafts.draft_of(graph)
    if tag not in (_tag(draft), "*"):
        last_change = draft.change.message if draft.change else "a version was published"
        raise errors.PreconditionFailed(
            f"The draft is now at revision {draft.revision}: {last_change}."
        )
    return draft.base


def _tag(draft: drafts.Draft) -> str:
    return f'"{draft.base}"'
