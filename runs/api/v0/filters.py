"""How the lists of `/v0` use the filters of `runs.queries.filters`."""

from django.db.models import QuerySet
from django_filters import FilterSet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.views import APIView

from graphs.api.pagination import AnyModel
from graphs.definition import errors


class V0FilterBackend(DjangoFilterBackend):
    def filter_queryset(
        self, request: Request, queryset: QuerySet[AnyModel], view: APIView
    ) -> QuerySet[AnyModel]:
        filterset_class = self.get_filterset_class(view, queryset)
        return filtered(filterset_class, request, queryset) if filterset_class else queryset


def filtered(
    filterset_class: type[FilterSet], request: Request, rows: QuerySet[AnyModel]
) -> QuerySet[AnyModel]:
    """The rows that match the query. Raises Malformed, which names each filter that can't be read.

    A filter that is given several times takes all its values, as if commas separated them.
    """
    if filterset_class.base_filters.keys().isdisjoint(request.query_params):
        return rows  # building the form takes longer than reading the list
    query = {name: ",".join(values) for name, values in request.query_params.lists()}
    filterset = filterset_class(query, queryset=rows)
    if not filterset.is_valid():
        raise errors.Malformed(
            [
                {
                    "type": "value_error",
                    "loc": ["query", name],
                    "msg": " ".join(messages),
                    "input": request.query_params.get(name),
                }
                for name, messages in filterset.errors.items()
            ]
        )
    if any("\x00" in value for value in query.values()):
        raise errors.Malformed("A query can't contain NUL characters.")
    return filterset.qs


def query_parameters(filterset_class: type[FilterSet]) -> list[OpenApiParameter]:
    """The filters of a set, for lists that have more than the one of their backend."""
    return [
        OpenApiParameter(name, str, description=field.extra.get("help_text", ""))
        for name, field in filterset_class.base_filters.items()
    ]
