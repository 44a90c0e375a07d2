"""The notes on a run over REST."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.pagination import AfterPagination
from graphs.api.schema import REFUSALS
from graphs.definition import errors
from graphs.definition.names import parse_id
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from runs.actions import notes
from runs.api.lookups import NAMESPACE
from runs.api.viewsets import OfRunViewSet
from runs.models import RunNote


class NewNoteSerializer(serializers.Serializer):
    text = serializers.CharField(max_length=notes.MAX_TEXT)


class NoteSerializer(NewNoteSerializer):
    id = serializers.IntegerField()
    run_id = serializers.CharField()
    author = serializers.CharField()
    created_at = serializers.DateTimeField()

    def to_representation(self, note: RunNote) -> JsonObject:
        return {
            "id": note.pk,
            "run_id": note.run.run_id,  # by which the answer is forgotten with the run
            "author": note.author,
            "text": note.text,
            "created_at": when(note.created_at),
        }


class NotesSerializer(serializers.Serializer):
    notes = NoteSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class NoteViewSet(OfRunViewSet):
    lookup_url_kwarg = "note"
    pagination_class = AfterPagination
    scopes = {"list": "read", "create": "run", "destroy": "run"}
    bodies = ("create",)

    @extend_schema(
        operation_id="runs_notes",
        parameters=[NAMESPACE],
        responses={200: NotesSerializer, **REFUSALS},
    )
    def list(self, request: Request, run_id: str) -> Response:
        """The notes on a run, oldest first."""
        page = self.page(RunNote.objects.filter(run=self.run()).select_related("run"))
        return self.get_paginated_response({"notes": NoteSerializer(page, many=True).data})

    @extend_schema(
        operation_id="runs_notes_create",
        parameters=[NAMESPACE],
        request=NewNoteSerializer,
        responses={201: NoteSerializer, **REFUSALS},
    )
    def create(self, request: Request, run_id: str) -> Response:
        """Write a note on a run."""
        text = self.validated(NewNoteSerializer)["text"]
        note = notes.add_note(self.run(), self.caller, text)
        return Response(NoteSerializer(note).data, 201)

    @extend_schema(
        operation_id="runs_notes_delete",
        parameters=[NAMESPACE],
        responses={204: None, **REFUSALS},
    )
    def destroy(self, request: Request, run_id: str, note: str) -> Response:
        """Delete a note: one's own, or any on a run that one may delete."""
        pk = parse_id(note)
        if pk is None:
            raise errors.NotFound(f"The run has no note {note[:50]!r}.")
        notes.delete_note(self.run(), self.caller, pk)
        return Response(status=204)
