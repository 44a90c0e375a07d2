"""Saved views of the Run Manager's list over REST."""

from django.db import IntegrityError
from django.db.models import Q
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.permissions import AdminPermission
from graphs.api.schema import REFUSALS
from graphs.api.viewsets import ViewSet
from graphs.definition import errors
from graphs.definition.names import parse_id
from runs.models import SavedView


class ViewSerializer(serializers.Serializer):
    """`query` is the query string of the list."""

    id = serializers.IntegerField(read_only=True)
    name = serializers.CharField(max_length=100)
    query = serializers.CharField(max_length=4000, allow_blank=True)
    shared = serializers.BooleanField(default=False)


class ViewsSerializer(serializers.Serializer):
    views = ViewSerializer(many=True)


class SavedViewViewSet(ViewSet):
    permission_classes = [AdminPermission]
    lookup_url_kwarg = "view"
    scopes = {"list": "read", "create": "read", "destroy": "read"}

    @extend_schema(operation_id="saved_views_list", responses={200: ViewsSerializer, **REFUSALS})
    def list(self, request: Request) -> Response:
        """The caller's own views and those that are shared."""
        is_visible = Q(shared=True)
        if self.caller.user:
            is_visible |= Q(owner=self.caller.user)
        views = SavedView.objects.filter(is_visible)
        return Response({"views": ViewSerializer(views, many=True).data})

    @extend_schema(
        operation_id="saved_views_save",
        request=ViewSerializer,
        responses={200: ViewSerializer, **REFUSALS},
    )
    def create(self, request: Request) -> Response:
        """Save a query under a name, replacing the caller's view of that name.

        Views belong to users, so an API key can't save one.
        """
        data = self.validated(ViewSerializer)
        if self.caller.user is None:
            raise errors.Forbidden("Views belong to users; an API key can't save one.")
        values = {"query": data["query"].lstrip("?"), "shared": data["shared"]}
        try:
            view, _ = SavedView.objects.update_or_create(
                owner=self.caller.user, name=data["name"], defaults=values
            )
        except IntegrityError:
            raise errors.Conflict("Another request has just saved this view.") from None
        return Response(ViewSerializer(view).data)

    @extend_schema(operation_id="saved_views_delete", responses={204: None, **REFUSALS})
    def destroy(self, request: Request, view: str) -> Response:
        """Delete one of the caller's own views; admins of all namespaces may delete any."""
        may_delete_any = self.caller.may("admin") and self.caller.namespaces is None
        views = SavedView.objects.filter(pk=parse_id(view) or 0)
        if not may_delete_any:
            views = views.filter(owner=self.caller.user)
        if not views.delete()[0]:
            raise errors.NotFound(f"There is no view {view[:50]!r}.")
        return Response(status=204)
