"""The pages of lists. None of them counts its rows: counting would read the whole list."""

from typing import TypeVar
from uuid import UUID

from django.db.models import Model, QuerySet
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from graphs.definition import errors
from graphs.definition.names import parse_id
from graphs.definition.types import Json, JsonObject

AnyModel = TypeVar("AnyModel", bound=Model)
MAX_LIMIT = 1000


def parameter(name: str, description: str, kind: str = "string") -> JsonObject:
    """A query parameter in the OpenAPI schema."""
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": kind},
    }


def read_limit(request: Request, default: int, maximum: int = MAX_LIMIT) -> int:
    """The query's `limit`. Raises Malformed when it is out of range."""
    limit = parse_id(request.query_params.get("limit", str(default)))
    if limit is None or not 1 <= limit <= maximum:
        raise errors.Malformed(f"limit must be a number from 1 to {maximum}.")
    return limit


class OffsetPagination(BasePagination):
    """`limit` and `offset`; the answer is the bare list."""

    max_limit = 200
    default_limit = 50

    def paginate_queryset(  # type: ignore[override]
        self, queryset: QuerySet[AnyModel], request: Request, view: APIView | None = None
    ) -> list[AnyModel]:
        """Raises Malformed when `limit` or `offset` is out of range."""
        limit = parse_id(request.query_params.get("limit", str(self.default_limit)))
        offset = parse_id(request.query_params.get("offset", "0"))
        if limit is None or offset is None or not 1 <= limit <= self.max_limit:
            raise errors.Malformed(
                f"limit must be a number from 1 to {self.max_limit}, offset a number from 0."
            )
        return list(queryset[offset : offset + limit])

    def get_paginated_response(self, data: Json) -> Response:
        return Response(data)

    def get_schema_operation_parameters(self, view: APIView) -> list[JsonObject]:
        limits = f"1–{self.max_limit}, default {self.default_limit}"
        return [
            parameter("limit", limits, "integer"),
            parameter("offset", "The number of items to skip.", "integer"),
        ]


class AfterPagination(BasePagination):
    """`limit`, and `after`: the `next` of the previous page, which is the key of its last row.

    The answer's own `next` is null on the last page.
    """

    default_limit = 100
    next: str | None = None

    def paginate_queryset(  # type: ignore[override]
        self, queryset: QuerySet[AnyModel], request: Request, view: APIView | None = None
    ) -> list[AnyModel]:
        """Raises Malformed when `limit` or `after` can't be read."""
        limit = read_limit(request, self.default_limit)
        after = request.query_params.get("after")
        if after is not None:
            queryset = queryset.filter(pk__gt=self.read_after(after))
        page = list(queryset.order_by("pk")[:limit])
        self.next = str(page[-1].pk) if len(page) == limit else None
        return page

    def read_after(self, after: str) -> int | UUID:
        """The primary key that `after` names."""
        pk = parse_id(after)
        if pk is None:
            raise errors.Malformed("after must be the `next` of a previous page.")
        return pk

    def get_paginated_response(self, data: JsonObject) -> Response:
        """`data` is the answer without `next`."""
        return Response({**data, "next": self.next})

    def get_schema_operation_parameters(self, view: APIView) -> list[JsonObject]:
        limits = f"1–{MAX_LIMIT}, default {self.default_limit}"
        return [
            parameter("limit", limits, "integer"),
            parameter("after", "The `next` of the previous page."),
        ]
