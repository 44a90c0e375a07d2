"""The pages and the API, for a Django project that installs State Manager:

    path("ops/", include("statemanager.host_urls"))

The pages are below `admin/` then, and the API beside it: `/ops/admin/run-manager/`, `/ops/runs`.
API paths have no trailing slash.
"""

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from graphs.web import interrupted
from runs.api.runs import RunViewSet
from runs.manager import run_page, run_states, start_example, start_from_graph


@csrf_exempt  # as all views of the API are; those that read the session's cookie check it
def runs(request: HttpRequest) -> HttpResponseBase:
    """`/runs?runId=` leads browsers to the run's page. Everybody else gets the list of the API."""
    if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
        return run_page.find_run(request)
    return RunViewSet.as_view({"get": "list"})(request)


urlpatterns = [
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
]
