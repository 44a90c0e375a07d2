"""Every action of the API names the scope that it needs, and an action without one is refused."""

from collections.abc import Iterator

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory

from graphs.api.viewsets import ViewSet


def api_patterns(patterns: list[URLPattern | URLResolver]) -> Iterator[URLPattern]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from api_patterns(pattern.url_patterns)
        elif issubclass(getattr(pattern.callback, "cls", object), ViewSet):
            yield pattern


def test_every_action_names_its_scope():
    routes = list(api_patterns(get_resolver().url_patterns))
    assert len(routes) > 70
    for route in routes:
        for action in route.callback.actions.values():
            assert action in route.callback.cls.scopes, (str(route.pattern), action)


class Forgetful(ViewSet):
    """A viewset that names the scope of one of its two actions."""

    scopes = {"list": "read"}

    def list(self, request):
        return Response("listed")

    def create(self, request):
        return Response("created")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "status"), [("get", 200), ("post", 403), ("put", 405), ("options", 200)]
)
def test_an_action_without_a_scope_is_refused(make_key, method, status):
    view = Forgetful.as_view({"get": "list", "post": "create"})
    request = getattr(APIRequestFactory(), method)("/", headers={"X-API-Key": make_key("admin")})
    assert view(request).status_code == status
