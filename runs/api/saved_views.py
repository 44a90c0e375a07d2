"""Saved views of the Run Manager's list over REST."""

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.permissions import AdminPermission
from graphs.api.schema import REFUSALS
from graphs.api.viewsets import ViewSet
from graphs.definition.names import parse_id
from graphs.definition.types import JsonObject
from runs.actions import saved_views
from runs.models import SavedView

MAX_LISTED = 1000


class ViewSerializer(serializers.Serializer):
    """`query` is the query string of the list.

    `namespace` is where a view is shared. It may be left out by callers that see one namespace, and
    by those that see all: such a view is shared with everybody who sees all namespaces. With
    `group`, one of the caller's own, it is shared with the members of that group instead.
    `default` says that the list opens with the view for the caller.
    """

    id = serializers.IntegerField(read_only=True)
    name = serializers.CharField(max_length=100)
    query = serializers.CharField(max_length=4000, allow_blank=True)
    shared = serializers.BooleanField(default=False)
    namespace = serializers.CharField(
        source="namespace.name", max_length=100, default=None, allow_null=True
    )
    group = serializers.CharField(
        source="group.name", max_length=150, default=None, allow_null=True
    )
    default = serializers.SerializerMethodField(method_name="is_default")

    def is_default(self, view: SavedView) -> bool:
        return view.pk == self.context.get("default")


class ViewsSerializer(serializers.Serializer):
    views = ViewSerializer(many=True)


class SavedViewViewSet(ViewSet):
    permission_classes = [AdminPermission]
    lookup_url_kwarg = "view"
    scopes = {
        "list": "read",
        "create": "read",
        "destroy": "read",
        "choose_default": "read",
        "drop_default": "read",
    }
    bodies = ("create",)

    @extend_schema(operation_id="saved_views_list", responses={200: ViewsSerializer, **REFUSALS})
    def list(self, request: Request) -> Response:
        """The caller's own views, and those shared in namespaces that the caller sees.

        Own ones come first; there are 1,000 at most.
        """
        views = SavedView.objects.visible_to(self.caller)[:MAX_LISTED]
        serializer = ViewSerializer(views, many=True, context=self._context())
        return Response({"views": serializer.data})

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
        group = (data.pop("group", None) or {}).get("name") or ""
        view = saved_views.save(self.caller, namespace=namespace, group=group, **data)
        return Response(ViewSerializer(view, context=self._context()).data)

    @extend_schema(operation_id="saved_views_delete", responses={204: None, **REFUSALS})
    def destroy(self, request: Request, view: str) -> Response:
        """Delete one of the caller's own views, or a shared one.

        A shared one needs the right to archive and label runs in its namespace.
        """
        saved_views.remove(self.caller, parse_id(view) or 0)
        return Response(status=204)

    @extend_schema(
        operation_id="saved_views_choose_default",
        request=None,
        responses={204: None, **REFUSALS},
    )
    @action(detail=True, methods=["post"], url_path="default")
    def choose_default(self, request: Request, view: str) -> Response:
        """Let the list open with this view for the caller, who is a user."""
        saved_views.choose_default(self.caller, parse_id(view) or 0, chosen=True)
        return Response(status=204)

    @extend_schema(operation_id="saved_views_drop_default", responses={204: None, **REFUSALS})
    @choose_default.mapping.delete
    def drop_default(self, request: Request, view: str) -> Response:
        """Let the list open without this view again."""
        saved_views.choose_default(self.caller, parse_id(view) or 0, chosen=False)
        return Response(status=204)

    def _context(self) -> JsonObject:
        default = saved_views.default_of(self.caller)
        return {"default": default and default.pk}
