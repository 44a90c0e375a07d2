"""How the lists of the API use the filters of `runs.queries.filters`."""

from django.db.models import QuerySet
from django_filters import FilterSet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.extensions import OpenApiFilterExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework.request import Request
from rest_framework.views import APIView

from graphs.api.pagination import parameter
from graphs.auth.callers import Caller
from graphs.definition.types import JsonObject
from runs.api.pagination import PAGE_PARAMETERS
from runs.models import Run
from runs.queries.filters import RunFilters


class ManagerFilterBackend(DjangoFilterBackend):
    """The Run Manager's filters, which its pages and bulk operations use, too.

    A viewset's `other_parameters` are those of the query that are no filters.
    """

    def filter_queryset(
        self, request: Request, queryset: QuerySet[Run], view: APIView
    ) -> QuerySet[Run]:
        """Raises InvalidFilters, which names each filter that is unknown or can't be read."""
        others = getattr(view, "other_parameters", PAGE_PARAMETERS)
        filters = RunFilters.of_query(request.query_params, others)
        assert isinstance(request.auth, Caller)  # as the permissions of the viewset have seen to
        return filters.apply(queryset, request.auth)


class FilterSchema(OpenApiFilterExtension):  # type: ignore[no-untyped-call]
    """Filters are documented as texts: several values are separated by commas."""

    target_class = DjangoFilterBackend
    match_subclasses = True
    priority = 1  # before the extension that drf-spectacular has for the same class

    def get_schema_operation_parameters(self, auto_schema: AutoSchema) -> list[JsonObject]:
        filterset_class: type[FilterSet] | None = getattr(auto_schema.view, "filterset_class", None)
        if filterset_class is None:
            return []
        return [
            parameter(name, field.extra.get("help_text", ""))
            for name, field in filterset_class.base_filters.items()
        ]
