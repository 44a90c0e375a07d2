"""The map of all URLs of this project.

API paths have no trailing slash here; `BothSlashForms` (see `statemanager.middleware`) accepts both
forms. The admin comes last, because it answers every path below `admin/`.
"""

from importlib import import_module

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views import defaults
from django.views.generic import RedirectView

from graphs.api import errors
from graphs.api.tokens import RefreshView, RevokeView, TokenView
from statemanager import api_docs, health, second_factor, sessions
from statemanager.middleware import is_api

admin.autodiscover()
import_module("statemanager.site_admin")

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("schema", api_docs.schema, name="schema"),
    path("docs/", api_docs.docs, name="docs"),
    path("", include("statemanager.host_urls")),
    # Not resources, but single operations.
    path("token", TokenView.as_view()),
    path("token/refresh", RefreshView.as_view()),
    path("token/revoke", RevokeView.as_view()),
    path("admin/access/", admin.site.admin_view(sessions.own_access), name="own_access"),
    path(
        "admin/access/second-factor/",
        admin.site.admin_view(second_factor.own_second_factor),
        name="second_factor",
    ),
    # Ids with a slash, which no run has: without this, the admin would answer with its login.
    path("admin/runs/<path:rest>", errors.unknown_path),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(pattern_name="admin:index")),
]


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request.path_info):
        return errors.not_found(request)
    return defaults.page_not_found(request, exception)


def handler500(request: HttpRequest) -> HttpResponse:
    return (
        errors.server_error(request)
        if is_api(request.path_info)
        else defaults.server_error(request)
    )
