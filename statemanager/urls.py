"""The map of all URLs. API paths are written without a trailing slash; the middleware takes both forms."""

from typing import Any

from csp.decorators import csp_update
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views import defaults
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from graphs.api import drafts, errors, tokens, views
from graphs.api.v0 import views as v0
from runs.api import (
    bulk_operations,
    documents,
    inspection,
    reruns,
    run_manager,
    run_templates,
    runs,
)
from runs.manager import run_page, run_states, start_example, start_from_graph
from statemanager import health, urls_v0
from statemanager.middleware import is_api


class DocsView(SpectacularSwaggerSplitView):
    """The API's documentation pages, with nothing fetched from elsewhere."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    url_name = "schema"


urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path(
        "schema",
        SpectacularAPIView.as_view(authentication_classes=[], permission_classes=[]),
        name="schema",
    ),
    path(
        "docs/",
        csp_update({"style-src": ["'self'", "'unsafe-inline'"]})(DocsView.as_view()),
        name="docs",
    ),
    path("graphs", views.GraphsView.as_view()),
    path("graphs/<str:graph_id>", runs.GraphWithRunsView.as_view()),
    path("graphs/<str:graph_id>/validate", views.ValidateView.as_view()),
    path("graphs/<str:graph_id>/draft", drafts.DraftView.as_view()),
    path("graphs/<str:graph_id>/draft/publish", drafts.PublishDraftView.as_view()),
    path("graphs/<str:graph_id>/graph.mmd", drafts.MermaidView.as_view()),
    path("graphs/<str:graph_id>/graph.svg", drafts.GraphPictureView.as_view()),
    path("graphs/<str:graph_id>/run", runs.RunGraphView.as_view()),
    path("graphs/<str:graph_id>/runs", runs.RunsOfGraphView.as_view()),
    path("datasets", views.DatasetsView.as_view()),
    path("datasets/<str:dataset_id>", views.DatasetView.as_view()),
    path("runs", run_page.runs_in_browser),
    path("runs/<str:run_id>", runs.RunView.as_view(), name="run"),
    path("runs/<str:run_id>/cancel", runs.CancelView.as_view()),
    path("runs/<str:run_id>/pause", runs.PauseView.as_view()),
    path("runs/<str:run_id>/resume", runs.ResumeView.as_view()),
    path("runs/<str:run_id>/retry", runs.RetryView.as_view()),
    path("runs/<str:run_id>/logs", runs.LogsView.as_view()),
    path("runs/<str:run_id>/states", runs.StatesView.as_view()),
    path("runs/<str:run_id>/states/<str:state>/answer", runs.AnswerView.as_view()),
    path("runs/<str:run_id>/artifacts", runs.ArtifactsView.as_view()),
    path(
        "runs/<str:run_id>/artifacts/<str:artifact>", runs.ArtifactView.as_view(), name="artifact"
    ),
    path("runs/<str:run_id>/graph.svg", inspection.PictureView.as_view()),
    path("runs/<str:run_id>/checkpoints", inspection.CheckpointsView.as_view()),
    path("runs/<str:run_id>/checkpoint", documents.CheckpointView.as_view()),
    path("runs/<str:run_id>/mark", documents.MarkView.as_view()),
    path("runs/<str:run_id>/checkpoints/<str:checkpoint_id>", inspection.InsideView.as_view()),
    path("runs/<str:run_id>/bundle", inspection.BundleView.as_view()),
    path("runs/<str:run_id>/compare", inspection.CompareView.as_view()),
    path("runs/<str:run_id>/lineage", inspection.LineageView.as_view()),
    path("runs/<str:run_id>/why", inspection.WhyView.as_view()),
    path("templates", run_templates.TemplatesView.as_view()),
    path("templates/<str:template>", run_templates.TemplateView.as_view()),
    path("templates/<str:template>/launch", run_templates.LaunchView.as_view()),
    path("templates/<str:template>/clone", run_templates.CloneView.as_view()),
    path("health", v0.HealthView.as_view()),
    path("v0/namespaces", v0.NamespacesView.as_view()),
    path("v0/namespace/<str:ns>/", include(urls_v0)),
    path("start", reruns.StartView.as_view()),
    path("rerun/<str:thread_id>", reruns.RerunView.as_view()),
    path("approve/<str:thread_id>", reruns.ApproveView.as_view()),
    path("token", tokens.TokenView.as_view()),
    path("token/refresh", tokens.RefreshView.as_view()),
    path("admin/runs/<str:thread_id>/metadata", reruns.MetadataView.as_view()),
    path("admin/runs/<str:thread_id>/logs", reruns.ThreadLogsView.as_view()),
    path("admin/run-manager/runs", run_manager.ManagerRunsView.as_view()),
    path("admin/run-manager/runs/bulk-delete", run_manager.BulkDeleteView.as_view()),
    path("admin/run-manager/doctor", inspection.DoctorView.as_view()),
    path("admin/run-manager/usernames", run_manager.UsernamesView.as_view()),
    path("admin/run-manager/workspaces", run_manager.WorkspacesView.as_view()),
    path("admin/run-manager/bulk-operations", bulk_operations.OperationsView.as_view()),
    path(
        "admin/run-manager/bulk-operations/<str:operation>", bulk_operations.OperationView.as_view()
    ),
    path(
        "admin/run-manager/bulk-operations/<str:operation>/stop",
        bulk_operations.StopOperationView.as_view(),
    ),
    path(
        "admin/run-manager/bulk-operations/<str:operation>/retry",
        bulk_operations.RetryOperationView.as_view(),
    ),
    path(
        "admin/run-manager/bulk-operations/<str:operation>/results",
        bulk_operations.ResultsView.as_view(),
    ),
    path("admin/run-manager/saved-views", bulk_operations.SavedViewsView.as_view()),
    path("admin/run-manager/saved-views/<str:view>", bulk_operations.SavedViewView.as_view()),
    path("admin/run-manager/", include("runs.manager.urls")),
    path("admin/", include("graphs.editor.urls")),
    path("admin/flow/examples/<slug:name>/", start_example.start_example, name="flow_example"),
    path("admin/graphs/graph/<int:pk>/flow/run/", start_from_graph.run_graph, name="flow_run"),
    path("admin/run-states/", run_states.run_states, name="run_states"),
    path("admin/run-states/start/", run_states.start, name="run_states_start"),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(pattern_name="admin:index")),
]


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    return (
        errors.not_found(request)
        if is_api(request.path)
        else defaults.page_not_found(request, exception)
    )


def handler500(request: HttpRequest) -> HttpResponse:
    return errors.server_error(request) if is_api(request.path) else defaults.server_error(request)
