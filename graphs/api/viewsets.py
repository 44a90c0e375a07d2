"""The base of all viewsets."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict
from django.utils.module_loading import import_string
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.metadata import SimpleMetadata
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import BasePagination
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from graphs.api import errors as api_errors
from graphs.api.idempotency import answer_once
from graphs.api.pagination import AnyModel
from graphs.api.parsers import StrictJSONParser
from graphs.api.permissions import ScopePermission
from graphs.api.schema import OperationSchema
from graphs.api.strict import Serializer
from graphs.api.throttling import KeyThrottle
from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition.types import JsonObject
from statemanager.conf import conf

FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


class Metadata(SimpleMetadata):
    """OPTIONS names the formats of a path; the fields of its bodies are in the OpenAPI schema."""

    def determine_actions(self, request: Request, view: APIView) -> JsonObject:
        return {}


class ViewSet(GenericViewSet):
    """`scopes` names the scope or right that each action needs; an action without one is refused.

    `bodies` names the actions that read a body, and `queries` the parameters that each action reads
    of the query, apart from those of its pages and filters; `every_query` is read by all actions.
    What nothing reads is refused, so that a misspelt option isn't ignored.

    Every POST accepts an Idempotency-Key. What it must not do in the transaction in which its
    answer is recorded, such as storing files, it does in `prepared`.
    """

    # All of them are named here, so that the settings of REST framework, which are those of the
    # whole project, change nothing.
    authentication_classes: Sequence[Any] = [
        import_string(name) for name in conf.AUTHENTICATION_CLASSES
    ]
    permission_classes: Sequence[type[BasePermission]] = [ScopePermission]
    throttle_classes = [KeyThrottle]
    renderer_classes: Sequence[type[BaseRenderer]] = [JSONRenderer]
    parser_classes: Sequence[type[BaseParser]] = [StrictJSONParser]
    content_negotiation_class = DefaultContentNegotiation
    versioning_class = None
    pagination_class: type[BasePagination] | None = None
    filter_backends: Sequence[Any] = ()
    schema = OperationSchema()
    metadata_class = Metadata
    scopes: dict[str, str] = {}
    bodies: Collection[str] = ()
    queries: Mapping[str, Collection[str]] = {}
    every_query: Collection[str] = ()
    ignores_unknown_members = False
    post: Callable[..., Response]  # set for each request to the action that answers its POST

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return api_errors.handle

    def initial(self, request: Request, *args: str, **kwargs: str) -> None:
        super().initial(request, *args, **kwargs)
        if request.method != "OPTIONS":
            self._refuse_unread(request)
        if request.method == "POST":
            self.post = answer_once(self.post, self.caller, self.prepared)

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Prepare a POST, and clean up after its transaction. Called before the action."""
        yield

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

    def _refuse_unread(self, request: Request) -> None:
        """Raises Malformed for parameters and members that nothing reads, and names them."""
        known = self.known_queries()
        unread = [("query", name) for name in request.query_params if name not in known]
        repeated = [] if self.ignores_unknown_members else _repeated(request.query_params)
        has_no_body = self.action not in self.bodies and not self.ignores_unknown_members
        if request.method != "GET" and has_no_body:
            unread += [("body", name) for name in _members(request)]
        if unread:
            raise errors.Malformed([_unread(place, name) for place, name in unread])
        if repeated:
            message = "Give this parameter once."
            raise errors.Malformed(
                [{"loc": ["query", name], "msg": message, "type": "repeated"} for name in repeated]
            )

    def known_queries(self) -> set[str]:
        """The parameters of the query that the action reads."""
        known = {*self.every_query, *self.queries.get(self.action or "", ())}
        if self.reads_pages:
            pages = self.paginator.get_schema_operation_parameters(self) if self.paginator else []
            known.update(parameter["name"] for parameter in pages)
            if self.filter_backends:
                known.update(getattr(getattr(self, "filterset_class", None), "base_filters", ()))
        return known

    @property
    def reads_pages(self) -> bool:
        """Whether the action is the list, or an extra action with a pagination class."""
        handler = getattr(self, self.action or "", None)
        return self.action == "list" or "pagination_class" in getattr(handler, "kwargs", {})

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


def _members(request: Request) -> list[str]:
    """The names of the body's members; one that is empty for a body that is no object."""
    try:
        data = request.data
    except UnsupportedMediaType:
        if not request.content_type.startswith(FORMS):
            raise
        data = {**request._request.POST, **request._request.FILES}
    if isinstance(data, Mapping):
        return list(data)
    return [""] if data else []


def _repeated(query: QueryDict) -> list[str]:
    return [name for name, values in query.lists() if len(values) > 1]


def _unread(place: str, name: str) -> JsonObject:
    what = "parameter" if place == "query" else "member"
    message = f"There is no such {what}." if name else "This request has no body."
    return {"loc": [place, name] if name else [place], "msg": message, "type": "unknown"}
