"""The base of all viewsets."""

from collections.abc import Callable

from django.db.models import QuerySet
from rest_framework.metadata import SimpleMetadata
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from graphs.api.idempotency import answer_once
from graphs.api.pagination import AnyModel
from graphs.api.permissions import ScopePermission
from graphs.auth.callers import Caller
from graphs.definition.types import JsonObject


class Metadata(SimpleMetadata):
    """OPTIONS names the formats of a path; the fields of its bodies are in the OpenAPI schema."""

    def determine_actions(self, request: Request, view: APIView) -> JsonObject:
        return {}


class ViewSet(GenericViewSet):
    """`scopes` names the scope or right that each action needs; an action without one is refused.

    Every POST accepts an Idempotency-Key.
    """

    permission_classes = [ScopePermission]
    metadata_class = Metadata
    scopes: dict[str, str] = {}
    post: Callable[..., Response]  # set for each request to the action that answers its POST

    def initial(self, request: Request, *args: str, **kwargs: str) -> None:
        super().initial(request, *args, **kwargs)
        if request.method == "POST":
            self.post = answer_once(self.post, self.caller)

    @property
    def caller(self) -> Caller:
        assert isinstance(self.request.auth, Caller)
        return self.request.auth

    @property
    def needed_scope(self) -> str | None:
        """The scope of the action; OPTIONS needs that of GET."""
        is_options = self.action == "metadata"
        action = self.action_map.get("get") if is_options else self.action
        return self.scopes.get(action or "")

    def page(self, queryset: QuerySet[AnyModel]) -> list[AnyModel]:
        """The page of a list that the query asks for, as the `pagination_class` reads it."""
        page = self.paginate_queryset(queryset)
        assert page is not None
        return page

    def validated(
        self, serializer_class: type[Serializer], may_be_empty: bool = False
    ) -> JsonObject:
        """The request's body, read by a serializer.

        Raises ValidationError, which lists every field that is wrong.
        """
        data = self.request.data
        if may_be_empty and not data:
            data = {}
        serializer = serializer_class(data=data)
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)
