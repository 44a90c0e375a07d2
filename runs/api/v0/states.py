"""Lists of states under `/v0`."""

from collections.abc import Sequence

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.v0.base import REFUSALS, read_limit
from graphs.api.v0.pagination import V0Pagination
from graphs.definition.types import JsonObject
from runs.api.v0 import rows, schemas
from runs.api.v0.base import OfRunViewSet
from runs.api.v0.filters import V0FilterBackend, filtered, query_parameters
from runs.models import Run, State
from runs.queries import filters, lists

StatePage = tuple[list[lists.StateRow], str | None]  # the states, and the cursor of the next page
ItemPage = tuple[list[JsonObject], str | None]
MAX_STATES = 1000
MAX_NODES = 5000


class StateViewSet(OfRunViewSet):
    filter_backends = [V0FilterBackend]
    filterset_class = filters.StateFilter
    pagination_class = V0Pagination
    scopes = {"list": "read", "of_run": "read", "graph_of_run": "read"}
    queries = {"list": tuple(filters.OfRunFilter.base_filters)}

    @extend_schema(
        operation_id="v0_states_list",
        parameters=query_parameters(filters.OfRunFilter),
        responses={200: schemas.StatesAnswer, **REFUSALS},
    )
    def list(self, request: Request, ns: str) -> Response:
        """The states of a namespace, those of the newest run first."""
        runs = filtered(filters.OfRunFilter, request, self.runs())
        states = self.filter_queryset(State.objects.all())
        is_filtered = any(
            request.query_params.get(name) for name in filters.StateFilter.base_filters
        )
        after = request.query_params.get("after", "")
        limit = read_limit(request, MAX_STATES)
        page, cursor = lists.states_of_runs(runs, states, is_filtered, after, limit)
        items, cursor = self._items(page, cursor)
        return Response(
            {
                "namespace": self.name,
                "count": len(items),
                "states": items,
                "run_ids": list(dict.fromkeys(item["run_id"] for item in items)),
                "next": cursor,
            }
        )

    @extend_schema(
        operation_id="v0_run_states", responses={200: schemas.RunStatesAnswer, **REFUSALS}
    )
    @action(detail=False, url_path="run/<str:run_id>", pagination_class=V0Pagination)
    def of_run(self, request: Request, ns: str, run_id: str) -> Response:
        """The states of one run in the order of their creation; none for an unknown run."""
        limit = read_limit(request, MAX_STATES)
        states = self.filter_queryset(State.objects.all())
        page, cursor = self._page_of_run(self.find_run(), states, limit)
        items, cursor = self._items(page, cursor)
        return Response(
            {
                "namespace": self.name,
                "run_id": run_id,
                "count": len(items),
                "states": items,
                "next": cursor,
            }
        )

    @extend_schema(operation_id="v0_run_graph", responses={200: schemas.RunGraphAnswer, **REFUSALS})
    @action(
        detail=False,
        url_path="run/<str:run_id>/graph",
        pagination_class=V0Pagination,
        filter_backends=[],
    )
    def graph_of_run(self, request: Request, ns: str, run_id: str) -> Response:
        """The states of a run as nodes, with an edge to each from the state that created it.

        Empty for an unknown run.
        """
        run = self.find_run()
        limit = read_limit(request, MAX_NODES)
        page, cursor = self._page_of_run(run, State.objects.all(), limit, lists.LIGHT)
        return Response(rows.run_graph(run, page, cursor))

    def _page_of_run(
        self,
        run: Run | None,
        states: QuerySet[State],
        limit: int,
        columns: tuple[str, ...] = lists.COLUMNS,
    ) -> StatePage:
        if run is None:
            return [], None
        after = self.request.query_params.get("after", "")
        return lists.states_of_run(run, states, after, limit, columns)

    def _items(self, page: Sequence[lists.StateRow], cursor: str | None) -> ItemPage:
        """The items of a page and the cursor after them.

        They are fewer than the rows if together they would name too many parents.
        """
        self.hide_payloads(page)
        items = rows.items(page, self.name)
        if len(items) < len(page):
            cursor = lists.cursor_after(page[len(items) - 1])
        return items, cursor
