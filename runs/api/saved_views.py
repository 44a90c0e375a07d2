"""Saved views of the Run Manager's list over REST."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.permissions import AdminPermission
from graphs.api.schema import REFUSALS
from graphs.api.viewsets import ViewSet
from graphs.definition.names import parse_id
from runs.actions import saved_views
from runs.models import SavedView

MAX_LISTED = 1000


class ViewSerializer(serializers.Serializer):
    """`query` is the query string of the list.

    `namespace` is where a view is shared. It may be left out by callers that see one namespace, and
    by those that see all: such a view is shared with everybody who sees all namespaces.
    """

    id = serializers.IntegerField(read_only=True)
    name = serializers.CharField(max_length=100)
    query = serializers.CharField(max_length=4000, allow_blank=True)
    shared = serializers.BooleanField(default=False)
    namespace = serializers.CharField(
        source="namespace.name", max_length=100, default=None, allow_null=True
    )


class ViewsSerializer(serializers.Serializer):
    views = ViewSerializer(many=True)


class SavedViewViewSet(ViewSet):
    permission_classes = [AdminPermission]
    lookup_url_kwarg = "view"
    scopes = {"list": "read", "create": "read", "destroy": "read"}
    bodies = ("create",)

    @extend_schema(operation_id="saved_views_list", responses={200: ViewsSerializer, **REFUSALS})
    def list(self, request: Request) -> Response:
        """The caller's own views, and those shared in namespaces that the caller sees.

        Own ones come first; there are 1,000 at most.
        """
        views = SavedView.objects.visible_to(self.caller)[:MAX_LISTED]
        return Response({"views": ViewSerializer(views, many=True).data})

    @extend_schema(
        operation_id="saved_views_save",
        request=ViewSerializer,
        responses={200: ViewSerializer, **REFUSALS},
    )
    def create(self, request: Request) -> Response:
        """Save a query under a name, replacing the caller's view of that name.

        A shared view is for those who see its namespace. Views belong to users, so an API key can't
        save one.
        """
        data = self.validated(ViewSerializer)
        namespace = (data.pop("namespace", None) or {}).get("name") or ""
        view = saved_views.save(self.caller, namespace=namespace, **data)
        return Response(ViewSerializer(view).data)

    @extend_schema(operation_id="saved_views_delete", responses={204: None, **REFUSALS})
    def destroy(self, request: Request, view: str) -> Response:
        """Delete one of the caller's own views, or a shared one.

        A shared one needs the right to archive and label runs in its namespace.
        """
        saved_views.remove(self.caller, parse_id(view) or 0)
        return Response(status=204)
