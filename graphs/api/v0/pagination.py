"""The pages of the lists of `/v0`: `limit` and `after`, the `next` of the previous page."""

from typing import TypeVar

from django.db.models import QuerySet
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from graphs.api.pagination import parameter
from graphs.api.v0.base import MAX_LIMIT, read_limit, read_number
from graphs.definition.types import JsonObject
from graphs.models import Graph, GraphVersion, Namespace, RegisteredNode

NamedModel = TypeVar("NamedModel", Namespace, RegisteredNode, Graph)


class V0Pagination(BasePagination):
    """What the lists share. A list may also read its pages itself and use this for the schema."""

    next: str | None = None

    def get_paginated_response(self, data: JsonObject) -> Response:
        """`data` is the answer without `next`."""
        return Response({**data, "next": self.next})

    def get_schema_operation_parameters(self, view: APIView) -> list[JsonObject]:
        return [
            parameter("limit", "The maximum number of items, 1 to 1000.", "integer"),
            parameter("after", "The `next` of the previous page."),
        ]


class NamePagination(V0Pagination):
    """Pages of rows that are ordered by their unique name."""

    max_limit = MAX_LIMIT

    def paginate_queryset(  # type: ignore[override]
        self, queryset: QuerySet[NamedModel], request: Request, view: APIView | None = None
    ) -> list[NamedModel]:
        """Raises Malformed when `limit` is out of range."""
        limit = read_limit(request, self.max_limit)
        after = request.query_params.get("after")
        if after:
            queryset = queryset.filter(name__gt=after.replace("\x00", ""))
        rows = list(queryset.order_by("name")[: limit + 1])
        if len(rows) > limit:
            self.next = rows[limit - 1].name
        return rows[:limit]


class GraphPagination(NamePagination):
    max_limit = 200


class VersionPagination(V0Pagination):
    """Pages of versions, newest first."""

    def paginate_queryset(  # type: ignore[override]
        self, queryset: QuerySet[GraphVersion], request: Request, view: APIView | None = None
    ) -> list[GraphVersion]:
        """Raises Malformed when `limit` or `after` can't be read."""
        limit = read_limit(request, 200, 50)
        after = request.query_params.get("after")
        if after:
            queryset = queryset.filter(number__lt=read_number(after, "after", 0, 2**31))
        rows = list(queryset.order_by("-number")[: limit + 1])
        if len(rows) > limit:
            self.next = str(rows[limit - 1].number)
        return rows[:limit]
