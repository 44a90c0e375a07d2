"""The pages of the Run Manager's list."""

from datetime import datetime

from django.db.models import QuerySet
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.pagination import parameter, read_limit
from graphs.api.viewsets import ViewSet
from graphs.definition import errors
from graphs.definition.names import parse_id
from graphs.definition.types import Json, JsonObject
from runs.models import Run
from runs.queries import lists, orderings, run_cursor, search
from runs.queries.filters import RunFilters
from runs.queries.lists import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE

COLUMNS = ("run_id", "name", "status", "created_at", "username", "workspace")
RunRow = tuple[str, str, str, datetime, str, str]  # of these columns
MAX_PAGE = 10**9
PAGE_PARAMETERS = ("page", "page_size", "count", "ordering")
CURSOR_PARAMETERS = ("after", "limit", "ordering")


class RunPagination(BasePagination):
    """`page`, `page_size` and, unless `count=none`, the total, which is cached when it is large.

    DRF's own page numbers count all rows for every page and read the rows before it.
    """

    page: int
    page_size: int
    total: int | None
    notices: list[str]

    def paginate_queryset(  # type: ignore[override]
        self, queryset: QuerySet[Run], request: Request, view: ViewSet
    ) -> list[RunRow]:
        """The rows of the page, without the models around them, which would take longer to build.

        Raises Malformed when `page` or `page_size` is out of range, or for an ordering that doesn't
        exist or that isn't possible for so many runs.
        """
        query = request.query_params
        page = parse_id(query.get("page", "1"))
        page_size = parse_id(query.get("page_size", str(DEFAULT_PAGE_SIZE)))
        if page is None or not 1 <= page <= MAX_PAGE:
            raise _out_of_range()
        if page_size is None or not 1 <= page_size <= MAX_PAGE_SIZE:
            raise _out_of_range()

        filters = RunFilters.of_query(query, PAGE_PARAMETERS)
        key = filters.cache_key(view.caller)
        ordering_name = query.get("ordering") or orderings.DEFAULT
        ordering = orderings.named(ordering_name)
        refusal = orderings.refusal_for(ordering_name, queryset, key)
        if refusal:
            raise errors.Malformed(refusal)

        self.page = page
        self.page_size = page_size
        self.notices = search.parse(query.get("search", "")).notices
        self.total = None
        if query.get("count", "all") not in ("all", "none"):
            raise errors.Malformed("count must be none or all.")
        if query.get("count") != "none":
            self.total = lists.total(queryset, key)
        runs = lists.run_page(queryset, (page - 1) * page_size, page_size, ordering)
        return list(runs.values_list(*COLUMNS))

    def get_paginated_response(self, data: Json) -> Response:
        return Response(
            {
                "runs": data,
                "total": self.total,
                "page": self.page,
                "page_size": self.page_size,
                "notices": self.notices,
            }
        )

    def get_schema_operation_parameters(self, view: ViewSet) -> list[JsonObject]:  # type: ignore[override]
        count = parameter("count", "none: don't count the total; it is null then.")
        count["schema"]["enum"] = ["all", "none"]
        ordering = parameter("ordering", "A column of the list; a minus before it reverses it.")
        ordering["schema"]["enum"] = list(orderings.ORDERINGS)
        sizes = f"1–{MAX_PAGE_SIZE}, default {DEFAULT_PAGE_SIZE}"
        return [
            count,
            ordering,
            parameter("page", "from 1", "integer"),
            parameter("page_size", sizes, "integer"),
        ]


class RunCursorPagination(BasePagination):
    """`limit`, `ordering`, and `after`: the `next` of the previous page; null on the last one."""

    next: str | None = None
    notices: list[str]

    def paginate_queryset(  # type: ignore[override]
        self, queryset: QuerySet[Run], request: Request, view: ViewSet
    ) -> list[Run]:
        """Raises Malformed when a parameter can't be read."""
        limit = read_limit(request, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        ordering = request.query_params.get("ordering") or run_cursor.DEFAULT_ORDERING
        if ordering not in run_cursor.ORDERINGS:
            raise errors.Malformed(f"ordering is one of {', '.join(run_cursor.ORDERINGS)}.")
        after = request.query_params.get("after", "")
        self.notices = search.parse(request.query_params.get("search", "")).notices
        runs = list(run_cursor.page_after(queryset, ordering, after, limit + 1))
        if len(runs) > limit:
            self.next = run_cursor.cursor_of(runs[limit - 1], ordering)
        return runs[:limit]

    def get_paginated_response(self, data: Json) -> Response:
        return Response({"runs": data, "next": self.next, "notices": self.notices})

    def get_schema_operation_parameters(self, view: ViewSet) -> list[JsonObject]:  # type: ignore[override]
        ordering = parameter("ordering", f"default {run_cursor.DEFAULT_ORDERING}")
        ordering["schema"]["enum"] = list(run_cursor.ORDERINGS)
        sizes = f"1–{MAX_PAGE_SIZE}, default {DEFAULT_PAGE_SIZE}"
        return [
            parameter("limit", sizes, "integer"),
            ordering,
            parameter("after", "The `next` of the previous page, in the same order."),
        ]


def _out_of_range() -> errors.Malformed:
    return errors.Malformed(
        f"page must be a number from 1, page_size a number from 1 to {MAX_PAGE_SIZE}."
    )
