"""The map of all URLs.

API paths have no trailing slash here; `BothSlashForms` (see `statemanager.middleware`) accepts both
forms. The admin comes last, because it answers every path below `admin/`.
"""

from importlib import import_module

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import include, path
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import RedirectView

from graphs.api import errors
from graphs.web import interrupted
from runs.api.runs import RunViewSet
from runs.manager import run_page, run_states, start_example, start_from_graph
from statemanager import api_docs, health, second_factor, sessions
from statemanager.middleware import is_api


@csrf_exempt  # as all views of the API are; those that read the session's cookie check it
def runs(request: HttpRequest) -> HttpResponseBase:
    """`/runs?runId=` leads browsers to the run's page. Everybody else gets the list of the API."""
    if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
        return run_page.find_run(request)
    return RunViewSet.as_view({"get": "list"})(request)


admin.autodiscover()
import_module("statemanager.site_admin")

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("schema", api_docs.schema, name="schema"),
    path("docs/", api_docs.docs, name="docs"),
    path("runs", runs),
    path("", include("graphs.api.urls")),
    path("", include("runs.api.urls")),
    path("admin/run-manager/", include("runs.manager.urls")),
    path("admin/", include("graphs.editor.urls")),
    path("admin/flow/examples/<slug:name>/", start_example.start_example, name="flow_example"),
    path("admin/graphs/graph/<int:pk>/flow/run/", start_from_graph.run_graph, name="flow_run"),
    path("admin/run-states/", run_states.run_states, name="run_states"),
    path("admin/run-states/start/", run_states.start, name="run_states_start"),
    path("admin/send-again/", interrupted.send_again, name="send_again"),
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
    if is_api(request.path):
        return errors.not_found(request)
    return defaults.page_not_found(request, exception)


def handler500(request: HttpRequest) -> HttpResponse:
    return errors.server_error(request) if is_api(request.path) else defaults.server_error(request)
